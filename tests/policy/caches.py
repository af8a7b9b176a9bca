"""Caches to be compared: crcache's own way of choosing what goes, the ideal that it is held to, and others.

Each is asked for one content after another, keeps what it can, and says whether it had it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

from crcache.policy.eviction import depths, effective, fits, lacking, order, surplus
from crcache.settings import Bounds
from tests.policy.trace import Trace

HOUR = 3600


class Cache(Protocol):
    """One of them."""

    def ask(self, item: int, now: float) -> bool:
        """Whether it had it. If not, it has it from now on, if it can."""


class Ours:
    """As the daemon does it: last use in whole seconds and noted hourly, inherited or not; between watermarks; by a
    plan that is made now and then, and old when it is carried out."""

    def __init__(self, trace: Trace, room: int, *, every: float = 6 * HOUR, inherited: bool = True) -> None:
        """
        @param room: how many bytes there may be.
        @param every: for so many seconds the same plan is used, if it lasts.
        @param inherited: whether the use of a manifest is the use of all that it names.
        """
        self._trace = trace
        self._room = room
        self._bounds = Bounds(room, 0)
        self._every = every
        self._inherited = inherited
        self._times: dict[int, int] = {}
        self._plan: Iterator[tuple[int, int]] = iter(())
        self._planned = 0.0
        self.held = 0

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        if item in self._times:
            self._touch(item, now)
            return True
        size = self._trace.sizes[item]
        if not fits(self._bounds, self._room, size):
            return False
        if lacking(self._room, self.held, size):
            self._free(surplus(self._bounds, self._room, self.held, size), now)
        self._times[item] = int(now)
        self.held += size
        # Whoever newly needs content touches it, so that no old plan has it go.
        for child in self._trace.names.get(item, ()):
            if child in self._times:
                self._touch(child, now)
        self._free(surplus(self._bounds, self._room, self.held), now)
        return False

    def _touch(self, item: int, now: float) -> None:
        if now - self._times[item] > HOUR:
            self._times[item] = int(now)

    def _free(self, wanted: int, now: float) -> None:
        most = self.held - wanted
        if self.held > most and now - self._planned > self._every:
            self._plan = self._order(now)
        while self.held > most:
            item, time = next(self._plan, (-1, -1))
            if item < 0:
                self._plan = self._order(now)
            elif self._times.get(item) == time:
                del self._times[item]
                self.held -= self._trace.sizes[item]

    def _order(self, now: float) -> Iterator[tuple[int, int]]:
        self._planned = now
        items = list(self._times)
        times = list(self._times.values())
        places = {item: place for place, item in enumerate(items)}
        edges = [
            (place, places[child])
            for place, item in enumerate(items)
            for child in (self._trace.names.get(item, ()) if self._inherited else ())
            if child in places
        ]
        found = effective(times, edges, now=int(now))
        return ((items[place], times[place]) for place in order(found, depths(len(items), edges)))


class Ideal:
    """Least recently used: to the moment, each content by itself, full to the last byte."""

    def __init__(self, trace: Trace, room: int) -> None:
        self._sizes = trace.sizes
        self._room = room
        self._items: OrderedDict[int, None] = OrderedDict()
        self._held = 0

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        if item in self._items:
            self._items.move_to_end(item)
            return True
        size = self._sizes[item]
        if size <= self._room:
            while self._held + size > self._room:
                self._held -= self._sizes[self._items.popitem(last=False)[0]]
            self._items[item] = None
            self._held += size
        return False


class S3Fifo:
    """Two queues: what is new is in a small one, and gets into the large one if it is asked for again while it is
    there, or soon after (U{Yang et al., 2023<https://s3fifo.com>}). Shares of bytes."""

    def __init__(self, trace: Trace, room: int) -> None:
        self._sizes = trace.sizes
        self._room = room
        self._small: OrderedDict[int, None] = OrderedDict()
        self._main: OrderedDict[int, None] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._uses: dict[int, int] = {}
        self._held = self._new = self._remembered = 0

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        if item in self._uses:
            self._uses[item] = min(self._uses[item] + 1, 3)
            return True
        size = self._sizes[item]
        if size > self._room:
            return False
        while self._held + size > self._room:
            if self._small and (self._new > self._room // 10 or not self._main):
                self._leave_small()
            else:
                self._leave_main()
        self._uses[item] = 0
        self._held += size
        if item in self._gone:
            self._forget(item)
            self._main[item] = None
        else:
            self._small[item] = None
            self._new += size
        return False

    def _leave_small(self) -> None:
        item, _ = self._small.popitem(last=False)
        size = self._sizes[item]
        self._new -= size
        if self._uses[item] > 1:
            self._uses[item] = 0
            self._main[item] = None
            return
        self._drop(item)
        self._gone[item] = None
        self._remembered += size
        while self._remembered > self._room * 9 // 10:
            self._forget(next(iter(self._gone)))

    def _leave_main(self) -> None:
        item, _ = self._main.popitem(last=False)
        if self._uses[item]:
            self._uses[item] -= 1
            self._main[item] = None
        else:
            self._drop(item)

    def _drop(self, item: int) -> None:
        del self._uses[item]
        self._held -= self._sizes[item]

    def _forget(self, item: int) -> None:
        del self._gone[item]
        self._remembered -= self._sizes[item]


class Gdsf:
    """Greedy-dual with sizes and frequencies: what has been asked for the most, of what fetching costs for its size,
    stays, and what has not been asked for grows old (U{Cherkasova, 1998<https://www.hpl.hp.com/techreports/98/HPL-98-69R1.html>})."""

    def __init__(self, trace: Trace, room: int, cost: Callable[[int], float]) -> None:
        """
        @param cost: of fetching so many bytes: 1 is for few misses, the size itself for few bytes.
        """
        self._sizes = trace.sizes
        self._room = room
        self._cost = cost
        self._uses: dict[int, int] = {}
        self._worth: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._age = 0.0
        self._held = 0

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        size = self._sizes[item]
        if item in self._uses:
            self._uses[item] += 1
            self._value(item)
            return True
        if size > self._room:
            return False
        while self._held + size > self._room:
            worth, other = heapq.heappop(self._heap)
            if self._worth.get(other) == worth:
                self._age = worth
                self._held -= self._sizes[other]
                del self._worth[other], self._uses[other]
        self._held += size
        self._uses[item] = 1
        self._value(item)
        return False

    def _value(self, item: int) -> None:
        worth = self._age + self._uses[item] * self._cost(self._sizes[item]) / self._sizes[item]
        self._worth[item] = worth
        heapq.heappush(self._heap, (worth, item))
