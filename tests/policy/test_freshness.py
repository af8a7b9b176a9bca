"""Tests for L{crcache.policy.freshness}."""

from __future__ import annotations

import math
import re

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.reference import Tag
from crcache.policy.freshness import Freshness, Lately, judge, may_cache
from crcache.settings import Times

TIMES = Times(tag_ttl=60, stale_if_error=600)


class JudgeTests(SynchronousTestCase):
    """L{judge}."""

    def test_ages(self) -> None:
        """A tag is fresh for its time to live, stale for its grace after that, then expired."""
        for age, expected in (
            (0, Freshness.FRESH),
            (59.9, Freshness.FRESH),
            (60, Freshness.STALE),
            (659.9, Freshness.STALE),
            (660, Freshness.EXPIRED),
            (1e9, Freshness.EXPIRED),
        ):
            self.assertIs(judge(1000.0, 1000.0 + age, TIMES), expected, age)

    def test_pinned(self) -> None:
        """A pinned tag is fresh as long as any other, and stale for ever after that, whatever the grace."""
        for age, expected in (
            (59.9, Freshness.FRESH),
            (60, Freshness.STALE),
            (660, Freshness.STALE),
            (1e10, Freshness.STALE),
        ):
            for times in (TIMES, Times(tag_ttl=60, stale_if_error=0)):
                self.assertIs(judge(1000.0, 1000.0 + age, times, pinned=True), expected, age)

    def test_clock_set_back(self) -> None:
        """A tag that was confirmed in the future is asked of its origin again, and served if that fails."""
        self.assertIs(judge(1000.0, 999.9, TIMES), Freshness.STALE)
        self.assertIs(judge(1e12, 0.0, TIMES), Freshness.STALE)

    def test_no_times(self) -> None:
        """Without a time to live no tag is fresh; without a grace none is stale."""
        self.assertIs(judge(5.0, 5.0, Times(tag_ttl=0)), Freshness.STALE)
        self.assertIs(judge(5.0, 5.0, Times(tag_ttl=0, stale_if_error=0)), Freshness.EXPIRED)
        self.assertIs(judge(5.0, 65.0, Times(tag_ttl=60, stale_if_error=0)), Freshness.EXPIRED)

    def test_nonsense(self) -> None:
        """A time that is no number, from a damaged entry, is worth nothing."""
        self.assertIs(judge(math.nan, 5.0, TIMES), Freshness.EXPIRED)


class MayCacheTests(SynchronousTestCase):
    """L{may_cache}."""

    def test_ignored(self) -> None:
        """A tag in which the expression finds a match, anywhere, is not kept."""
        ignore = re.compile("latest")
        self.assertFalse(may_cache(Tag("latest"), ignore, True))
        self.assertFalse(may_cache(Tag("v1-latest-slim"), ignore, True))
        self.assertTrue(may_cache(Tag("v1"), ignore, True))
        self.assertTrue(may_cache(Tag("v1-latest"), re.compile("^latest$"), True))

    def test_no_manifests(self) -> None:
        """If no manifests are cached, no tag is."""
        self.assertFalse(may_cache(Tag("v1"), re.compile("latest"), False))


class AbsentTests(SynchronousTestCase):
    """L{Lately}."""

    def test_time(self) -> None:
        """A key is held for its time, from the moment that it was last added."""
        absent: Lately[str] = Lately()
        self.assertFalse(absent.holds("a", 0))
        absent.add("a", 100, 10)
        self.assertTrue(absent.holds("a", 100))
        self.assertTrue(absent.holds("a", 109.9))
        self.assertFalse(absent.holds("b", 105))
        absent.add("a", 105, 10)
        self.assertTrue(absent.holds("a", 114))
        self.assertFalse(absent.holds("a", 115))
        self.assertEqual(len(absent), 0)

    def test_clock_set_back(self) -> None:
        """A key that was added in the future is not held."""
        absent: Lately[str] = Lately()
        absent.add("a", 100, 10)
        self.assertFalse(absent.holds("a", 99))

    def test_forget(self) -> None:
        """A key that is forgotten, or added for no time at all, is not held; forgetting can be repeated."""
        absent: Lately[str] = Lately()
        absent.add("a", 0, 10)
        absent.forget("a")
        absent.forget("a")
        self.assertFalse(absent.holds("a", 1))
        absent.add("a", 0, 10)
        absent.add("a", 0, 0)
        self.assertFalse(absent.holds("a", 0))

    def test_bounded(self) -> None:
        """No more than so many keys are held; the one added longest ago gives way."""
        absent: Lately[int] = Lately(3)
        for key in (1, 2, 3):
            absent.add(key, 0, 10)
        absent.add(1, 0, 10)
        absent.add(4, 0, 10)
        self.assertEqual([key for key in range(6) if absent.holds(key, 1)], [1, 3, 4])
        for key in range(1000):
            absent.add(key, 0, 10)
        self.assertEqual(len(absent), 3)
