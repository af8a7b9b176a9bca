"""What the rooms tell each other, as plain values: questions to origins, what repositories hold, what tags mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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


@dataclass(frozen=True)
class Membership:
    """That a repository holds a digest.

    @ivar media_type: of a manifest as its origin gave it; of other content as the descriptor said; or C{None}.
    @ivar size: in bytes, or C{None} if nobody said.
    @ivar open: obtained in crcache's own way, so meant for everyone; otherwise with a client's credentials only.
    @ivar since: when that was first known, in seconds since the epoch; C{None} lets the store note the time.
    @ivar named: only another manifest says so: its word on type and size does not stand against the origin's own.
    """

    digest: Digest
    media_type: str | None = None
    size: int | None = None
    open: bool = True
    since: float | None = None
    named: bool = False


@dataclass(frozen=True)
class TagEntry:
    """What a tag was found to mean. C{checked} is when its origin last said so, in seconds since the epoch."""

    digest: Digest
    media_type: str
    size: int
    checked: float


class Verdict(Enum):
    """What is known of a body's bytes."""

    FILLING = "filling"
    VERIFIED = "verified"
    FAILED = "failed"
