"""Tests for L{crcache.policy.retry}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.retry import FIRST, LONGEST, PATIENCE, WAITS, Tries, pause


class PauseTests(SynchronousTestCase):
    """L{pause}."""

    def test_doubles(self) -> None:
        """The pause doubles with every failure, from the first to the longest."""
        pauses = [pause(failures, 100, 0.0) for failures in range(1, 10)]
        self.assertEqual(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
        self.assertEqual((pauses[0], pauses[-1]), (FIRST, LONGEST))

    def test_chance(self) -> None:
        """Chance cuts it by up to half, and never to nothing."""
        for failures in (1, 3, 20):
            longest, shortest, middle = (pause(failures, 100, chance) for chance in (0.0, 1.0, 0.5))
            assert longest is not None and shortest is not None and middle is not None
            self.assertAlmostEqual(shortest, longest / 2)
            self.assertTrue(shortest < middle < longest)

    def test_gives_up(self) -> None:
        """As many tries are made as retries are wanted, and not one more; with none, there is none."""
        self.assertIsNotNone(pause(5, 5, 0.3))
        self.assertIsNone(pause(6, 5, 0.3))
        self.assertIsNone(pause(1, 0, 0.3))

    def test_endless(self) -> None:
        """A very patient configuration makes for no overflow."""
        self.assertEqual(pause(10**6, 10**7, 0.0), LONGEST)


class TriesTests(SynchronousTestCase):
    """L{Tries}."""

    def tries(self, retries: int = 2) -> Tries:
        """Those of a body, with a second more after each."""
        return Tries(lambda failures: float(failures) if failures <= retries else None)

    def test_row(self) -> None:
        """Failures are counted until there is progress."""
        tries = self.tries()
        self.assertEqual([tries.failed(None) for _ in range(3)], [1.0, 2.0, None])
        tries.progressed()
        self.assertEqual(tries.failed(None), 1.0)

    def test_wanted(self) -> None:
        """An origin that says when to come back is waited for, within bounds, and that is no failure."""
        tries = self.tries()
        self.assertEqual([tries.failed(each) for each in (30.0, 0.1, 3600.0)], [30.0, 1.0, PATIENCE])
        tries = self.tries()
        self.assertEqual([tries.failed(each) for each in (None, None, 0.0, None)], [1.0, 2.0, 2.0, None])

    def test_not_for_ever(self) -> None:
        """It is not waited for again and again without progress."""
        tries = self.tries()
        found = [tries.failed(30.0) for _ in range(WAITS + 3)]
        self.assertEqual(found, [30.0] * WAITS + [1.0, 2.0, None])
        tries.progressed()
        self.assertEqual(tries.failed(30.0), 30.0)

    def test_none(self) -> None:
        """If there is to be no second try, there is none."""
        self.assertIsNone(self.tries(0).failed(30.0))
