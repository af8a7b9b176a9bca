"""The fake registry misbehaves exactly as told."""

from __future__ import annotations

import gzip
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import (
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss

from crcache.testing.script import Fault
from tests.testing.harness import RegistryCase
from tests.upstream.harness import eventually, later


class Misbehaving(RegistryCase):
    """As the test says."""

    async def test_cut(self) -> None:
        """A cut body has as many bytes as told, with an orderly end or a reset."""
        self.start()
        for reset in (False, True):
            self.fake.fault(Fault(cut=70_001, reset=reset), "blob")
            reply = await self.ask(self.path)
            self.assertEqual((len(reply.body), reply.end, reply.length), (70_001, ResponseFailed, 200_000))
            self.assertEqual(self.fake.requests[-1].sent, 70_001)

    async def test_stall(self) -> None:
        """A stalled body waits for its release."""
        fake = self.start()
        rule = fake.fault(Fault(stall=70_000), "blob")
        asking = Deferred.fromCoroutine(self.ask(self.path))
        await eventually(lambda: fake.requests and fake.requests[0].sent == 70_000)
        await later(0.05)
        self.assertNoResult(asking)
        rule.release()
        self.assertEqual((await asking).body, self.layer)

    async def test_hold(self) -> None:
        """A held answer waits for its release."""
        fake = self.start()
        rule = fake.fault(Fault(hold=True), "blob")
        asking = Deferred.fromCoroutine(self.ask(self.path))
        await eventually(lambda: fake.requests)
        await later(0.05)
        self.assertEqual((fake.requests[0].status, fake.requests[0].sent), (0, 0))
        rule.release()
        self.assertEqual((await asking).body, self.layer)

    async def test_hold_until_gone(self) -> None:
        """A held answer whose client has gone is never sent."""
        fake = self.start()
        rule = fake.fault(Fault(hold=True), "blob")
        asking = Deferred.fromCoroutine(self.ask(self.path))
        await eventually(lambda: fake.requests)
        asking.cancel()
        self.failureResultOf(asking)
        await eventually(lambda: fake.requests[0].done)
        rule.release()
        self.assertEqual(fake.requests[0].status, 0)

    async def test_status(self) -> None:
        """A status with headers and body takes the place of the content."""
        self.start()
        self.fake.fault(Fault(status=429, headers=(("Retry-After", "5"),), body=b"slowly"), "blob")
        reply = await self.ask(self.path)
        self.assertEqual((reply.status, reply.header("Retry-After"), reply.body), (429, "5", b"slowly"))

    async def test_headers(self) -> None:
        """Headers of the usual answer may be changed and left out."""
        self.start()
        self.fake.fault(Fault(undigested=True, headers=(("X", "y"), ("Content-Type", None))), "manifest")
        reply = await self.ask("/v2/team/app/manifests/1.0")
        self.assertEqual((reply.header("X"), reply.header("Docker-Content-Digest")), ("y", None))
        self.assertEqual(reply.body, self.image.manifest)

    async def test_ignore_range(self) -> None:
        """A range may be ignored."""
        self.start()
        self.fake.fault(Fault(ignore_range=True), "blob")
        reply = await self.ask(self.path, Range="bytes=10-19")
        self.assertEqual((reply.status, reply.body), (200, self.layer))

    async def test_lies(self) -> None:
        """Bytes may be wrong, too many, or not as many as promised."""
        self.start()
        self.fake.fault(Fault(wrong=True), "blob")
        reply = await self.ask(self.path)
        self.assertEqual(len(reply.body), 200_000)
        self.assertNotEqual(reply.body, self.layer)
        self.fake.fault(Fault(extra=b"more"), "blob")
        reply = await self.ask(self.path)
        self.assertEqual((reply.length, reply.body), (200_004, self.layer + b"more"))
        self.fake.fault(Fault(claim=300_000), "blob")
        reply = await self.ask(self.path)
        self.assertEqual((reply.length, len(reply.body), reply.end), (300_000, 200_000, ResponseFailed))

    async def test_unsized(self) -> None:
        """A body without a length is chunked, or ends with the connection."""
        self.start()
        self.fake.fault(Fault(unsized="chunked"), "blob")
        self.fake.fault(Fault(unsized="close"), "blob")
        for end in (ResponseDone, PotentialDataLoss):
            reply = await self.ask(self.path)
            self.assertNotIsInstance(reply.length, int)
            self.assertEqual((reply.body, reply.end), (self.layer, end))

    async def test_gzip(self) -> None:
        """A body may be encoded."""
        self.start()
        self.fake.fault(Fault(gzip=True), "blob")
        reply = await self.ask(self.path)
        self.assertEqual((gzip.decompress(reply.body), reply.header("Content-Encoding")), (self.layer, "gzip"))

    async def test_redirect(self) -> None:
        """A redirect may name the path and the digest."""
        self.start()
        self.fake.fault(Fault(redirect="http://cdn/{digest}?from={path}"), "blob")
        reply = await self.ask(self.path)
        expected = f"http://cdn/{self.image.layers[1]}?from={self.path}"
        self.assertEqual((reply.status, reply.header("Location")), (307, expected))

    async def test_hang_up(self) -> None:
        """A connection may be closed without an answer."""
        self.start()
        self.fake.fault(Fault(hang_up=True), "blob")
        with self.assertRaises(ResponseNeverReceived):
            await self.ask(self.path)

    async def test_rate(self) -> None:
        """A body may be slow."""
        self.start()
        self.fake.fault(Fault(rate=1_000_000), "blob")
        clock: Any = reactor
        begun = clock.seconds()
        await self.ask(self.path)
        self.assertGreater(clock.seconds() - begun, 0.15)

    async def test_conditions(self) -> None:
        """A rule applies to its kind, path and method, after so many requests, so many times."""
        fake = self.start()
        rule = fake.fault(Fault(status=418), "blob", path=self.image.layers[1], method="GET", skip=1, times=2)
        statuses = [(await self.ask(self.path)).status for _ in range(4)]
        self.assertEqual(statuses, [200, 418, 418, 200])
        self.assertEqual(rule.used, 2)
        fake.fault(Fault(status=405), "manifest", method="HEAD", times=None)
        for _ in range(3):
            self.assertEqual((await self.ask("/v2/team/app/manifests/1.0", "HEAD")).status, 405)
        self.assertEqual((await self.ask("/v2/team/app/manifests/1.0")).status, 200)
        fake.script.clear()
        self.assertEqual((await self.ask("/v2/team/app/manifests/1.0", "HEAD")).status, 200)
