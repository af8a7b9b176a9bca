"""What L{crcache.policy.eviction} has go, and in which order."""

from __future__ import annotations

import random
import time
import tracemalloc
from array import array
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.eviction import PINNED, allowed, depths, effective, fits, lacking, order, surplus
from crcache.settings import Bounds, Share

TIB = 1 << 40
EDGES = st.lists(st.tuples(st.integers(-2, 22), st.integers(-2, 22)), max_size=60)
TIMES = st.lists(st.integers(-5, 50), max_size=20)
SIZES = st.integers(0, 1 << 50)
AMOUNTS = st.one_of(SIZES, st.floats(0, 100).map(Share))
BOUNDS = st.builds(
    lambda size, free, marks: Bounds(size, free, max(marks), min(marks)),
    AMOUNTS,
    AMOUNTS,
    st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
)

#: An index of two manifests with a layer of their own each, a configuration each, and one layer that both have.
INDEX, LEFT, RIGHT, LEFT_CONFIG, RIGHT_CONFIG, LEFT_LAYER, RIGHT_LAYER, SHARED = range(8)
IMAGE = [
    (INDEX, LEFT),
    (INDEX, RIGHT),
    (LEFT, LEFT_CONFIG),
    (LEFT, LEFT_LAYER),
    (LEFT, SHARED),
    (RIGHT, RIGHT_CONFIG),
    (RIGHT, RIGHT_LAYER),
    (RIGHT, SHARED),
]


def falling(times: Sequence[int], edges: Sequence[tuple[int, int]], pinned: Sequence[int] = ()) -> list[int]:
    """The order in which all goes."""
    return list(order(effective(times, edges, pinned), depths(len(times), edges)))


def slowly(times: Sequence[int], edges: Sequence[tuple[int, int]], pinned: Sequence[int], now: int) -> list[int]:
    """What L{effective} is to find, by definition: passed on until nothing changes."""
    found = [min(own, now) for own in times]
    for item in pinned:
        if 0 <= item < len(found):
            found[item] = PINNED
    changed = True
    while changed:
        changed = False
        for parent, child in edges:
            if 0 <= parent < len(found) and 0 <= child < len(found) and found[child] < found[parent]:
                found[child] = found[parent]
                changed = True
    return found


class EffectiveTests(SynchronousTestCase):
    """When each item was last needed."""

    def test_alone(self) -> None:
        """What nothing names has its own time."""
        self.assertEqual(effective([5, 3, 9], []), array("q", [5, 3, 9]))
        self.assertEqual(len(effective([], [(0, 1)], [3])), 0)

    def test_inherited(self) -> None:
        """An image's use is its layers' use, also of a node that had them already, and of the parts of its index; what
        another platform alone has is not used by that."""
        times = [0] * 8
        times[LEFT] = 7
        found = effective(times, IMAGE)
        self.assertEqual([item for item in range(8) if found[item] == 7], [LEFT, LEFT_CONFIG, LEFT_LAYER, SHARED])
        times[INDEX] = 9
        self.assertEqual(set(effective(times, IMAGE)), {9})

    def test_latest(self) -> None:
        """The latest use counts: a blob's own, or that of any manifest that names it."""
        self.assertEqual(list(effective([3, 8, 5, 9], [(0, 2), (1, 2), (0, 3)])), [3, 8, 8, 9])

    def test_pinned(self) -> None:
        """What is pinned stays, with all that it leads to, shared or not, and nothing else does."""
        found = effective([1] * 8, IMAGE, [LEFT])
        kept = {LEFT, LEFT_CONFIG, LEFT_LAYER, SHARED}
        self.assertEqual({item for item in range(8) if found[item] == PINNED}, kept)
        self.assertEqual(set(effective([1] * 8, IMAGE, [INDEX])), {PINNED})

    def test_future(self) -> None:
        """Times in the future are now: nothing stays because of a clock that was set back, or of a file that lies."""
        self.assertEqual(list(effective([10, 20, 1 << 62, (1 << 63) - 1], [(1, 0)], now=15)), [15, 15, 15, 15])
        self.assertLess(max(effective([1 << 62, (1 << 63) - 1], [])), PINNED)

    @given(TIMES, EDGES, st.lists(st.integers(-2, 22), max_size=3), st.integers(0, 60))
    def test_definition(self, times: list[int], edges: list[tuple[int, int]], pinned: list[int], now: int) -> None:
        """Whatever names what, in circles even, or names what is not there: the latest of all that lead to it."""
        self.assertEqual(list(effective(times, iter(edges), iter(pinned), now=now)), slowly(times, edges, pinned, now))

    def test_chain(self) -> None:
        """A chain of a hundred thousand, which somebody may have built to keep us busy, or a circle, takes no longer
        than as many that stand alone."""
        count = 100_000
        edges = [(item, item + 1) for item in range(count - 1)]
        began = time.process_time()
        for more in ([], [(count - 1, 0)]):
            found = effective([count, *range(count - 1)], edges + more)
            self.assertEqual(set(found), {count})
            depths(count, edges + more)
        self.assertLess(time.process_time() - began, 10)


