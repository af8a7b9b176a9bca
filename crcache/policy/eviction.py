"""What goes first when there is no more room, and how much of it: the least recently used, with what it is used for.

Recency flows downwards: whoever used a manifest used all that it names, though a node that had the layers already asked
for none of them. So an item's I{effective} time is the latest of its own and of all that lead to it. Items are
numbers from 0; all that is kept of them is in arrays, since there may be a million. None of it calls anybody, but for
C{rest}, if it is given: now and then, so that a thread which shares its interpreter with others can let them go first.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from crcache.settings import Bounds, Share

#: The effective time of what must stay; no other is as late.
PINNED = (1 << 62) - 1

#: Items that are sorted in one go, and steps between two rests: some milliseconds of work.
RUN = 4096


def effective(
    times: Sequence[int],
    edges: Iterable[tuple[int, int]],
    pinned: Iterable[int] = (),
    *,
    now: int = PINNED - 1,
    rest: Callable[[], object] | None = None,
) -> array[int]:
    """When each item was last needed: for itself, or for what names it.

    @param times: when each was last used itself, in whole seconds. What lies in the future was used C{now}: a clock has
        been set back, and nothing must stay because of it.
    @param edges: (what names, what is named), any number of times in any order; of items that there are not, ignored.
        Circles do no harm.
    @param pinned: they, and all that they lead to, are L{PINNED}.
    """
    count = len(times)
    pause = _Rest(rest)
    found = array("q", times)
    for item, own in enumerate(found):
        if own > now:
            found[item] = now
        pause()
    below = _Below(count, edges, pause)
    for item in pinned:
        if 0 <= item < count:
            found[item] = PINNED
    # The latest first: whatever is reached from it gets its time, and is never looked at again.
    done = bytearray(count)
    parents = array("i", (item for item in range(count) if below.first[item] >= 0))
    for parent in _sorted(parents, lambda item: -found[item], pause):
        latest = found[parent]
        waiting = [] if done[parent] else [parent]
        done[parent] = 1
        while waiting:
            for child in below.of(waiting.pop()):
                pause()
                if found[child] < latest:
                    found[child] = latest
                if not done[child] and below.first[child] >= 0:
                    done[child] = 1
                    waiting.append(child)
    return found


def depths(count: int, edges: Iterable[tuple[int, int]], *, rest: Callable[[], object] | None = None) -> array[int]:
    """How far below each item is: 0 for what nothing names, and more than that of all that name it.

    @param count: of items.
    @param edges: as of L{effective}. On a circle, and below it, the numbers mean nothing.
    """
    pause = _Rest(rest)
    below = _Below(count, edges, pause)
    above = array("i", [0]) * count
    for child in below.child:
        above[child] += 1
        pause()
    found = array("i", [0]) * count
    ready = array("i", (item for item in range(count) if not above[item] and below.first[item] >= 0))
    while ready:
        item = ready.pop()
        deeper = found[item] + 1
        for child in below.of(item):
            pause()
            above[child] -= 1
            if found[child] < deeper:
                found[child] = deeper
            if not above[child] and below.first[child] >= 0:
                ready.append(child)
    return found


def order(times: Sequence[int], depths: Sequence[int], *, rest: Callable[[], object] | None = None) -> Iterator[int]:
    """The items in the order in which they go: by effective time, of equal ones what names before what is named.

    What is L{PINNED} is not among them. Most of the work is done as items are taken, so whoever wants a few pays for
    little more.

    @param times: what L{effective} says.
    @param depths: what L{depths} says.
    """
    pause = _Rest(rest)
    items = array("i", (item for item, time in enumerate(times) if time < PINNED))
    return _sorted(items, lambda item: (times[item], depths[item]), pause)


def allowed(bounds: Bounds, total: int, free: int, held: int) -> int:
    """How many bytes there may be in the cache now: as many as C{max_size} says, or as leave C{min_free} free.

    @param total: bytes of the file system.
    @param free: bytes of it that an unprivileged user may still write.
    @param held: bytes that the cache has of it now, and could give up.
    """
    return max(min(_bytes(bounds.max_size, total), held + free - _bytes(bounds.min_free, total)), 0)


def surplus(bounds: Bounds, most: int, held: int, coming: int = 0) -> int:
    """How many bytes have to go: none up to the high watermark, all down to the low one beyond it.

    @param most: what L{allowed} says.
    @param coming: bytes that are about to be written besides.
    """
    after = held + coming
    if after <= int(most * bounds.high):
        return 0
    return min(after - int(most * bounds.low), held)


def lacking(most: int, held: int, coming: int) -> int:
    """How many bytes have to go before so many more may be written; 0 if there is room for them.

    @param most: what L{allowed} says.
    """
    return min(max(held + coming - most, 0), held)


def fits(bounds: Bounds, most: int, size: int, pinned: int = 0) -> bool:
    """Whether something of this size can be kept at all.

    What fills the bound up beyond the high watermark would have to go again as soon as it is there.

    @param most: what L{allowed} says.
    @param pinned: bytes that will not make room for it.
    """
    return size + pinned <= int(most * bounds.high)


class _Below:
    """What each item names: a list for each in three arrays.

    @ivar first: for each item, where in C{child} the first of its own is; -1 if it names nothing.
    """

    def __init__(self, count: int, edges: Iterable[tuple[int, int]], pause: _Rest) -> None:
        self.first = array("i", [-1]) * count
        self.child = array("i")
        self._next = array("i")
        for parent, child in edges:
            if 0 <= parent < count and 0 <= child < count:
                self._next.append(self.first[parent])
                self.first[parent] = len(self.child)
                self.child.append(child)
            pause()

    def of(self, item: int) -> Iterator[int]:
        """What this one names."""
        at = self.first[item]
        while at >= 0:
            yield self.child[at]
            at = self._next[at]


class _Rest:
    """Calls somebody every so many steps."""

    def __init__(self, rest: Callable[[], object] | None) -> None:
        self._rest = rest
        self._steps = 0

    def __call__(self, steps: int = 1) -> None:
        """So many more."""
        self._steps += steps
        if self._steps >= RUN:
            self._steps = 0
            if self._rest is not None:
                self._rest()


def _sorted(items: array[int], key: Callable[[int], int | tuple[int, int]], pause: _Rest) -> Iterator[int]:
    """The items by this key, and by their numbers: in runs that are merged as they are taken.

    Sorting a million at once keeps the interpreter's lock for a second.
    """
    runs = []
    for start in range(0, len(items), RUN):
        runs.append(array("i", sorted(items[start : start + RUN], key=key)))
        pause(RUN)
    for item in heapq.merge(*runs, key=key):
        pause()
        yield item


def _bytes(amount: int | Share, total: int) -> int:
    return amount.of(total) if isinstance(amount, Share) else amount
