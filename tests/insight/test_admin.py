"""The admin listener, over the wire."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.insight.admin import PATIENCE, root
from crcache.insight.metrics import Meter
from crcache.insight.status import Status
from crcache.web.site import Site
from tests.web.cases import pause, reactor
from tests.web.harness import WebCase, request


class AdminTests(WebCase):
    """Its pages."""

    def setUp(self) -> None:
        super().setUp()
        self.counters = Meter([DOCKER_IO])
        self.clock = Clock()
        self.clock.advance(1000)
        self.reasons: Deferred[list[str]] = succeed([])
        self.status = Status(
            self.clock,
            self.counters,
            "/var/cache/crcache",
            [Registry("ghcr.io"), DOCKER_IO],
            lambda: ["127.0.0.1:3000"],
            lambda: [{"registry": "docker.io", "bytes": 7}],
        )
        tree = root(self.counters.collectors, lambda: self.reasons, self.status, self.clock)
        self.serve(Site(tree, reactor))

    async def test_index(self) -> None:
        """The first page names the others, in plain text."""
        reply = await self.ask("/")
        self.assertEqual((reply.status, reply.one("Content-Type")), (200, "text/plain; charset=utf-8"))
        for path in (b"/healthz", b"/readyz", b"/metrics", b"/api/status"):
            self.assertIn(path, reply.body)

    async def test_health(self) -> None:
        """Health is a short yes."""
        reply = await self.ask("/healthz")
        self.assertEqual((reply.status, reply.body), (200, b"ok\n"))
        self.assertEqual(reply.one("Content-Length"), "3")
        self.assertEqual(reply.one("Cache-Control"), "no-store")

    async def test_ready(self) -> None:
        """Ready without reasons not to be."""
        reply = await self.ask("/readyz")
        self.assertEqual((reply.status, json.loads(reply.body)), (200, {"ready": True, "reasons": []}))
        self.assertEqual(reply.one("Content-Type"), "application/json")

    async def test_not_ready(self) -> None:
        """Reasons are a 503 that gives them."""
        self.reasons = succeed(["draining", "the cache directory is read-only"])
        reply = await self.ask("/readyz")
        self.assertEqual(reply.status, 503)
        self.assertEqual(
            json.loads(reply.body), {"ready": False, "reasons": ["draining", "the cache directory is read-only"]}
        )

    async def test_readiness_hangs(self) -> None:
        """A disk that does not answer is a reason."""
        self.reasons = Deferred()
        wire = await self.connect()
        wire.write(request("/readyz"))
        await pause(0.05)
        self.assertEqual(wire.received, b"")
        self.clock.advance(PATIENCE)
        received = await wire.closed
        self.assertIn(b"HTTP/1.1 503 ", received)
        self.assertIn(b"did not answer", received)

    async def test_readiness_fails(self) -> None:
        """A defect is a 500 that tells nothing."""
        self.reasons = fail(ZeroDivisionError("secret"))
        reply = await self.ask("/readyz")
        self.assertEqual(reply.status, 500)
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_left_early(self) -> None:
        """A probe that does not wait causes no noise."""
        self.reasons = Deferred()
        wire = await self.connect()
        wire.write(request("/readyz"))
        await pause(0.05)
        wire.abort()
        await pause(0.05)
        self.reasons.callback([])

    async def test_metrics(self) -> None:
        """Metrics come in the text format, or as OpenMetrics if that is asked for."""
        self.counters.answered(DOCKER_IO, "blob", 200, "hit", 0.1)
        reply = await self.ask("/metrics")
        self.assertEqual(reply.status, 200)
        self.assertRegex(reply.one("Content-Type") or "", r"\Atext/plain; version=[0-9.]+; charset=utf-8\Z")
        line = b'crcache_requests_total{cache="hit",kind="blob",registry="docker.io",status="200"} 1.0\n'
        self.assertIn(line, reply.body)
        modern = await self.ask("/metrics", ("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"))
        self.assertRegex(modern.one("Content-Type") or "", r"\Aapplication/openmetrics-text")
        self.assertTrue(modern.body.endswith(b"# EOF\n"))

    async def test_status(self) -> None:
        """The status is JSON with everything in it."""
        self.counters.sent(DOCKER_IO, "hit", 5)
        self.clock.advance(90)
        reply = await self.ask("/api/status")
        self.assertEqual((reply.status, reply.one("Content-Type")), (200, "application/json"))
        status = json.loads(reply.body)
        self.assertEqual(status["uptime_seconds"], 90)
        self.assertEqual(status["listeners"], ["127.0.0.1:3000"])
        self.assertEqual(status["cache_directory"], "/var/cache/crcache")
        self.assertEqual(status["registries"], ["docker.io", "ghcr.io"])
        self.assertEqual(status["counters"]["sent_bytes"], 5)
        self.assertEqual(status["fills"], [{"registry": "docker.io", "bytes": 7}])
        self.assertLessEqual({"version", "twisted", "python", "pid"}, set(status))

    async def test_head(self) -> None:
        """HEAD has the head alone."""
        for path in ("/", "/healthz", "/readyz", "/api/status"):
            got, headed = await self.ask(path), await self.ask(path, method="HEAD")
            self.assertEqual((headed.status, headed.body), (200, b""), path)
            self.assertEqual(headed.one("Content-Length"), got.one("Content-Length"))

    async def test_methods(self) -> None:
        """Nothing can be changed here."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "FOO"):
            for path in ("/", "/metrics", "/api/status", "/nowhere"):
                reply = await self.ask(path, method=method)
                self.assertEqual((reply.status, reply.one("Allow")), (405, "GET, HEAD"))

    async def test_nowhere(self) -> None:
        """Other paths are 404, also below the pages."""
        for path in ("/nowhere", "/api", "/api/", "/healthz/x", "/metrics/", "//", "/%2e%2e/metrics"):
            reply = await self.ask(path)
            self.assertEqual((reply.status, reply.one("Content-Type")), (404, "text/plain; charset=utf-8"), path)
