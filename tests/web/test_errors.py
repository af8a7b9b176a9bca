"""Refusals: their statuses, headers and JSON."""

from __future__ import annotations

import json

from twisted.internet.defer import CancelledError, Deferred

from crcache.errors import BlobUnknown, CrcacheError, OriginBusy, OriginTimeout, Unauthorized
from crcache.outcomes import Relayed
from crcache.testing.fakes import FakeAnswer
from tests.web.cases import pause
from tests.web.harness import BLOB_PATH, DIGEST, MANIFEST_PATH, Reply, WebCase, request


class Limited(CrcacheError):
    """An error that must not leave as it is."""

    code, status = "TOOMANYREQUESTS", 429


class ErrorCase(WebCase):
    """Looks into error JSON."""

    def assert_error(self, reply: Reply, status: int, code: str) -> dict[str, object]:
        """It is one error in the specification's form, and says so in its headers.

        @return: the error.
        """
        self.assertEqual(reply.status, status, reply)
        self.assertEqual(reply.one("Content-Type"), "application/json")
        self.assertEqual(reply.one("Content-Length"), str(len(reply.body)))
        self.assertEqual(reply.one("Cache-Control"), "no-store")
        self.assertEqual(reply.one("Docker-Distribution-Api-Version"), "registry/2.0")
        self.assertRegex(reply.one("X-Request-Id") or "", r"\A[0-9a-f]{32}\Z")
        (error,) = json.loads(reply.body)["errors"]
        self.assertEqual(error["code"], code)
        self.assertTrue(error["message"])
        found: dict[str, object] = error
        return found


