"""Whose turn it is where many wait for few places."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from crcache.errors import CrcacheError, OriginBusy
from crcache.facts import Crowd

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
        self._queued: dict[Deferred[Place], tuple[str, str]] = {}
        self._counts: dict[str, int] = {}
        self._letting_in = False
        self._closed: Callable[[], CrcacheError] | None = None

    @property
    def unused(self) -> bool:
        """Whether nobody has a place or waits for one."""
        return not (self._held or self._queued)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queued)

    def take(self, peer: str, registry: str, crowd: Crowd | None = None) -> Deferred[Place]:
        """A place, as soon as there is one. Cancelling it leaves the queue.

        @param crowd: who wants the same; it is for whoever of them has and wants least, also of those that come later.

        Fails with L{OriginBusy} if there are too many who wait, now or later.
        """
        if self._closed is not None:
            return fail(self._closed())
        if peer and crowd is not None:
            peer = min((peer, *crowd.peers), key=self._load)
        if self._free and self._may(peer):
            return succeed(self._place(peer))
        if self.waiting >= self._most and not self._make_room(peer):
            return fail(self._busy())
        waiter: Deferred[Place] = Deferred(self._forget)
        self._enqueue(peer, registry, waiter)
        return waiter if crowd is None else self._watched(waiter, crowd)

    def _watched(self, waiter: Deferred[Place], crowd: Crowd) -> Deferred[Place]:
        def joined(peer: str) -> None:
            self._move(waiter, peer)

        def over(result: Any) -> Any:
            crowd.watchers.discard(joined)
            return result

        crowd.watchers.add(joined)
        return waiter.addBoth(over)

    def _move(self, waiter: Deferred[Place], peer: str) -> None:
        """It is wanted by that one as well: it waits there, if that has less."""
        if waiter not in self._queued:
            # The one before it in the crowd was called for, and took this one with it.
            return
        before, registry = self._queued[waiter]
        if before and peer and self._load(peer) + 1 < self._load(before):
            self._forget(waiter)
            self._enqueue(peer, registry, waiter)
            self._next()

    def _load(self, peer: str) -> int:
        return self._held.get(peer, 0) + self._counts.get(peer, 0)

    def close(self, error: Callable[[], CrcacheError]) -> None:
        """Nobody gets a place any more: who waits for one, or comes, fails with that."""
        self._closed = error
        while self._peers:
            registries = next(iter(self._peers.values()))
            waiter = next(iter(registries.values()))[0]
            self._forget(waiter)
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
        self._next()

    def _next(self) -> None:
        # Whoever is let in may release its place at once, as all do who wait for a registry that has just said that it
        # wants to be left alone: the loop goes on with the next one, for as many calls within calls there is no room.
        if self._letting_in:
            return
        self._letting_in = True
        try:
            self._let_in()
        finally:
            self._letting_in = False

    def _let_in(self) -> None:
        while self._free and (found := next(filter(self._may, self._peers), None)) is not None:
            registries = self._peers[found]
            registry = next(iter(registries))
            waiter = registries[registry][0]
            self._forget(waiter)
            if found in self._peers:
                self._peers.move_to_end(found)
                if registry in registries:
                    registries.move_to_end(registry)
            waiter.callback(self._place(found))

    def _enqueue(self, peer: str, registry: str, waiter: Deferred[Place]) -> None:
        self._queued[waiter] = peer, registry
        self._peers.setdefault(peer, OrderedDict()).setdefault(registry, deque()).append(waiter)
        self._counts[peer] = self._counts.get(peer, 0) + 1

    def _forget(self, waiter: Deferred[Place]) -> None:
        peer, registry = self._queued.pop(waiter)
        registries = self._peers[peer]
        queue = registries[registry]
        queue.remove(waiter)
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
        self._forget(waiter)
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
