"""L{crcache.flow.collect}, L{crcache.flow.answers}, L{crcache.flow.shared} and L{crcache.flow.verify}."""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from crcache.errors import (
    BlobUnknown,
    BodyCut,
    CrcacheError,
    Denied,
    ManifestUnknown,
    NameUnknown,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginLied,
    OriginRefused,
    StoreError,
    Unauthorized,
)
from crcache.facts import Kind, Query
from crcache.flow.answers import first, lines, refusal, what
from crcache.flow.collect import collect, dismiss
from crcache.flow.shared import Shared
from crcache.flow.verify import verify
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository, Tag
from crcache.store.content import Content
from crcache.testing.upstream import FakeAnswer, Turn

DATA = os.urandom(3_000_000)
DIGEST = Digest.of(DATA)


def answer(body: bytes = b"", length: int | None = None, status: int = 200, turn: Turn | None = None) -> FakeAnswer:
    """An origin's."""
    return FakeAnswer(status, Headers(), body, length=length, turn=turn)


class CollectTests(SynchronousTestCase):
    """Small bodies."""

    def collected(self, given: FakeAnswer, limit: int) -> Deferred[bytes]:
        """All of it."""
        return Deferred.fromCoroutine(collect(given, limit))

    def test_whole(self) -> None:
        """The body comes whole, up to the limit and including it, with a length or without."""
        for body in (b"", b"x", DATA):
            for length in (None, len(body)):
                got = self.successResultOf(self.collected(answer(body, length), len(body)))
                self.assertEqual(got, body)

    def test_announced(self) -> None:
        """A body that says it is too long is not taken at all."""
        given = answer(b"", length=101)
        self.failureResultOf(self.collected(given, 100), OriginLied)
        self.assertTrue(given.aborted)

    def test_too_long(self) -> None:
        """One that does not say so is given up as soon as it is, and no more of it is kept."""
        given = answer(DATA)
        self.failureResultOf(self.collected(given, 100_000), OriginLied)
        self.assertTrue(given.aborted)
        self.assertLessEqual(given.delivered, 200_000)

    def test_cut(self) -> None:
        """A body that breaks off is none."""
        self.failureResultOf(self.collected(answer(DATA, turn=Turn(cut=5)), 100), BodyCut)

    def test_cancelled(self) -> None:
        """Cancelling is never mistaken for an answer's fault."""
        given = answer(DATA, turn=Turn(stall=50))
        running = self.collected(given, 100)
        running.addErrback(lambda failure: failure.trap(CancelledError))
        running.cancel()
        self.assertIs(self.successResultOf(running), CancelledError)
        self.assertTrue(given.aborted)

    def test_dismissed(self) -> None:
        """A short body that nobody wants is read to its end, so that the connection can be used again; no long one."""
        for size, length, aborted in (
            (0, 0, False),
            (1000, 1000, False),
            (1000, None, False),
            (len(DATA), len(DATA), True),
            (len(DATA), None, True),
        ):
            given = answer(DATA[:size], length)
            dismiss(given)
            self.assertEqual(given.aborted, aborted, (size, length))
            self.assertEqual(given.delivered == size, not aborted)
        dismiss(answer(DATA[:50], 50, turn=Turn(cut=10)))
        self.assertEqual(self.flushLoggedErrors(), [])


class RefusalTests(SynchronousTestCase):
    """What an origin's status means to the client."""

    def query(self, kind: Kind = "blob") -> Query:
        """A question."""
        return Query(DOCKER_IO, Repository("library/alpine"), kind, DIGEST if kind == "blob" else Tag("latest"), "id")

    def test_statuses(self) -> None:
        """Each status becomes its error, and none a 429 to the client, nor a status that clients retry here."""
        expected: dict[int, type[OriginError]] = {
            400: OriginRefused, 401: Unauthorized, 403: Denied, 404: BlobUnknown, 405: OriginRefused, 410: BlobUnknown,
            416: OriginRefused, 429: OriginBusy, 500: OriginFailed, 502: OriginFailed, 503: OriginFailed,
            504: OriginFailed, 302: OriginRefused, 599: OriginFailed,
        }  # fmt: skip
        for status, kind in expected.items():
            error = refusal(answer(status=status), self.query())
            self.assertIs(type(error), kind, status)
            self.assertNotIn(error.status, (408, 429))
            self.assertIn("docker.io", error.message)
        self.assertEqual(refusal(answer(status=405), self.query()).detail, {"status": 405})

    def test_unknown(self) -> None:
        """What is unknown is what was asked for."""
        kinds: list[tuple[Kind, type[CrcacheError]]] = [
            ("manifest", ManifestUnknown),
            ("blob", BlobUnknown),
            ("tags", NameUnknown),
            ("referrers", NameUnknown),
        ]
        for kind, error in kinds:
            self.assertIs(type(refusal(answer(status=404), self.query(kind))), error)

    def test_challenges(self) -> None:
        """The origin's challenges go to the client unchanged, all of them."""
        given = answer(status=401)
        lines = ['Bearer realm="https://auth/x",service="a, b"', 'Basic realm="y"']
        given.headers.setRawHeaders("WWW-Authenticate", lines)
        error = refusal(given, self.query())
        self.assertEqual(error.headers, tuple(("WWW-Authenticate", line) for line in lines))

    def test_any_bytes(self) -> None:
        """Headers may be of any encoding: none is an error, and clients get the same bytes."""
        given = answer(status=401)
        given.headers.setRawHeaders(b"WWW-Authenticate", [b'Basic realm="f\xfcr"', 'Basic realm="für"'.encode()])
        error = refusal(given, self.query())
        sent = [value.encode("latin-1") for _, value in error.headers]
        self.assertEqual(sent, given.headers.getRawHeaders(b"WWW-Authenticate"))
        self.assertEqual(lines(given, "www-authenticate"), [value for _, value in error.headers])
        self.assertEqual(first(given, "WWW-Authenticate"), 'Basic realm="f\xfcr"')
        self.assertEqual((lines(given, "X"), first(given, "X")), ([], None))

    def test_retry_after(self) -> None:
        """Clients are told how long to wait: as long as the origin says, by seconds or by date, else some seconds."""
        then, now = b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:07 GMT"
        for value, seconds in ((b"7", "7"), (then, "30"), (b"soon", "5"), (b"\xb2", "5"), (None, "5")):
            given = answer(status=429)
            given.headers.setRawHeaders(b"Date", [now])
            if value:
                given.headers.setRawHeaders(b"Retry-After", [value])
            self.assertEqual(refusal(given, self.query()).headers, (("Retry-After", seconds),))

    def test_what(self) -> None:
        """Messages name the thing as users know it."""
        self.assertEqual(what(self.query()), f"blob {DIGEST} of docker.io/library/alpine")
        tags = Query(DOCKER_IO, Repository("a/b"), "tags", None, "id")
        self.assertEqual(what(tags), "tags of docker.io/a/b")


