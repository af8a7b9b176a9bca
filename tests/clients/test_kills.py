"""A daemon that is killed at any moment, again and again: what it leaves is right, and is not fetched again.

Ten kills; with C{CRCACHE_FULL=1} in the environment, a hundred and more.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutput

from crcache.testing.content import noise
from crcache.testing.records import Record
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer, request, send
from tests.clients.killed import Killed
from tests.web.cases import pause, reactor

MIB = 1 << 20
SIZE = 64 * MIB
#: So that a kill finds a fill under way: it takes a second and a half.
RATE = 44.0 * MIB
FULL = bool(os.environ.get("CRCACHE_FULL"))
TIMES = 10 if FULL else 1


class KillTests(ClientCase):
    """Killed with C{SIGKILL}, and started again on the same directory."""

    timeout = 900 if FULL else 60

    def setUp(self) -> None:
        super().setUp()
        self.root = self.directory() / "cache"
        self.daemon: Killed | None = None
        self.seed = random.randrange(1 << 32)
        self.random = random.Random(self.seed)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.kill()))

    async def kill(self) -> None:
        """Kill the daemon, if there is one."""
        if self.daemon is not None:
            await self.daemon.kill()
            self.daemon = None

    async def asked(self, target: str, *headers: tuple[str, str]) -> Answer:
        """Ask the daemon, started if there is none, and return its answer before anything of it has come."""
        if self.daemon is None:
            self.daemon = Killed(reactor, self.root, NAME, self.origin.url)
            await self.daemon.ready
        answer = await send(self.daemon.port, request(target, *headers))
        self.addCleanup(answer.leave)
        return answer

    async def pulled(self, digest: str, data: bytes, moments: list[float]) -> None:
        """Pull a blob as containerd does: after each break ask for what is missing.

        @param moments: seconds after each request at which the daemon is killed; what has come by then is right.
        """
        have = 0
        while have < len(data):
            answer = await self.asked(blob_path(digest), *([("Range", f"bytes={have}-")] if have else []))
            if moments:
                await pause(moments.pop(0))
                await self.kill()
            await answer.end()
            # Killed before its head, there is none.
            self.assertIn(answer.status, (0, 206) if have else (0, 200), self.seed)
            self.assertTrue(answer.raw == data[have : have + len(answer.raw)], f"wrong bytes, seed {self.seed}")
            have += len(answer.raw)

    async def whole(self, digest: str, data: bytes) -> None:
        """What the daemon gives now is right, all of it."""
        answer = await (await self.asked(blob_path(digest))).end()
        self.assertEqual((answer.status, answer.complete), (200, True), self.seed)
        self.assertTrue(answer.body == data, f"wrong bytes, seed {self.seed}")

    def asked_for(self, digest: str) -> list[Record]:
        """What the origin was asked about a blob."""
        return [record for record in self.origin.asked("blob") if digest in record.path]

    async def test_fill_and_commit(self) -> None:
        """Killed in the middle of a fill, and as it ends: each body is right, and little is fetched twice."""
        self.origin.fault(Fault(rate=RATE), "blob", times=None)
        for number in range(TIMES):
            data = noise(SIZE, number)
            digest = self.origin.content.add_blob(REPO, data)
            await self.pulled(digest, data, [self.random.uniform(0.05, 0.4) for _ in range(5)])
            # The client has it; the commit may be anywhere.
            await pause(self.random.choice([0.0, 0.001, 0.01, 0.1]))
            await self.kill()
            await self.whole(digest, data)
            self.assertGreater(len(self.asked_for(digest)), 1, "no kill has hit the fill")
            self.assertLessEqual(sum(each.sent for each in self.asked_for(digest)), 1.2 * SIZE, self.seed)

    async def test_tag(self) -> None:
        """Killed while tags are written and move: a tag is what the origin says, whole, and so is its manifest."""
        for number in range(3 * TIMES):
            image = self.origin.add_image(REPO, "moving", seed=number)
            before = [await self.asked(manifest_path("moving")) for _ in range(5)]
            await pause(self.random.uniform(0.0, 0.03))
            await self.kill()
            for answer in before:
                await answer.end()
            answer = await (await self.asked(manifest_path("moving"))).end()
            self.assertEqual((answer.status, answer.one("Docker-Content-Digest")), (200, image.digest), self.seed)
            _, _, expected = self.origin.content.manifest(REPO, "moving") or ("", "", b"")
            self.assertEqual((answer.body, answer.complete), (expected, True), self.seed)

    async def test_evicted(self) -> None:
        """Killed while an administrator deletes what there is, whatever it is, in the middle of fills."""
        self.origin.fault(Fault(rate=RATE), "blob", times=None)
        blobs = {self.origin.content.add_blob(REPO, data): data for data in (noise(8 * MIB, n) for n in range(3))}
        for _ in range(2 * TIMES):
            answers = [(await self.asked(blob_path(digest)), data) for digest, data in blobs.items()]
            await pause(self.random.uniform(0.0, 0.4))
            for each in self.random.sample(["blobs", "ingest", "registries"], 2):
                await deleted(self.root / each)
            await pause(self.random.uniform(0.0, 0.2))
            await self.kill()
            for answer, data in answers:
                await answer.end()
                self.assertTrue(answer.raw == data[: len(answer.raw)], f"wrong bytes, seed {self.seed}")
            for digest, data in blobs.items():
                await self.whole(digest, data)


async def deleted(directory: Path) -> None:
    """Delete all files below a directory, as cron jobs do."""
    await getProcessOutput("/usr/bin/find", [str(directory), "-type", "f", "-delete"], errortoo=True)
