"""Tests for L{crcache.policy.tour}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.tour import LONGEST, PASSING, PAUSES, Tour


class TourTests(SynchronousTestCase):
    """L{Tour}."""

    def all(self, tour: Tour, *, wait: float | None = 0.0, remaining: float = 10.0) -> list[str]:
        """The URLs that are asked if each of them fails: for the moment, wanting to be left alone for C{wait}."""
        asked: list[str] = []
        while (stop := tour.next(remaining, lambda: 0.0)) is not None:
            asked.append(stop.url)
            if wait is not None:
                tour.failed(stop.url, wait)
        return asked

    def test_turns(self) -> None:
        """Every turn begins with another URL; after the last one it is the first again."""
        for turn, expected in enumerate(["abc", "bca", "cab", "abc", "bca"]):
            self.assertEqual("".join(self.all(Tour("abc", turn), wait=None)), expected)

    def test_none(self) -> None:
        """Without URLs there is nothing to ask."""
        self.assertEqual(self.all(Tour([], 3)), [])

    def test_again(self) -> None:
        """What failed for the moment is asked again twice, behind all that have not been asked."""
        self.assertEqual(self.all(Tour("a", 0)), ["a", "a", "a"])
        self.assertEqual(self.all(Tour("ab", 0)), ["a", "b", "a", "b"])
        self.assertEqual(self.all(Tour("abc", 0)), ["a", "b", "c", "a", "b"])

    def test_not_again(self) -> None:
        """What failed in another way is asked once."""
        self.assertEqual(self.all(Tour("ab", 0), wait=None), ["a", "b"])

    def test_shunned(self) -> None:
        """What gave no answer lately is asked behind the others, but it is."""
        self.assertEqual(self.all(Tour("abc", 0, ["a"]), wait=None), ["b", "c", "a"])
        self.assertEqual(self.all(Tour("abc", 1, ["b", "c"]), wait=None), ["a", "b", "c"])

    def test_closed(self) -> None:
        """What must not be asked is not, and the turns of the others stay what they are."""
        self.assertEqual(self.all(Tour("abc", 1, closed=["a"])), ["b", "c", "b", "c"])
        self.assertEqual(self.all(Tour("abc", 1, closed=["b"]), wait=None), ["c", "a"])
        self.assertEqual(self.all(Tour("a", 0, closed=["a"])), [])

    def test_pauses(self) -> None:
        """There is a short pause before a second time, cut by up to half by chance, and none before a first."""
        for chance, cut in ((0.0, 1.0), (1.0, 0.5)):
            tour, pauses = Tour("ab", 0), []
            while (stop := tour.next(10.0, lambda: chance)) is not None:  # noqa: B023
                pauses.append(stop.pause)
                tour.failed(stop.url)
            self.assertEqual(pauses, [0.0, 0.0, PAUSES[0] * cut, PAUSES[1] * cut])
        self.assertLess(sum(PAUSES), 1.0)

    def test_wanted_pause(self) -> None:
        """One that wants to be left alone for a moment is; for longer, it is not asked again, since a client waits."""
        tour = Tour("a", 0)
        tour.next(10.0, lambda: 0.0)
        self.assertTrue(tour.failed("a", LONGEST))
        stop = tour.next(10.0, lambda: 0.0)
        assert stop is not None
        self.assertEqual((stop.pause, stop.share), (LONGEST, 10.0 - LONGEST))
        self.assertFalse(tour.failed("a", LONGEST + 0.1))
        self.assertIsNone(tour.next(10.0, lambda: 0.0))
        self.assertEqual(self.all(Tour("a", 0), wait=LONGEST, remaining=LONGEST), ["a"])

    def test_another_has_time(self) -> None:
        """If one wants to be left alone for too long another may be asked again all the same."""
        tour = Tour("ab", 0)
        for url, wait in (("a", 60.0), ("b", 0.0)):
            tour.next(10.0, lambda: 0.0)
            tour.failed(url, wait)
        self.assertEqual(self.all(tour), ["b", "b"])

    def test_shares(self) -> None:
        """Each has its share of the time: as much as those that follow, of which a second time is one."""
        tour = Tour("abc", 0)
        shares = []
        for remaining in (9.0, 6.0, 3.0):
            stop = tour.next(remaining, lambda: 0.0)
            assert stop is not None
            shares.append(stop.share)
        self.assertEqual(shares, [3.0, 3.0, 3.0])
        tour = Tour("ab", 0)
        tour.next(10.0, lambda: 0.0)
        tour.failed("a")
        stop = tour.next(10.0, lambda: 0.0)
        assert stop is not None
        self.assertEqual(stop.share, 5.0)

    def test_no_time(self) -> None:
        """When the time is over nothing is asked again; what has never been asked has no time, not less than none."""
        tour = Tour("ab", 0)
        tour.next(1.0, lambda: 0.0)
        tour.failed("a")
        stop = tour.next(-1.0, lambda: 0.0)
        assert stop is not None
        self.assertEqual((stop.url, stop.share), ("b", 0.0))
        self.assertIsNone(tour.next(-1.0, lambda: 0.0))

    def test_passing(self) -> None:
        """A plain no, a limit of our rate and what an origin cannot do at all are not asked again."""
        self.assertEqual(PASSING & {200, 206, 304, 400, 401, 403, 404, 408, 416, 429, 501, 505}, set())
        self.assertLessEqual({500, 502, 503, 504}, PASSING)