class CacheErrorTests(ErrorCase):
    """What the cache refuses."""

    async def test_error(self) -> None:
        """Code, message and detail, with the registry's name."""
        self.answer_with(BlobUnknown("There is none.", detail={"digest": "x"}))
        reply = await self.ask(BLOB_PATH)
        error = self.assert_error(reply, 404, "BLOB_UNKNOWN")
        self.assertEqual(error, {"code": "BLOB_UNKNOWN", "message": "There is none.", "detail": {"digest": "x"}})
        self.assertEqual(reply.one("OCI-Namespace"), "docker.io")
        self.assertIsNone(reply.one("Retry-After"))

    async def test_any_bytes(self) -> None:
        """An origin's challenge goes to the client byte for byte."""
        challenge = 'Basic realm="f\xfcr"'
        self.answer_with(Unauthorized("Log in.", headers=[("WWW-Authenticate", challenge)]))
        reply = await self.ask(BLOB_PATH)
        self.assertEqual((reply.status, reply.one("WWW-Authenticate")), (401, challenge))

    async def test_no_detail(self) -> None:
        """No detail, no key."""
        self.answer_with(BlobUnknown("There is none."))
        error = self.assert_error(await self.ask(BLOB_PATH), 404, "BLOB_UNKNOWN")
        self.assertNotIn("detail", error)

    async def test_head(self) -> None:
        """HEAD gets the same head and no body."""
        self.answer_with(BlobUnknown("There is none."))
        got = await self.ask(BLOB_PATH)
        headed = await self.ask(BLOB_PATH, method="HEAD")
        self.assertEqual((headed.status, headed.body), (404, b""))
        self.assertEqual(headed.one("Content-Length"), got.one("Content-Length"))
        self.assertEqual(headed.one("Content-Type"), "application/json")

    async def test_challenges(self) -> None:
        """An origin's challenges go through unchanged, each in its line."""
        lines = ['Bearer realm="https://auth.example.com/token",service="x"', 'Basic realm="x"']
        self.answer_with(Unauthorized("Log in.", headers=[("WWW-Authenticate", line) for line in lines]))
        reply = await self.ask(MANIFEST_PATH)
        self.assert_error(reply, 401, "UNAUTHORIZED")
        self.assertEqual(reply.all("WWW-Authenticate"), lines)

    async def test_retry_after(self) -> None:
        """Retry-After is there if the error has one."""
        self.answer_with(OriginBusy("Wait.", headers=[("Retry-After", "7")]))
        reply = await self.ask(BLOB_PATH)
        self.assert_error(reply, 503, "UNAVAILABLE")
        self.assertEqual(reply.one("Retry-After"), "7")

    async def test_timeout(self) -> None:
        """An origin too slow is 504."""
        self.answer_with(OriginTimeout("Wait."))
        self.assert_error(await self.ask(BLOB_PATH), 504, "UNAVAILABLE")

    async def test_never_429(self) -> None:
        """Nothing makes crcache answer 429."""
        self.answer_with(Limited("Wait."))
        self.assert_error(await self.ask(BLOB_PATH), 503, "TOOMANYREQUESTS")

    async def test_defect(self) -> None:
        """A defect is 500 that names the request id and tells nothing else; the log has it all."""
        self.answer_with(ZeroDivisionError("secret sauce"))
        reply = await self.ask(BLOB_PATH)
        error = self.assert_error(reply, 500, "UNKNOWN")
        self.assertIn(reply.one("X-Request-Id") or "-", str(error["message"]))
        self.assertNotIn(b"secret", reply.body)
        self.assertNotIn(b"ZeroDivision", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_cancelled(self) -> None:
        """What is cancelled, as everything is when the daemon stops, is 503 and no noise."""
        self.answer_with(CancelledError())
        self.assert_error(await self.ask(BLOB_PATH), 503, "UNAVAILABLE")

    async def test_keeps_connection(self) -> None:
        """An error does not end the connection."""
        self.answer_with(BlobUnknown("There is none."))
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(b"}]}")
        wire.write(request(BLOB_PATH))
        self.assertEqual((await wire.closed).count(b"HTTP/1.1 404 "), 2)


class RequestErrorTests(ErrorCase):
    """What is refused before the cache is asked."""

    async def test_methods(self) -> None:
        """Any method but GET and HEAD is 405 and told so, wherever."""
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO", "get"):
            for target in (BLOB_PATH, "/v2/", "/", "*"):
                reply = await self.ask(target, method=method)
                self.assert_error(reply, 405, "UNSUPPORTED")
                self.assertEqual(reply.one("Allow"), "GET, HEAD")
        self.assertEqual(self.cache.asks, [])

    async def test_routes(self) -> None:
        """What is not the specification's is 404."""
        for target in ("/", "/v1/", "/v2x/", "/healthz", "/v2/library/alpine", "*", "http://cache/", "http://cache"):
            self.assert_error(await self.ask(target), 404, "UNSUPPORTED")

    async def test_grammar(self) -> None:
        """Names, references and digests out of the grammar are 400 with their code."""
        for target, code in (
            ("/v2/Library/x/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a/../b/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a/%2e%2e/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a%2fb/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a%zz/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a%/manifests/a?ns=docker.io", "NAME_INVALID"),
            ("/v2/a/manifests/.a?ns=docker.io", "TAG_INVALID"),
            ("/v2/a/manifests/md5:00?ns=docker.io", "DIGEST_INVALID"),
            ("/v2/a/blobs/sha256:12?ns=docker.io", "DIGEST_INVALID"),
            ("/v2/a/manifests/b", "NAME_INVALID"),
            ("/v2/a/manifests/b?ns=", "NAME_INVALID"),
            ("/v2/a/manifests/b?ns=x.io&ns=y.io", "NAME_INVALID"),
            ("/v2/a/manifests/b?ns=../x", "NAME_INVALID"),
            ("/v2/a/manifests/b?ns=%0d%0aX:", "UNSUPPORTED"),
            ("/v2/a/manifests/b?ns=%ff", "UNSUPPORTED"),
            ("/v2/a/tags/list?ns=x.io&n=ten", "UNSUPPORTED"),
            ("/v2/a/tags/list?ns=x.io&n=-1", "UNSUPPORTED"),
            ("/v2/a/tags/list?ns=x.io&last=%00", "UNSUPPORTED"),
            (f"/v2/a/referrers/{DIGEST}?ns=x.io&artifactType=%c3", "UNSUPPORTED"),
        ):
            self.assert_error(await self.ask(target), 400, code)
        self.assertEqual(self.cache.asks, [])

    async def test_authorizations(self) -> None:
        """Two Authorization lines are refused: which would it be?"""
        reply = await self.ask(BLOB_PATH, ("Authorization", "Basic a"), ("Authorization", "Basic b"))
        self.assert_error(reply, 400, "UNSUPPORTED")
        self.assertEqual(reply.one("OCI-Namespace"), "docker.io")

    async def test_undecodable_headers(self) -> None:
        """Headers that go on to an origin are text."""
        for name in ("Accept", "Authorization"):
            self.assert_error(await self.ask(BLOB_PATH, (name, b"\xff\xfe")), 400, "UNSUPPORTED")
            self.assert_error(await self.ask(BLOB_PATH, (name, b"a\x01b")), 400, "UNSUPPORTED")


class ClientGoneTests(WebCase):
    """Clients that do not wait."""

    async def test_outcome_too_late(self) -> None:
        """Nothing is written for a client that has left, an origin's body is not fetched, and nobody is alarmed."""
        waiting: Deferred[object] = Deferred()
        self.answer_with(waiting)  # type: ignore[arg-type]
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        while not self.cache.asks:
            await pause(0.01)
        wire.abort()
        await pause(0.05)
        answer = FakeAnswer(body=b"late")
        waiting.callback(Relayed(answer, None))
        self.assertTrue(answer.aborted)
        self.assertEqual(self.sender.relays, [])
        self.assertEqual((await self.logged())["status"], 499)

    async def test_error_too_late(self) -> None:
        """The same if all there is to say is an error."""
        waiting: Deferred[object] = Deferred()
        self.answer_with(waiting)  # type: ignore[arg-type]
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        while not self.cache.asks:
            await pause(0.01)
        wire.abort()
        await pause(0.05)
        waiting.errback(OriginTimeout("Too slow."))
        self.assertIn(" 499 aborted,", (self.request_lines() or [""])[0])
        self.assertEqual(self.meter.calls["answered"][0][2:], (499, "none", None))