class OrderTests(SynchronousTestCase):
    """What goes before what."""

    def test_oldest(self) -> None:
        """The least recently used goes first."""
        self.assertEqual(falling([5, 3, 9, 1], []), [3, 1, 0, 2])

    def test_parents(self) -> None:
        """A manifest goes before what it alone needed: index, manifests, then blobs; a kept manifest's blobs stay
        after it."""
        found = falling([0] * 8, IMAGE)
        self.assertEqual(found[:3], [INDEX, LEFT, RIGHT])
        times = [0] * 8
        times[RIGHT] = 4
        self.assertEqual(falling(times, IMAGE)[:4], [INDEX, LEFT, LEFT_CONFIG, LEFT_LAYER])
        self.assertEqual(falling(times, IMAGE)[4], RIGHT)

    def test_pinned(self) -> None:
        """What is pinned never goes."""
        self.assertEqual(set(falling([0] * 8, IMAGE, [RIGHT])), {INDEX, LEFT, LEFT_CONFIG, LEFT_LAYER})

    @given(TIMES, EDGES, st.lists(st.integers(0, 19), max_size=3))
    def test_always(self, times: list[int], edges: list[tuple[int, int]], pinned: list[int]) -> None:
        """Everything that is not pinned is there once, oldest first; if there are no circles nothing goes before what
        names it."""
        edges = [(parent, child) for parent, child in edges if parent < child]
        found = effective(times, edges, pinned)
        gone = list(order(found, depths(len(times), edges)))
        self.assertEqual(sorted(gone), [item for item in range(len(times)) if found[item] != PINNED])
        self.assertEqual([found[item] for item in gone], sorted(found[item] for item in gone))
        place = {item: at for at, item in enumerate(gone)}
        for parent, child in edges:
            if parent in place and child in place:
                self.assertLess(place[parent], place[child])

    def test_runs(self) -> None:
        """So it is of many more than are sorted at once, all of one time or of many."""
        count = 30_000
        chance = random.Random(5)
        edges = [(chance.randrange(count // 10), chance.randrange(count // 10, count)) for _ in range(count)]
        for latest in (0, 100, 1 << 40):
            times = [chance.randint(0, latest) for _ in range(count)]
            found, levels = effective(times, edges), depths(count, edges)
            self.assertEqual(
                list(order(found, levels)), sorted(range(count), key=lambda item: (found[item], levels[item]))
            )

    def test_rests(self) -> None:
        """Whoever shares its interpreter is let rest every few thousand steps."""
        rests: list[int] = []
        edges = [(item, item + 1) for item in range(0, 50_000, 2)]
        found = effective([3] * 50_000, edges, rest=lambda: rests.append(0))
        levels = depths(50_000, edges, rest=lambda: rests.append(1))
        next(order(found, levels, rest=lambda: rests.append(2)))
        for kind in range(3):
            self.assertGreaterEqual(rests.count(kind), 10)

    def test_many(self) -> None:
        """Two hundred thousand items take a few dozen bytes each."""
        count = 200_000
        chance = random.Random(7)
        times = array("q", (chance.randrange(1 << 31) for _ in range(count)))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        found = effective(times, ((item % 20_000, item) for item in range(20_000, count)))
        levels = depths(count, ((item % 20_000, item) for item in range(20_000, count)))
        for _, _ in zip(range(1000), order(found, levels), strict=False):
            pass
        self.assertLess(tracemalloc.get_traced_memory()[1], 48 * count)


class BoundsTests(SynchronousTestCase):
    """How much there may be, and how much has to go."""

    def test_size(self) -> None:
        """At most so many bytes, or such a part of the file system."""
        for size in (Share(80), 800):
            self.assertEqual(allowed(Bounds(size, 0), 1000, 900, 100), 800)

    def test_free(self) -> None:
        """So much stays free whoever else uses the disk: what others take is taken from the cache."""
        for free in (Share(5), 50):
            bounds = Bounds(Share(100), free)
            self.assertEqual(allowed(bounds, 1000, 300, 400), 650)
            self.assertEqual(allowed(bounds, 1000, 10, 400), 360)
            self.assertEqual(allowed(bounds, 1000, 0, 30), 0)

    def test_stricter(self) -> None:
        """The stricter of the two holds."""
        bounds = Bounds(600, 200)
        self.assertEqual(allowed(bounds, 1000, 900, 100), 600)
        self.assertEqual(allowed(bounds, 1000, 100, 500), 400)

    def test_watermarks(self) -> None:
        """Nothing goes up to the high one; beyond it, so much that the low one is reached; what is coming counts."""
        bounds = Bounds(1000, 0, high=0.9, low=0.7)
        self.assertEqual(surplus(bounds, 1000, 900), 0)
        self.assertEqual(surplus(bounds, 1000, 901), 201)
        self.assertEqual(surplus(bounds, 1000, 800, 100), 0)
        self.assertEqual(surplus(bounds, 1000, 800, 150), 250)

    def test_no_more_than_there_is(self) -> None:
        """What is not there cannot go."""
        self.assertEqual(surplus(Bounds(), 1000, 30, 5000), 30)
        self.assertEqual(lacking(1000, 30, 5000), 30)

    def test_lacking(self) -> None:
        """Room has to be made only for what is beyond the bound."""
        self.assertEqual(lacking(1000, 900, 100), 0)
        self.assertEqual(lacking(1000, 900, 101), 1)
        self.assertEqual(lacking(1000, 1200, 0), 200)

    def test_fits(self) -> None:
        """What is larger than the bound, or than what pinned content leaves of it, is not kept."""
        bounds = Bounds(1000, 0, high=0.9)
        self.assertTrue(fits(bounds, 1000, 900))
        self.assertFalse(fits(bounds, 1000, 901))
        self.assertTrue(fits(bounds, 1000, 400, 500))
        self.assertFalse(fits(bounds, 1000, 401, 500))
        self.assertFalse(fits(bounds, 0, 1))

    @given(BOUNDS, SIZES, SIZES, SIZES, SIZES)
    def test_kept(self, bounds: Bounds, total: int, free: int, held: int, size: int) -> None:
        """What fits need not go again at once, nor does anything when the low watermark has been reached; and what is
        not surplus is within the bound."""
        most = allowed(bounds, total, free, held)
        self.assertGreaterEqual(most, 0)
        if fits(bounds, most, size):
            self.assertEqual(surplus(bounds, most, size), 0)
        gone = surplus(bounds, most, held)
        self.assertTrue(0 <= gone <= held)
        self.assertEqual(surplus(bounds, most, held - gone), 0)
        self.assertLessEqual(held - gone, most)
        self.assertLessEqual(held - lacking(most, held, 0), most)
