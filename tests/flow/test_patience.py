"""L{crcache.flow.patience}."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crcache.flow.patience import to_the_end


class ToTheEndTests(SynchronousTestCase):
    """Work in a thread, and somebody who waits for it."""

    def setUp(self) -> None:
        """It has begun."""
        self.work: Deferred[int] = Deferred()
        self.waiting = Deferred.fromCoroutine(to_the_end(self.work))

    def test_result(self) -> None:
        """The work's result is that of waiting."""
        self.assertNoResult(self.waiting)
        self.work.callback(7)
        self.assertEqual(self.successResultOf(self.waiting), 7)

    def test_failure(self) -> None:
        """So is its failure."""
        self.work.errback(ValueError("no"))
        self.failureResultOf(self.waiting, ValueError)

    def test_over_already(self) -> None:
        """Work that is over needs no waiting."""
        done: Deferred[int] = Deferred()
        done.callback(8)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(to_the_end(done))), 8)

    def test_cancelled(self) -> None:
        """A cancellation, and another, wait for the end of the work, which they do not reach."""
        self.waiting.cancel()
        self.assertNoResult(self.waiting)
        self.waiting.cancel()
        self.assertNoResult(self.waiting)
        self.work.callback(7)
        self.failureResultOf(self.waiting, CancelledError)

    def test_cancelled_and_failed(self) -> None:
        """Then a failure of the work is dropped, and not logged as unhandled."""
        self.waiting.cancel()
        self.work.errback(ValueError("no"))
        self.failureResultOf(self.waiting, CancelledError)
