"""The upstream's small parts, without sockets."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from crcache.errors import OriginLied, OriginTimeout, OriginUnreachable
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.upstream.deadline import within
from crcache.upstream.failures import explain, was_cancelled
from crcache.upstream.limits import SMALL, Limits
from crcache.upstream.shared import Recent, Shared
from crcache.upstream.urls import Origin, bare, origin_of, question, redirected

A, B = Origin("https", "a.example.com", 443), Origin("https", "b.example.com", 443)


class Urls(SynchronousTestCase):
    """URLs of origins."""

    def test_origin(self) -> None:
        """An origin is scheme, host and port, whether the port is said or not."""
        self.assertEqual(origin_of("https://A.example.com/x?y"), A)
        self.assertEqual(origin_of("https://a.example.com:443"), A)
        self.assertEqual(origin_of("http://[::1]:5000/"), Origin("http", "::1", 5000))
        self.assertEqual(str(origin_of("http://[::1]:5000/")), "[::1]:5000")

    def test_no_origin(self) -> None:
        """What has none is refused."""
        for url in (
            "a.example.com",
            "ftp://a/",
            "https://",
            "https://a:b/",
            "https://u@a/",
            "https://a/ b",
            "https://ä/",
        ):
            self.assertRaises(ValueError, origin_of, url)

    def test_question(self) -> None:
        """Each kind has its path; parameters are quoted."""
        digest = Digest.parse("sha256:" + "a" * 64)
        base: dict[str, Any] = {
            "registry": Registry.parse("a.example.com"),
            "repository": Repository.parse("team/app"),
            "request_id": "rid",
        }
        for kind, reference, path in [
            ("manifest", Tag.parse("1.0"), "manifests/1.0"),
            ("manifest", digest, f"manifests/{digest}"),
            ("blob", digest, f"blobs/{digest}"),
            ("referrers", digest, f"referrers/{digest}"),
            ("tags", None, "tags/list"),
        ]:
            query = Query(kind=kind, reference=reference, **base)  # type: ignore[arg-type]
            self.assertEqual(question("https://a/p", query), f"https://a/p/v2/team/app/{path}")
        query = Query(kind="tags", reference=None, parameters=(("last", "a&b c"),), **base)
        self.assertEqual(question("https://a", query), "https://a/v2/team/app/tags/list?last=a%26b+c")

    def test_redirected(self) -> None:
        """A location is taken relative to what was asked, and loses its fragment."""
        for location, expected in [
            ("https://b/c?d#e", "https://b/c?d"),
            ("//b/c", "https://b/c"),
            ("/c", "https://a/c"),
            (" c ", "https://a/x/c"),
            ("?d", "https://a/x/y?d"),
        ]:
            self.assertEqual(redirected("https://a/x/y?z", location, False), expected)
        self.assertRaises(OriginLied, redirected, "https://a/", "http://a/", False)
        self.assertEqual(redirected("https://a/", "http://a/", True), "http://a/")

    def test_bare(self) -> None:
        """Logs have no queries."""
        self.assertEqual(bare("https://a/b?secret"), "https://a/b")


class Explanations(SynchronousTestCase):
    """What went wrong, in words."""

    def test_sentences(self) -> None:
        """Each failure has its sentence, however it is wrapped, and names the origin."""
        tls = SSL.Error([("SSL routines", "", "certificate verify failed")])
        for error, words in [
            (DNSLookupError("x"), "resolved"),
            (ConnectionRefusedError(), "connected"),
            (tls, "certificate verify failed"),
            (ConnectionLost(), "closed"),
            (OSError(24, "too many open files"), "error 24"),
            (KeyError("gzip"), "not HTTP"),
        ]:
            for wrapped in (error, ResponseNeverReceived([Failure(error)])):
                problem = explain(wrapped, "a:443")
                self.assertIsInstance(problem, OriginUnreachable)
                self.assertIn(words, problem.message)
                self.assertIn("a:443", problem.message)

    def test_ours(self) -> None:
        """Our own errors stay as they are."""
        error = OriginTimeout("late")
        self.assertIs(explain(error, "a"), error)

    def test_cancelled(self) -> None:
        """A cancellation is found however it is wrapped."""
        inner = RequestTransmissionFailed([Failure(CancelledError())])
        self.assertTrue(was_cancelled(ResponseNeverReceived([Failure(inner)])))
        self.assertFalse(was_cancelled(ConnectionLost()))


class Slots(SynchronousTestCase):
    """Limits of an origin."""

    def test_kinds_and_origins(self) -> None:
        """Bodies, small requests and origins have slots of their own."""
        limits = Limits(1)
        self.successResultOf(limits.acquire(A, body=True))
        self.assertNoResult(limits.acquire(A, body=True))
        self.successResultOf(limits.acquire(B, body=True))
        for _ in range(SMALL):
            self.successResultOf(limits.acquire(A, body=False))
        self.assertNoResult(limits.acquire(A, body=False))

    def test_order(self) -> None:
        """First come, first served, and one release lets one go, however often it is called."""
        limits = Limits(1)
        first = self.successResultOf(limits.acquire(A, body=True))
        second, third = limits.acquire(A, body=True), limits.acquire(A, body=True)
        first.release()
        first.release()
        self.successResultOf(second)
        self.assertNoResult(third)

    def test_forgotten(self) -> None:
        """An origin that nobody uses is forgotten, also after someone left the queue."""
        limits = Limits(1)
        first = self.successResultOf(limits.acquire(A, body=True))
        waiting = limits.acquire(A, body=True)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        first.release()
        self.assertEqual(limits._turns, {})


class SharedWork(SynchronousTestCase):
    """One piece of work for many."""

    def test_all_hear(self) -> None:
        """Everyone gets the result, also who comes later."""
        work: Deferred[int] = Deferred()
        shared = Shared(work)
        waiting = [shared.join(), shared.join()]
        work.callback(7)
        for waiter in (*waiting, shared.join()):
            self.assertEqual(self.successResultOf(waiter), 7)

    def test_failure(self) -> None:
        """Everyone gets the failure."""
        work: Deferred[int] = Deferred()
        shared = Shared(work)
        waiting = [shared.join(), shared.join()]
        work.errback(ZeroDivisionError())
        for waiter in (*waiting, shared.join()):
            self.failureResultOf(waiter, ZeroDivisionError)

    def test_leaving(self) -> None:
        """Who leaves leaves the work alone, unless nobody is left."""
        cancelled: list[object] = []
        work: Deferred[int] = Deferred(cancelled.append)
        shared = Shared(work)
        first, second = shared.join(), shared.join()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(cancelled, [])
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(len(cancelled), 1)

    def test_recent(self) -> None:
        """The longest unused entry is forgotten first."""
        recent: Recent[str, int] = Recent(2)
        recent.put("a", 1)
        recent.put("b", 2)
        self.assertEqual(recent.get("a"), 1)
        recent.put("c", 3)
        self.assertEqual((recent.get("a"), recent.get("b"), recent.get("c")), (1, None, 3))
        recent.drop("a")
        recent.drop("a")
        self.assertEqual(len(recent), 1)


class Deadlines(SynchronousTestCase):
    """Work in time."""

    def test_late(self) -> None:
        """Late work is cancelled and fails with the given error, whatever it makes of being cancelled."""
        clock = Clock()
        work: Deferred[int] = Deferred(lambda deferred: deferred.errback(ZeroDivisionError()))
        result = within(work, 3.0, clock, lambda: OriginTimeout("late"))
        clock.advance(3.1)
        self.failureResultOf(result, OriginTimeout)

    def test_in_time(self) -> None:
        """Work in time is left alone, and no timer stays."""
        clock = Clock()
        work: Deferred[int] = Deferred()
        result = within(work, 3.0, clock, lambda: OriginTimeout("late"))
        work.callback(7)
        self.assertEqual((self.successResultOf(result), clock.getDelayedCalls()), (7, []))
