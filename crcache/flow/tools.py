"""What fills, fetches and follows work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from crcache.facts import Query
from crcache.flow.still import StandingStill
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IMeter, IStore, IUpstream
from crcache.workers import Workers

#: A fill's registry and digest, and the repository whose clients' credentials it needs.
Key = tuple[Registry, Digest, Repository | None]


def _stall() -> float:
    return 20.0


def _opening() -> float:
    return 40.0


class Room:
    """How many streams are out of turn, in all fills together: those of the fronts must not wait for them.

    @ivar taken: so many now.
    """

    def __init__(self, most: Callable[[], int] = lambda: 32) -> None:
        """
        @param most: how many there may be.
        """
        self.taken = 0
        self._most = most

    @property
    def left(self) -> bool:
        """Whether there may be another."""
        return self.taken < self._most()


@dataclass(frozen=True)
class Tools:
    """Handed down from the composition root.

    @ivar hashing: the threads that hash.
    @ivar retry: how many seconds to wait after so many failures in a row without progress; C{None} to give up.
    @ivar urls: how many URLs a registry has.
    @ivar room: for streams out of turn.
    @ivar stall: seconds without a byte after which an origin's connection is given up.
    @ivar opening: seconds in which a fill has to come so far that its clients' answers can begin.
    @ivar near: whether anybody near may be asked before an origin.
    @ivar doubt: seconds for which clients wait for the verdict on what has come from somebody near.
    @ivar lied: told of a query to which somebody near has sent other bytes.
    @ivar still: fills of other processes that nobody waits for any more.
    """

    clock: IReactorTime
    store: IStore
    upstream: IUpstream
    hashing: Workers
    meter: IMeter
    retry: Callable[[int], float | None]
    urls: Callable[[Registry], int] = lambda registry: 1
    room: Room = field(default_factory=Room)
    stall: Callable[[], float] = _stall
    opening: Callable[[], float] = _opening
    near: Callable[[], bool] = lambda: False
    doubt: float = 10.0
    lied: Callable[[Query], object] = lambda query: None
    still: StandingStill = field(default_factory=StandingStill)

    @classmethod
    def key(cls, query: Query) -> Key:
        """Which fill a query for a blob belongs to."""
        return query.registry, cls.digest(query), None if query.authorization is None else query.repository

    @staticmethod
    def digest(query: Query) -> Digest:
        """The digest that a query for a blob names."""
        assert isinstance(query.reference, Digest)
        return query.reference
