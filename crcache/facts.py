"""What the rooms tell each other, as plain values: questions to origins, what repositories hold, what tags mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Literal

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.secret import Secret

Kind = Literal["manifest", "blob", "tags", "referrers"]

#: Of an origin's challenges that are kept: lines, and characters of all lines together.
MOST_CHALLENGES = 8
LONGEST_CHALLENGES = 4096
#: Peers of a crowd that count.
MOST_PEERS = 64


class Crowd:
    """Further peers that want what one has asked for first, so that it need not wait as the last of that one's.

    @ivar peers: they, the first few.
    @ivar watchers: called with each that comes.
    """

    def __init__(self) -> None:
        self.peers: list[str] = []
        self.watchers: set[Callable[[str], object]] = set()

    def join(self, peer: str) -> None:
        """One more wants it. Idempotent."""
        if peer not in self.peers and len(self.peers) < MOST_PEERS:
            self.peers.append(peer)
            for watcher in list(self.watchers):
                watcher(peer)


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
    @ivar checked: whether all of the bytes that come are checked before anybody has to believe them.
    @ivar peer: for whom: the address that a client is counted under; empty for nobody in particular.
    @ivar crowd: for whom besides.
    @ivar via: through whom the client's request has come, an entry of `Via` each; for other caches alone.
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
    crowd: Crowd | None = field(default=None, compare=False, repr=False)
    via: tuple[str, ...] = field(default=(), compare=False)
    checked: bool = field(default=False, compare=False)


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

    def shortened(self) -> Privacy:
        """As much of it as is kept: of the challenges those that are printable, the first few."""
        challenges: list[str] = []
        room = LONGEST_CHALLENGES
        for line in self.challenges:
            if line and line.isascii() and line.isprintable() and len(line) <= room:
                challenges.append(line)
                room -= len(line)
        return Privacy(self.checked, tuple(challenges[:MOST_CHALLENGES]))


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

    @property
    def size(self) -> int | None:
        """Of the content, in bytes, as far as the repository has said it."""
        return None if self.member is None else self.member.size


@dataclass(frozen=True)
class TagEntry:
    """What a tag was found to mean.

    @ivar checked: when its origin last said so, in seconds since the epoch.
    @ivar open: whether it said so to crcache's own way; otherwise to a client's credentials only.
    @ivar pinned: whether the administrator has pinned the tag; the store says so, and is never told.
    """

    digest: Digest
    media_type: str
    size: int
    checked: float
    open: bool = True
    pinned: bool = False


class Verdict(Enum):
    """What is known of a body's bytes."""

    FILLING = "filling"
    VERIFIED = "verified"
    FAILED = "failed"
