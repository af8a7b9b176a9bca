"""What the cache answers to an ask, as values that the web renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from crcache.grammar.digest import Digest
from crcache.grammar.ranges import ContentRange
from crcache.interfaces import IAnswer, IBody
from crcache.sending import IRest


class CacheStatus(Enum):
    """How an answer came about. The value is what follows C{crcache; } in `Cache-Status` (RFC 9211)."""

    HIT = "hit"
    MISS = "fwd=miss"
    STORED = "fwd=miss; stored"
    COLLAPSED = "fwd=miss; collapsed"
    STALE = "fwd=stale"
    STALE_IF_ERROR = "hit; detail=stale-if-error"
    BYPASS = "fwd=bypass"

    @property
    def label(self) -> str:
        """The metrics' and the log's short name: hit, miss, collapsed, stale or bypass."""
        return _LABELS[self]


_LABELS = {
    CacheStatus.HIT: "hit",
    CacheStatus.MISS: "miss",
    CacheStatus.STORED: "miss",
    CacheStatus.COLLAPSED: "collapsed",
    CacheStatus.STALE: "stale",
    CacheStatus.STALE_IF_ERROR: "hit",
    CacheStatus.BYPASS: "bypass",
}


@dataclass(frozen=True)
class Pong:
    """This is a registry."""


@dataclass(frozen=True)
class Manifest:
    """A manifest.

    @ivar body: its bytes, verified; C{None} if only HEAD was asked.
    @ivar size: in bytes, always known.
    @ivar age: seconds since the origin vouched for it, on hits, and if a parent has known it for a while; else C{None}.
    """

    digest: Digest
    media_type: str
    size: int
    body: bytes | None
    cache: CacheStatus
    age: float | None = None


@dataclass(frozen=True)
class Blob:
    """A blob that is sent from a file, perhaps a growing one.

    @ivar body: where to send from; C{None} if only HEAD was asked.
    @ivar size: in bytes; C{None} if nobody knows yet.
    @ivar following: whether it is another client's fill that is joined.
    @ivar rest: where to go on if the file fails.
    """

    digest: Digest
    size: int | None
    body: IBody | None
    cache: CacheStatus
    age: float | None = None
    following: bool = False
    rest: IRest | None = None


@dataclass(frozen=True)
class Relayed:
    """An origin's 2xx that goes through without being stored.

    @ivar digest: what the whole body must hash to; C{None} when it has no digest (lists) or is a part only.
    @ivar rest: where to go on if it breaks off.
    @ivar start: which byte of the whole body the first of this one is.
    @ivar part: what of the whole body the client gets, with a 206: it ends where it ends, and may begin later than the
        answer's body does. C{None}: all of the answer's body.
    @ivar proved: called once, with the size, when all of the body has come from the origin and is what C{digest} says,
        to a client that is still there. Must not raise.
    """

    answer: IAnswer
    digest: Digest | None
    cache: CacheStatus = CacheStatus.BYPASS
    rest: IRest | None = None
    start: int = 0
    part: ContentRange | None = None
    proved: Callable[[int], None] | None = None


Outcome = Pong | Manifest | Blob | Relayed
