"""What the rooms tell each other, as plain values: questions to origins, what repositories hold, what tags mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Literal

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.secret import Secret

Kind = Literal["manifest", "blob", "tags", "referrers"]


@dataclass(frozen=True)
class Query:
    """One question to an origin.

    @ivar reference: a tag or digest for manifests, a digest for blobs and referrers, C{None} for tags.
    @ivar accept: values for `Accept`, a line each; empty sends `*/*`.
    @ivar span: (first byte, end or C{None} for open-ended): asks with `Range`. Half-open.
    @ivar authorization: C{None}: crcache's own way (the administrator's credentials, or anonymously, tokens
        negotiated). Otherwise this very `Authorization`, a client's, and nothing else.
    @ivar parameters: further query parameters, as (name, value).
    @ivar turn: which of the registry's URLs is asked first, counted on from its first one: whoever was served badly
        asks elsewhere next.
    @ivar resumes: whether it goes on with what was under way: whoever puts it makes pauses, and has clients that got
        some of the answer already.
    @ivar follows: whether redirects to other origins are followed; otherwise one is the answer.
    @ivar peer: for whom: the address that a client is counted under; empty for nobody in particular.
    """

    registry: Registry
    repository: Repository
    kind: Kind
    reference: Tag | Digest | None
    request_id: str
    method: Literal["GET", "HEAD"] = "GET"
    accept: tuple[str, ...] = ()
    span: tuple[int, int | None] | None = None
    authorization: Secret | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    turn: int = 0
    resumes: bool = False
    follows: bool = True
    peer: str = ""


class Fetched(IntEnum):
    """In whose way all of a digest's bytes came from a repository's origin, at best; they are the proof that it is
    the repository's own."""

    NEVER = 0
    PRIVATELY = 1
    OPENLY = 2


@dataclass(frozen=True)
class Membership:
    """That a repository holds a digest.

    @ivar media_type: of a manifest as its origin gave it; of other content as the descriptor said; or C{None}.
    @ivar size: in bytes, or C{None} if nobody said.
    @ivar open: known in crcache's own way, so meant for everyone; otherwise with a client's credentials only.
    @ivar since: when that was first known, in seconds since the epoch; C{None} lets the store note the time.
    @ivar fetched: whether the bytes came through this repository, too; otherwise its origin, or one of its manifests,
        has but named them, which anybody can do. C{Fetched.OPENLY} is always C{open}.
    @ivar named: only another manifest says so: its word on type and size does not stand against the origin's own.
    """

    digest: Digest
    media_type: str | None = None
    size: int | None = None
    open: bool = True
    since: float | None = None
    fetched: Fetched = Fetched.NEVER
    named: bool = False


@dataclass(frozen=True)
class Privacy:
    """That a repository has refused crcache's own way.

    @ivar checked: when it last did, in seconds since the epoch.
    @ivar challenges: its `WWW-Authenticate` lines, which tell clients how to do better.
    """

    checked: float
    challenges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holding:
    """All that is known of a repository and a digest.

    @ivar member: C{None}: that it holds it is not known.
    @ivar given: whether some repository that is not private, as far as is known, gives everyone this content: all of it
        came through it in crcache's own way.
    @ivar privacy: C{None}: as far as is known, the repository is open.
    """

    member: Membership | None = None
    given: bool = False
    privacy: Privacy | None = None


@dataclass(frozen=True)
class TagEntry:
    """What a tag was found to mean.

    @ivar checked: when its origin last said so, in seconds since the epoch.
    @ivar open: whether it said so to crcache's own way; otherwise to a client's credentials only.
    """

    digest: Digest
    media_type: str
    size: int
    checked: float
    open: bool = True


class Verdict(Enum):
    """What is known of a body's bytes."""

    FILLING = "filling"
    VERIFIED = "verified"
    FAILED = "failed"
