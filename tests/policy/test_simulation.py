"""What L{crcache.policy.eviction} comes to: many pulls, with no more room than for a part of what is asked for."""

from __future__ import annotations

import os
from functools import cache
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from tests.policy.caches import HOUR, Ideal, Ours
from tests.policy.simulation import CACHES, ROOMS, hit_ratio
from tests.policy.trace import Trace, trace

#: Set for a run by hand: three traces instead of one, and plans of several ages.
LONG = bool(os.environ.get("CRCACHE_LONG"))
SIZE = (5000, 100_000)


@cache
def drawn(seed: int = 1) -> Trace:
    """So many pulls of so many images."""
    return trace(*SIZE, seed=seed)


class TraceTests(SynchronousTestCase):
    """Is it what it is said to be? Or what is found with it means nothing."""

    def test_popularity(self) -> None:
        """Few images are pulled very often, most of them rarely; one pull in ten, or more, needs but a manifest."""
        pulls: dict[int, int] = {}
        for pull in drawn().pulls:
            pulls[pull.wanted[0]] = pulls.get(pull.wanted[0], 0) + 1
        often = sorted(pulls.values(), reverse=True)
        self.assertGreater(len(often), 0.9 * SIZE[0])
        self.assertGreater(sum(often[: len(often) // 10]), 0.3 * sum(often))
        self.assertLess(often[len(often) // 2], 20)
        self.assertGreater(sum(len(pull.wanted) == 1 for pull in drawn().pulls), 0.1 * len(drawn().pulls))

    def test_sharing(self) -> None:
        """Images share layers: together they have at least twice as many bytes as there are."""
        sizes, names = drawn().sizes, drawn().names
        each = sum(sizes[child] for children in names.values() for child in children)
        self.assertGreater(each, 2 * sum(sizes))

    def test_time(self) -> None:
        """What is asked for later comes later, and is mostly not what was asked for in the beginning."""
        pulls = drawn().pulls
        self.assertEqual([pull.time for pull in pulls], sorted(pull.time for pull in pulls))
        tenth = len(pulls) // 10
        first, last = ({pull.wanted[0] for pull in part} for part in (pulls[:tenth], pulls[-tenth:]))
        self.assertLess(len(first & last), len(last) / 2)


class HitRatioTests(SynchronousTestCase):
    """Bytes that need not be fetched."""

    def test_ideal(self) -> None:
        """With last use noted hourly, watermarks, and plans a day old, 97 % and more of what the least recently used
        going first, to the moment and the byte, would save."""
        for seed, room in product((1, 2, 3) if LONG else (1,), ROOMS):
            pulled = drawn(seed)
            most = int(pulled.total * room)
            ideal = hit_ratio(Ideal(pulled, most), pulled)
            for hours in (1, 6, 24) if LONG else (24,):
                ours = Ours(pulled, most, every=hours * HOUR)
                ratio = hit_ratio(ours, pulled)
                self.assertGreater(ratio, 0.97 * ideal, f"{room:.0%}, plans {hours} h old: {ratio:.2%}, {ideal:.2%}")
                self.assertLessEqual(ours.held, most)
                self.assertGreater(ours.held, 0.85 * most, "it makes use of its room")

    def test_compared(self) -> None:
        """Whatever is compared has what it has been given and has had room for, and no more than there was."""
        small = trace(100, 2000, nodes=5)
        most = {name: hit_ratio(begin(small, 2 * small.total), small) for name, begin in CACHES.items()}
        self.assertEqual(len(set(most.values())), 1, most)
        for name, begin in CACHES.items():
            ratio = hit_ratio(begin(small, small.total // 10), small)
            self.assertTrue(0.1 * most[name] < ratio < 0.9 * most[name], f"{name}: {ratio}")
            self.assertEqual(hit_ratio(begin(small, 0), small), 0, name)
