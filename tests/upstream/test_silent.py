"""Tests for L{crcache.upstream.silent} and L{crcache.upstream.pauses}."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.upstream.pauses import Pauses
from crcache.upstream.silent import REMEMBERED, Silent


class SilentTests(SynchronousTestCase):
    """L{Silent}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.silent = Silent(self.clock)

    def test_for_a_while(self) -> None:
        """It is remembered for some seconds of the last time, and forgotten with the next answer."""
        self.assertFalse(self.silent.lately("https://a"))
        self.silent.note("https://a")
        self.clock.advance(REMEMBERED - 1)
        self.silent.note("https://a")
        self.clock.advance(REMEMBERED - 1)
        self.assertEqual([self.silent.lately(url) for url in ("https://a", "https://b")], [True, False])
        self.clock.advance(1)
        self.assertFalse(self.silent.lately("https://a"))
        self.silent.note("https://a")
        self.silent.forget("https://a")
        self.assertFalse(self.silent.lately("https://a"))

    def test_bounded(self) -> None:
        """However many registries clients make up, no more than some are remembered."""
        for number in range(2000):
            self.silent.note(f"https://r{number}.test")
        self.assertFalse(self.silent.lately("https://r0.test"))
        self.assertTrue(self.silent.lately("https://r1999.test"))


class PausesTests(SynchronousTestCase):
    """L{Pauses}."""

    def test_ends(self) -> None:
        """A pause ends after its time, when it is cancelled, or with everything; no timer is left."""
        clock = Clock()
        pauses = Pauses(clock)
        short, cancelled, cut = pauses.wait(1.0), pauses.wait(2.0), pauses.wait(9.0)
        clock.advance(0.9)
        self.assertNoResult(short)
        clock.advance(0.1)
        self.assertIsNone(self.successResultOf(short))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertNoResult(cut)
        pauses.end()
        self.assertIsNone(self.successResultOf(cut))
        self.assertEqual(clock.getDelayedCalls(), [])
        pauses.end()
