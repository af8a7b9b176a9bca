"""Caches to be compared: crcache's own way of choosing what goes, and the ideal that it is held to.

Each is asked for one content after another, keeps what it can, and says whether it had it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
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


class Planned(Ours):
    """As crcache, with one bit more for each content: whether it was asked for again an hour or more after it came.

    What was not goes first while it is more than a tenth of all, and otherwise in its turn.
    """

    def __init__(self, trace: Trace, room: int, *, every: float = 6 * HOUR) -> None:
        super().__init__(trace, room, every=every)
        self._again: set[int] = set()

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        if item not in self._times:
            self._again.discard(item)
        elif now - self._times[item] > HOUR:
            self._again.add(item)
        return super().ask(item, now)

    def _order(self, now: float) -> Iterator[tuple[int, int]]:
        sizes = self._trace.sizes
        steps = list(super()._order(now))
        # What a manifest that is used again names is as good as used again.
        again = set(self._again)
        for item, _ in steps:
            if item in again:
                again.update(self._trace.names.get(item, ()))
        waiting = {
            kind: deque(place for place, (item, _) in enumerate(steps) if (item in again) is kind)
            for kind in (True, False)
        }
        held, new = self.held, sum(sizes[steps[place][0]] for place in waiting[False])
        while waiting[True] or waiting[False]:
            first = bool(waiting[False]) and (
                not waiting[True] or new > held // 10 or waiting[False][0] < waiting[True][0]
            )
            step = steps[waiting[not first].popleft()]
            held -= sizes[step[0]]
            new -= sizes[step[0]] * first
            yield step
