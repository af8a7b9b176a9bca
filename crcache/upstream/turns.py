"""Whose turn it is where many wait for few places."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed

from crcache.errors import CrcacheError, OriginBusy

#: One in so many places is kept for peers that have fewer than all others may take.
_KEPT = 8
#: Seconds until somebody who is not let in to wait may come again.
AGAIN = 5.0


class Place:
    """The right to go ahead."""

    def __init__(self, turns: Turns, peer: str) -> None:
        self._turns = turns
        self._peer = peer
        self._held = True

    def release(self) -> None:
        """Let the next one go. Idempotent."""
        if self._held:
            self._held = False
            self._turns._left(self._peer)


class Turns:
    """So many places, and a bounded queue for them.

    Turns go round the peers that wait, and of one peer round the registries that it asks: neither a peer with a crowd,
    nor one of its registries, has others wait for more than a turn. Within these, first come, first served. The last
    eighth of the places is not for a peer that has all the others already: who comes later need not wait for one who
    keeps his places for long. Nobody in particular (an empty peer) may have them all.

    When no more can wait, the one goes who came last of the peer with the most.
    """

    def __init__(self, places: int, most: int, where: str) -> None:
        """
        @param most: so many may wait.
        @param where: for what they wait, as errors call it.
        """
        self._free = places
        self._share = places - places // _KEPT
        self._most = most
        self._where = where
        self._held: dict[str, int] = {}
        self._peers: OrderedDict[str, OrderedDict[str, deque[Deferred[Place]]]] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._waiting = 0
        self._closed: Callable[[], CrcacheError] | None = None

    @property
    def unused(self) -> bool:
        """Whether nobody has a place or waits for one."""
        return not (self._held or self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def take(self, peer: str, registry: str) -> Deferred[Place]:
        """A place, as soon as there is one. Cancelling it leaves the queue.

        Fails with L{OriginBusy} if there are too many who wait, now or later.
        """
        if self._closed is not None:
            return fail(self._closed())
        if self._free and self._may(peer):
            return succeed(self._place(peer))
        if self._waiting >= self._most and not self._make_room(peer):
            return fail(self._busy())
        waiter: Deferred[Place] = Deferred(lambda leaving: self._forget(peer, registry, leaving))
        self._peers.setdefault(peer, OrderedDict()).setdefault(registry, deque()).append(waiter)
        self._counts[peer] = self._counts.get(peer, 0) + 1
        self._waiting += 1
        return waiter

    def close(self, error: Callable[[], CrcacheError]) -> None:
        """Nobody gets a place any more: who waits for one, or comes, fails with that."""
        self._closed = error
        while self._peers:
            peer, registries = next(iter(self._peers.items()))
            registry, queue = next(iter(registries.items()))
            waiter = queue[0]
            self._forget(peer, registry, waiter)
            waiter.errback(error())

    def _may(self, peer: str) -> bool:
        return not peer or self._held.get(peer, 0) < self._share

    def _place(self, peer: str) -> Place:
        self._free -= 1
        self._held[peer] = self._held.get(peer, 0) + 1
        return Place(self, peer)

    def _left(self, peer: str) -> None:
        self._free += 1
        _less(self._held, peer)
        # Whoever is let in may release its place at once, which is a turn of its own.
        while self._free and (found := next(filter(self._may, self._peers), None)) is not None:
            registries = self._peers[found]
            registry = next(iter(registries))
            waiter = registries[registry][0]
            self._forget(found, registry, waiter)
            if found in self._peers:
                self._peers.move_to_end(found)
                if registry in registries:
                    registries.move_to_end(registry)
            waiter.callback(self._place(found))

    def _forget(self, peer: str, registry: str, waiter: Deferred[Place]) -> None:
        registries = self._peers[peer]
        queue = registries[registry]
        queue.remove(waiter)
        self._waiting -= 1
        _less(self._counts, peer)
        if not queue:
            del registries[registry]
        if not registries:
            del self._peers[peer]

    def _make_room(self, peer: str) -> bool:
        """Whether somebody else's has gone."""
        greedy = max(self._counts, key=self._counts.__getitem__)
        if self._counts[greedy] <= self._counts.get(peer, 0) + 1:
            return False
        registries = self._peers[greedy]
        registry = max(registries, key=lambda each: len(registries[each]))
        waiter = registries[registry][-1]
        self._forget(greedy, registry, waiter)
        waiter.errback(self._busy())
        return True

    def _busy(self) -> OriginBusy:
        return OriginBusy(
            f"too many wait for {self._where} already; ask the registry itself, or later",
            seconds=AGAIN,
            headers=[("Retry-After", str(math.ceil(AGAIN)))],
        )


def _less(counts: dict[str, int], key: str) -> None:
    """One fewer; the last one takes the entry with it, since keys come from clients."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
