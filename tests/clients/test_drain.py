"""The daemon told to stop while clients are served: what they get, and what the next one finds."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import MANIFEST_TYPES, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer, request, send

MIB = 1 << 20
DATA = noise(4 * MIB + 99)


class DrainTests(ClientCase):
    """A cold blob whose origin comes to a halt in the middle."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.rule = self.origin.fault(Fault(stall=2 * MIB), "blob")

    async def halfway(self, drain_timeout: float) -> tuple[Answer, Deferred[None]]:
        """A client that has begun to get the blob when the daemon is told to stop."""
        self.cache = self.instance(self.directory(), drain_timeout=drain_timeout)
        answer = await self.begin(blob_path(self.digest))
        await answer.until(MIB)
        self.stopping: Deferred[None] = self.cache.stop()
        return answer, self.stopping

    async def test_done_in_time(self) -> None:
        """A body that is done in time arrives whole; operators see `draining` until then, and clients no port."""
        self.cache = self.instance(self.directory(), drain_timeout=8.0)
        answer = await self.begin(blob_path(self.digest))
        await answer.until(MIB)
        port, admin = self.cache.port, self.cache.admin_port
        stopping = self.cache.stop()
        ready = await (await send(admin, request("/readyz"))).end()
        self.assertEqual((ready.status, json.loads(ready.body)["reasons"]), (503, ["draining"]))
        status = json.loads((await (await send(admin, request("/api/status"))).end()).body)
        self.assertEqual(
            (status["draining"], status["connections"], status["requests_in_flight"]), (True, 1, 1), status
        )
        metrics = (await (await send(admin, request("/metrics"))).end()).body
        self.assertIn(b"\ncrcache_draining 1.0\n", metrics)
        self.assertIn(b"\ncrcache_requests_in_flight 1.0\n", metrics)
        with self.assertRaises(ConnectError):
            await send(port, request("/v2/"))
        self.rule.release()
        await answer.end()
        self.assertTrue(answer.complete and answer.body == DATA, len(answer.raw))
        await stopping
        with self.assertRaises(ConnectError):
            await send(admin, request("/healthz"))

    async def test_not_done_in_time(self) -> None:
        """A body that is not ends short of its length, without a reset, which containerd would not resume after.

        The next daemon has the rest, and asks the origin for no more than that.
        """
        answer, stopping = await self.halfway(0.3)
        await answer.end()
        await stopping
        self.assertFalse(answer.complete)
        self.assertIs(answer.clean, True)
        got = answer.raw
        self.assertGreaterEqual(len(got), MIB)
        self.assertEqual(got, DATA[: len(got)])
        self.assertLess(len(got), len(DATA))
        cut = [record.sent for record in self.origin.asked("blob")]
        self.cache = self.instance(self.cache.config.cache_directory)
        rest = await self.ask(blob_path(self.digest), ("Range", f"bytes={len(got)}-"))
        self.assertEqual((rest.status, rest.complete), (206, True))
        self.assertTrue(got + rest.body == DATA)
        whole = await self.ask(blob_path(self.digest))
        self.assertTrue(whole.complete and whole.body == DATA)
        first, *more = self.origin.asked("blob")
        starts = [
            int((record.header("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0]) for record in more
        ]
        self.assertEqual(len(more), 1, starts)
        # What was on its way into the cache when it stopped may come again; nothing before that.
        self.assertGreaterEqual(starts[0], cut[0] - MIB)
        self.assertLessEqual(first.sent + more[0].sent, len(DATA) + MIB)

    async def test_idle_client(self) -> None:
        """A connection that is kept alive ends cleanly and at once; there is nothing to wait for."""
        image = self.origin.add_image(REPO, "1.0", [b"layer"])
        self.cache = self.instance(drain_timeout=15.0)
        accept = ("Accept", ", ".join(MANIFEST_TYPES))
        asked = request(manifest_path("1.0"), accept).replace(b"Connection: close\r\n", b"")
        answer = await send(self.cache.port, asked)
        await answer.until(len(image.manifest))
        self.assertEqual(answer.raw, image.manifest)
        await self.cache.stop()
        await answer.end()
        self.assertIs(answer.clean, True)

    async def test_told_twice(self) -> None:
        """What waits for the cache to answer is let go of in time as well, and says nothing wrong."""
        rule = self.origin.fault(Fault(hold=True), "manifest")
        self.cache = self.instance(drain_timeout=0.3)
        answer = await self.begin(manifest_path("1.0"))
        await eventually(lambda: self.origin.asked("manifest"))
        await self.cache.stop()
        rule.release()
        await answer.end()
        self.assertIs(answer.complete, False)
