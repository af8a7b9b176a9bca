"""L{crcache.policy.scrub}: when content is checked again, and how fast."""

from __future__ import annotations

from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.scrub import DAY, EVERY, LEAST, MOST, WITHIN, Round, pace, rest, resumed

NOW = 1_700_000_000.0
NAME = "sha256/" + "ab" * 32
TIB = 1 << 40


class PaceTests(SynchronousTestCase):
    """How fast."""

    def test_fortnight(self) -> None:
        """Whatever is checked first in one round and last in the next is checked within a fortnight."""
        self.assertLessEqual(EVERY + WITHIN, 14 * DAY)

    def test_small(self) -> None:
        """A small cache, and one of unknown size, takes hours: 40 GiB less than three."""
        for total in (None, 0, 5, 40 << 30):
            self.assertEqual(pace(Round(NOW), NOW, total), LEAST)
        self.assertLess((40 << 30) / LEAST, 3 * 3600)

    def test_large(self) -> None:
        """A large one is done in time at an even pace, wherever it has come to."""
        for size, passed in ((0, 0.0), (10 * TIB, 3 * DAY)):
            current = replace(Round(NOW), size=size)
            speed = pace(current, NOW + passed, 20 * TIB)
            self.assertLess(abs(speed * (WITHIN - passed) - (20 * TIB - size)), TIB / 1000)
            self.assertLess(LEAST, speed)
            self.assertLess(speed, MOST)

    def test_late(self) -> None:
        """One that is late, because nothing ran for weeks, takes another day; one that nobody could do takes longer."""
        self.assertEqual(pace(Round(NOW), NOW + 90 * DAY, TIB), TIB / DAY)
        self.assertEqual(pace(Round(NOW), NOW, 1000 * TIB), MOST)

    @given(
        st.floats(0, 1e12), st.floats(0, 1e12), st.integers(0, 1 << 60), st.one_of(st.none(), st.integers(0, 1 << 60))
    )
    def test_bounds(self, began: float, now: float, size: int, total: int | None) -> None:
        """Whatever the clock says, it is between the least and the most."""
        self.assertTrue(LEAST <= pace(Round(began, size=size), now, total) <= MOST)


class RestTests(SynchronousTestCase):
    """When."""

    def test_under_way(self) -> None:
        """A round that is not over is gone on with, however old."""
        for now in (NOW - 5, NOW, NOW + 100 * DAY):
            self.assertEqual(rest(Round(NOW), now), 0)

    def test_over(self) -> None:
        """The next one begins a week after this one began, at once if that has passed."""
        over = Round(NOW, over=True)
        for passed, expected in ((0.0, EVERY), (2 * DAY, EVERY - 2 * DAY), (EVERY, 0.0), (30 * DAY, 0.0)):
            self.assertEqual(rest(over, NOW + passed), expected)

    def test_clock_set_back(self) -> None:
        """A clock that was set back by a year doesn't put it off by a year."""
        self.assertEqual(rest(Round(NOW, over=True), NOW - 365 * DAY), EVERY)


class ResumedTests(SynchronousTestCase):
    """What was noted."""

    def test_noted(self) -> None:
        """A round is gone on with as it was noted."""
        for noted in (Round(NOW), Round(NOW - 5.5, NAME, 3, 77, 1), Round(NOW - 9 * DAY, NAME, over=True)):
            self.assertEqual(resumed(asdict(noted), NOW), noted)

    def test_nonsense(self) -> None:
        """What makes no sense is a new round."""
        good = asdict(Round(NOW, NAME, 3, 77, 1))
        times: list[object] = ["x", None, True, -1.0, NOW + 1, float("nan"), float("inf"), []]
        names: list[object] = [7, None, "x", "sha256", "sha256/", "sha256/../x", "md5/ab", []]
        changes: list[dict[str, object]] = [{"began": value} for value in times]
        changes += [{"after": value} for value in names]
        changes += [{name: value} for name in ("files", "size", "damaged") for value in (-1, 1.5, "1", True, None)]
        changes += [{"over": 1}, {"over": None}, {"unknown": 1}]
        for change in changes:
            self.assertEqual(resumed({**good, **change}, NOW), Round(NOW), change)
        self.assertEqual(resumed({}, NOW), Round(NOW))
        self.assertEqual(resumed(None, NOW), Round(NOW))