class SharedTests(SynchronousTestCase):
    """Work that several ask for at once."""

    def setUp(self) -> None:
        """Have work that ends when the test says so."""
        self.shared: Shared[int] = Shared()
        self.begun: list[Deferred[int]] = []

    async def _work(self) -> int:
        self.begun.append(Deferred())
        return await self.begun[-1]

    def test_shared(self) -> None:
        """It is done once, and all get its result; later it is done again."""
        asked = [self.shared.join("key", self._work) for _ in range(3)]
        self.assertIn("key", self.shared)
        self.assertEqual(len(self.begun), 1)
        self.begun[0].callback(7)
        self.assertEqual([self.successResultOf(each) for each in asked], [7, 7, 7])
        self.assertNotIn("key", self.shared)
        self.shared.join("key", self._work)
        self.assertEqual(len(self.begun), 2)

    def test_keys(self) -> None:
        """Other keys are other work."""
        first, second = self.shared.join(("a", 1), self._work), self.shared.join(("a", 2), self._work)
        self.begun[1].callback(2)
        self.assertNoResult(first)
        self.assertEqual(self.successResultOf(second), 2)

    def test_failure(self) -> None:
        """All get its failure, too, and nothing is remembered of it."""
        asked = [self.shared.join("key", self._work) for _ in range(2)]
        self.begun[0].errback(Failure(ZeroDivisionError()))
        for each in asked:
            self.failureResultOf(each, ZeroDivisionError)
        self.assertNotIn("key", self.shared)

    def test_leaving(self) -> None:
        """One who cancels leaves the work, and those who wait with it, alone; even the one who began it."""
        asked = [self.shared.join("key", self._work) for _ in range(3)]
        for each in asked[:2]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.begun[0].callback(7)
        self.assertEqual(self.successResultOf(asked[2]), 7)

    def test_at_once(self) -> None:
        """Work that needs no waiting is done and over."""

        async def at_once() -> int:
            return 5

        self.assertEqual(self.successResultOf(self.shared.join("key", at_once)), 5)
        self.assertNotIn("key", self.shared)

    def test_joined_from_a_result(self) -> None:
        """Whoever asks again because of a result gets new work, not the old."""
        first = self.shared.join("key", self._work)
        again: list[Deferred[int]] = []
        first.addCallback(lambda _: again.append(self.shared.join("key", self._work)))
        self.begun[0].callback(1)
        self.assertEqual(len(self.begun), 2)
        self.begun[1].callback(2)
        self.assertEqual(self.successResultOf(again[0]), 2)


class VerifyTests(SynchronousTestCase):
    """Hashing a whole body."""

    def body(self, data: bytes) -> Content:
        """Content."""
        fd = os.memfd_create("content", os.MFD_CLOEXEC)
        os.pwrite(fd, data, 0)
        return Content(fd, len(data), 0.0)

    def test_right(self) -> None:
        """It is what its digest says, however often that is asked, and whoever has read of it in between."""
        body = self.body(DATA)
        for _ in range(2):
            self.assertTrue(verify(body, DIGEST))
            self.assertTrue(verify(body, Digest.of(DATA, "sha512")))
        self.assertTrue(verify(self.body(b""), Digest.of(b"")))

    def test_wrong(self) -> None:
        """One byte more, less or other is not."""
        for data in (DATA[:-1], DATA + b"x", bytes([DATA[0] ^ 1]) + DATA[1:], b""):
            self.assertFalse(verify(self.body(data), DIGEST))

    def test_unreadable(self) -> None:
        """What cannot be read is an error of the cache."""
        body = Content(os.open("/", os.O_RDONLY | os.O_CLOEXEC), 5, 0.0)
        self.assertRaises(StoreError, verify, body, DIGEST)
