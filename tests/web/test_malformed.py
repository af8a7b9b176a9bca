"""What is not HTTP, and what only just is."""

from __future__ import annotations

import json
import time

from twisted.internet.task import Clock
from twisted.web.resource import Resource

from crcache.outcomes import Pong
from crcache.web.site import IDLE, Site
from tests.web.cases import pause
from tests.web.harness import WebCase, parse_reply, request

START = b"GET /v2/ HTTP/1.1\r\n"
GET = START + b"Host: x\r\n"

MALFORMED = (
    b"GET\r\n\r\n",
    b"GET /v2/\r\n\r\n",
    b"GET /v2/ HTTP/1.1 more\r\n\r\n",
    b"GET /v2/ HTTP/2.0\r\n\r\n",
    b"GET /v2/ http/1.1\r\n\r\n",
    b"GET /v2/ X\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\xff\xfe /v2/ HTTP/1.1\r\n\r\n",
    GET + b"no colon\r\n\r\n",
    GET + b"no colon\r\nA: x\r\n\r\n",
    GET + b": nameless\r\n\r\n",
    GET + b"A : x\r\n\r\n",
    GET + b"Content-Length: many\r\n\r\n",
    GET + b"Content-Length: -1\r\n\r\n",
    GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    GET + b"Transfer-Encoding: gzip\r\n\r\n",
    GET + b"".join(b"A%d: b\r\n" % number for number in range(501)) + b"\r\n",
    GET + b"A: " + b"a" * 20_000 + b"\r\n\r\n",
    GET + b"A: " + b"a" * 20_000,
    GET + b"".join(b"A%d: %s\r\n" % (number, b"a" * 400) for number in range(60)) + b"\r\n",
    START + b"\r\n",
    START + b"A: b\r\n\r\n",
    GET + b"Host: x\r\n\r\n",
    GET + b"Host: y\r\n\r\n",
    b"GET /v2/ HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    b"POST /v2/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /v2/ HTTP/2.0\r\nContent-Length: 5\r\n\r\nhello",
    GET + b"A: b\0c\r\n\r\n",
    GET + b"A: b\rc\r\n\r\n",
    GET + b"A: b\r\r\n\r\n",
    GET + b"A: b\r\n c\rd\r\nE: f\r\n\r\n",
    GET + b"A: b\nc: d\r\n\r\n",
    b"GET /v2/ HTTP/1.1\nHost: x\n\n",
    b"GET /v2/ HTTP/1.1\n",
    b"\n",
    GET + b"A: b\n\n",
    b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\n\r\n",
)


class MalformedTests(WebCase):
    """What is not HTTP."""

    async def test_malformed(self) -> None:
        """Each gets one 400 with the error JSON within a second, nothing reaches the cache, and the connection ends."""
        self.answer_with(Pong())
        for data in MALFORMED:
            began = time.monotonic()
            received = await self.raw(data)
            self.assertLess(time.monotonic() - began, 1.0, data[:60])
            self.assertEqual(received.count(b"HTTP/1.1 400 "), 1, data[:60])
            reply = parse_reply(received)
            self.assertEqual(reply.status, 400, data[:60])
            self.assertEqual(reply.one("Content-Length"), str(len(reply.body)))
            self.assertEqual(reply.one("Connection"), "close")
            self.assertEqual(json.loads(reply.body)["errors"][0]["code"], "UNSUPPORTED")
        self.assertEqual(self.cache.asks, [])

    async def test_control_characters(self) -> None:
        """Control characters anywhere in the request line are a 4xx with JSON."""
        self.answer_with(Pong())
        for data in (
            b"GET /v2/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v2/\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n",
            b"G\x01T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            wire = await self.connect()
            wire.write(data)
            reply = parse_reply(await wire.until(b"}]}"))
            self.assertIn(reply.status, (400, 404, 405), data)
            self.assertTrue(json.loads(reply.body)["errors"])
        self.assertEqual(self.cache.asks, [])

    async def test_after_a_good_one(self) -> None:
        """Nonsense behind a request on the same connection is refused after the request's answer."""
        self.answer_with(Pong())
        received = await self.raw(request("/v2/", close=False) + b"nonsense\r\n\r\n")
        self.assertTrue(received.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"{}HTTP/1.1 400 Bad Request\r\n", received)

    async def test_empty_lines(self) -> None:
        """An empty line before a request is forgiven (RFC 9112, 2.2)."""
        self.answer_with(Pong())
        self.assertEqual(parse_reply(await self.raw(b"\r\n" + request("/v2/"))).status, 200)

    async def test_pieces(self) -> None:
        """A head may come in any pieces, even with a line's end cut in two."""
        self.answer_with(Pong())
        wire = await self.connect()
        for byte in request("/v2/"):
            wire.write(bytes([byte]))
            await pause(0)
        self.assertEqual(parse_reply(await wire.closed).status, 200)

    async def test_bare_line_feed_in_pieces(self) -> None:
        """A bare LF is found in whatever piece it comes, and is refused after earlier requests' answers."""
        self.answer_with(Pong())
        wire = await self.connect()
        wire.write(request("/v2/", close=False) + b"GET /v2/ HTTP/1.1")
        await wire.until(b"{}")
        wire.write(b"\n")
        self.assertIn(b"{}HTTP/1.1 400 Bad Request\r\n", await wire.closed)

    async def test_old_http(self) -> None:
        """HTTP/1.0 knows no C{Host}."""
        self.answer_with(Pong())
        self.assertEqual(parse_reply(await self.raw(b"GET /v2/ HTTP/1.0\r\n\r\n")).status, 200)

    async def test_idle(self) -> None:
        """A connection on which nothing more comes is closed after a minute."""
        clock = Clock()
        self.serve(Site(Resource(), clock))
        wire = await self.connect()
        wire.write(request("/v2/", close=False))
        await wire.until(b"404")
        received = wire.received
        clock.advance(IDLE - 1)
        await pause(0.02)
        self.assertIsNone(wire.lost)
        clock.advance(2)
        self.assertEqual(await wire.closed, received)
        clock.advance(60)
