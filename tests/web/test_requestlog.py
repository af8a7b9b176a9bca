"""The line in the log for each request, and its counts."""

from __future__ import annotations

import io
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
    globalLogPublisher,
)
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import BlobUnknown, OriginTimeout
from crcache.facts import Verdict
from crcache.grammar.reference import DOCKER_IO
from crcache.outcomes import CacheStatus, Pong
from crcache.testing.fakes import FakeMeter, MemoryBody
from crcache.web.requestlog import Exchange, RequestLog, printable
from tests.web.cases import pause
from tests.web.harness import BLOB_PATH, DATA, DIGEST, MANIFEST_PATH, WebCase, blob, manifest, request


class LineTests(WebCase):
    """What is logged and counted of requests that are answered."""

    async def _event(self) -> LogEvent:
        event = await self.logged()
        self.assertEqual(len(self.request_events()), 1)
        return event

    async def test_blob(self) -> None:
        """All there is to know of a request is in named fields, and the line reads well."""
        self.answer_with(blob(cache=CacheStatus.COLLAPSED))
        await self.ask(BLOB_PATH, ("X-Request-Id", "me-1"))
        event = await self._event()
        expected = {
            "method": "GET",
            "kind": "blob",
            "registry": "docker.io",
            "repository": "library/alpine",
            "reference": str(DIGEST),
            "status": 200,
            "bytes": 1024,
            "cache": "collapsed",
            "request_id": "me-1",
            "client": "127.0.0.1",
            "aborted": "",
            "log_level": LogLevel.info,
        }
        self.assertEqual({name: event[name] for name in expected}, expected)
        self.assertTrue(0 <= event["seconds"] < 5)
        self.assertRegex(
            formatEvent(event),
            rf"\A127\.0\.0\.1 GET blob docker\.io library/alpine {DIGEST}: 200, 1024 bytes in \d+\.\d{{3}} s, "
            r"cache collapsed, request me-1\Z",
        )
        ((registry, kind, status, cache, seconds),) = self.meter.calls["answered"]
        self.assertEqual((registry, kind, status, cache), (DOCKER_IO, "blob", 200, "collapsed"))
        assert isinstance(seconds, float)
        self.assertTrue(0 <= seconds < 5)
        self.assertEqual(self.meter.calls["sent"], [(DOCKER_IO, "collapsed", 1024)])

    async def test_part(self) -> None:
        """Bytes are those of the part that was sent."""
        await self.ask(BLOB_PATH, ("Range", "bytes=0-9"))
        event = await self._event()
        self.assertEqual((event["status"], event["bytes"]), (206, 10))

    async def test_manifest_head(self) -> None:
        """A HEAD sends no bytes."""
        self.answer_with(manifest())
        await self.ask(MANIFEST_PATH, method="HEAD")
        event = await self._event()
        self.assertEqual((event["method"], event["kind"], event["reference"]), ("HEAD", "manifest", "3.20"))
        self.assertEqual(event["bytes"], 0)
        self.assertEqual(self.meter.calls["sent"], [])

    async def test_ping(self) -> None:
        """What has no registry shows a dash, and is counted for none."""
        self.answer_with(Pong())
        await self.ask("/v2/")
        self.assertIn(" GET ping - - -: 200,", formatEvent(await self._event()))
        self.assertEqual(self.meter.calls["answered"][0][:4], (None, "ping", 200, "none"))

    async def test_levels(self) -> None:
        """Refusals for which a client is to blame are information; failures are warnings."""
        self.answer_with(BlobUnknown("None."), OriginTimeout("Slow."))
        await self.ask(BLOB_PATH)
        await self.ask(BLOB_PATH)
        levels = [(event["status"], event["log_level"]) for event in self.request_events()]
        self.assertEqual(levels, [(404, LogLevel.info), (504, LogLevel.warn)])

    async def test_why(self) -> None:
        """A failure's line says why, in its sentence and in a field; a refusal's does not."""
        self.answer_with(BlobUnknown("None."), OriginTimeout("The origin {is} slow."))
        for _ in range(2):
            await self.ask(BLOB_PATH, ("X-Request-Id", "me-1"))
        refused, failed = self.request_events()
        self.assertTrue(formatEvent(refused).endswith("request me-1"))
        self.assertTrue(formatEvent(failed).endswith("request me-1: The origin {is} slow."))
        self.assertEqual([event["problem"] for event in (refused, failed)], [None, "The origin {is} slow."])

    async def test_unknown_path(self) -> None:
        """A path that is none of ours is shown, harmlessly, without its query."""
        await self.ask("/v1/%0a{x}?password=hunter2")
        self.assertIn(" GET other - - /v1/%0a{x}: 404,", formatEvent(await self._event()))

    async def test_first_byte(self) -> None:
        """The time to the first byte is not that to the last."""
        body = MemoryBody(DATA, size=1024, verdict=Verdict.FILLING)
        waiting: Deferred[object] = Deferred()
        self.answer_with(waiting)  # type: ignore[arg-type]
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        await pause(0.1)
        waiting.callback(blob(body))
        await wire.until(DATA[:1000])
        await pause(0.1)
        body.judge(Verdict.VERIFIED)
        await wire.closed
        first = self.meter.calls["answered"][0][4]
        assert isinstance(first, float)
        last = (await self._event())["seconds"]
        self.assertTrue(0.05 < first < last - 0.05, (first, last))

    async def test_left_early(self) -> None:
        """A client that leaves in the middle is logged with what it got."""
        self.answer_with(blob(MemoryBody(DATA, size=2048, verdict=Verdict.FILLING)))
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        await wire.until(DATA[:1000])
        wire.abort()
        event = await self._event()
        self.assertEqual((event["status"], event["aborted"], event["bytes"]), (200, " aborted", 1023))
        self.assertIn(": 200 aborted, 1023 bytes", formatEvent(event))

    async def test_failed_body(self) -> None:
        """A body that proves wrong ends in an aborted connection, and the line says so."""
        body = MemoryBody(DATA, size=1024, verdict=Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        await wire.until(DATA[:1000])
        body.judge(Verdict.FAILED)
        received = await wire.closed
        self.assertFalse(received.endswith(DATA))
        self.assertEqual((await self._event())["aborted"], " aborted")


class SafetyTests(WebCase):
    """What must never be in any log."""

    async def test_nothing_secret(self) -> None:
        """Neither credentials nor queries nor control characters of a client get into any log event."""
        text = io.StringIO()

        def observe(event: LogEvent) -> None:
            text.write((formatEventAsClassicLogText(event) or "") + repr(event))

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        secret = ("Authorization", "Basic aHVudGVyMjpodW50ZXIy")
        answers = (blob(), manifest(), BlobUnknown("None."), OriginTimeout("Slow."), ZeroDivisionError("x"))
        for answer in answers:
            self.answer_with(answer)
            for path in (BLOB_PATH, MANIFEST_PATH, "/elsewhere?"):
                await self.ask(path + "&password=aHVudGVyMjpodW50ZXIy", secret)
                await self.ask(path + "&password=aHVudGVyMjpodW50ZXIy", secret, secret)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertIn("library/alpine", text.getvalue())
        self.assertNotIn("aHVudGVy", text.getvalue())

    async def test_injection(self) -> None:
        """No client can begin a line of the log, or colour it."""
        for data in (
            b"G\x1b[31mT /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v2/\x1b[31m\x0bforged HTTP/1.1\r\nHost: x\r\n\r\n",
            request("/v2/", ("X-Request-Id", b"a\x1b[31mb")),
            request("/v2/\x85forged"),
            request("/v2/", ("User-Agent", b"\x1b[31m"), method="DELETE"),
        ):
            wire = await self.connect()
            wire.write(data)
            await wire.until(b"}]}" if b"X-Request" not in data else b"HTTP/1.1")
            wire.abort()
        await pause(0.05)
        lines = [formatEvent(event) for event in self.events if "crcache" in str(event.get("log_namespace"))]
        self.assertTrue(lines)
        for line in lines:
            self.assertTrue(line.isprintable() and line.isascii(), repr(line))


class RequestLogTests(SynchronousTestCase):
    """The log by itself."""

    def test_printable(self) -> None:
        """Controls, blanks and line separators are replaced, the rest is cut short."""
        self.assertEqual(printable("a\nb c\x85\u2028\x1b"), "a?b?c???")
        self.assertEqual(printable(None), "-")
        self.assertEqual(printable(""), "-")
        self.assertEqual(len(printable("x" * 10_000)), 200)

    def test_nothing_sent(self) -> None:
        """Without an answer there is no time to the first byte, and no bytes are counted."""
        meter = FakeMeter()
        RequestLog(meter).finished(Exchange("GET", "192.0.2.1", "id", began=10.0), 12.5)
        self.assertEqual(dict(meter.calls), {"answered": [(None, "other", 499, "none", None)]})
