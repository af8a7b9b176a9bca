"""Other ways of choosing what goes, each as its authors have it, for contents of many sizes."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable

from tests.policy.caches import HOUR
from tests.policy.trace import Trace


class Probation:
    """Least recently used, but what was not asked for again an hour or more after it came goes first while it is more
    than a tenth of all. By the exact order, and to the last byte."""

    def __init__(self, trace: Trace, room: int) -> None:
        self._sizes = trace.sizes
        self._room = room
        self._new: OrderedDict[int, None] = OrderedDict()
        self._again: OrderedDict[int, None] = OrderedDict()
        self._times: dict[int, float] = {}
        self._held = self._held_new = 0

    def ask(self, item: int, now: float) -> bool:
        """As L{Cache.ask}."""
        size = self._sizes[item]
        if item in self._times:
            if now - self._times[item] > HOUR:
                self._times[item] = now
                self._held_new -= size if self._new.pop(item, 0) is None else 0
                self._again[item] = None
                self._again.move_to_end(item)
            return True
        if size > self._room:
            return False
        while self._held + size > self._room:
            first = bool(self._new) and (self._held_new > self._room // 10 or not self._again)
            gone, _ = (self._new if first else self._again).popitem(last=False)
            del self._times[gone]
            self._held -= self._sizes[gone]
            self._held_new -= self._sizes[gone] * first
        self._times[item] = now
        self._new[item] = None
        self._held += size
        self._held_new += size
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
