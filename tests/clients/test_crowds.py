"""Two hundred clients on one cold blob: one fetch, right bytes for everyone, and no memory for any of it."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually
from tests.clients.http import Answer, request
from tests.real.daemon import Daemon
from tests.web.cases import pause, reactor

MIB = 1 << 20
DATA = noise(6 * MIB + 99)
CLIENTS = 200
#: Bytes of heap and stacks that they may cost together.
ROOM = 40 * MIB

_VIEW = memoryview(DATA)


class Taster(Answer):
    """Compares what comes with what should, and keeps nothing of it.

    @ivar right: whether all so far was.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.right = True
        self._at = -1

    def dataReceived(self, data: bytes) -> None:
        """More of the answer."""
        super().dataReceived(data)
        for piece in self._pieces:
            if self._at < 0:
                span = self.one("Content-Range")
                self._at = 0 if span is None else int(span.removeprefix("bytes ").partition("-")[0])
            self.right = self.right and _VIEW[self._at : self._at + len(piece)] == piece
            self._at += len(piece)
        self._pieces.clear()

    async def end(self) -> Answer:
        """As L{Answer.end}, with the patience that a crowd needs."""
        await self._ended.addTimeout(CrowdTests.timeout, reactor)
        return self


class CrowdTests(ClientCase):
    """A crcache in a process of its own."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.target = blob_path(self.origin.content.add_blob(REPO, DATA))
        self.small = blob_path(self.origin.content.add_blob(REPO, b"small"))
        self.daemon = Daemon(self.directory(), {NAME: {"url": self.origin.url}})
        self.addCleanup(self.daemon.stop)

    def memory(self) -> int:
        """Bytes of heap and stacks that it has now."""
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{self.daemon.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    async def come(self, target: str, *headers: tuple[str, str]) -> Taster:
        """Another client."""
        client = Taster(request(target, *headers))
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.daemon.port), client)
        self.addCleanup(client.leave)
        return client

    async def crowd(self) -> tuple[list[Taster], list[Taster], list[Taster]]:
        """Those who take what comes, those who do not for now, and those who will leave."""
        ranges = [f"bytes={MIB}-{2 * MIB}", "bytes=77-", f"bytes=-{3 * MIB}", "bytes=0-0"]
        takers = [await self.come(self.target) for _ in range(CLIENTS - 60)]
        takers += [await self.come(self.target, ("Range", ranges[number % 4])) for number in range(20)]
        slow = [await self.come(self.target) for _ in range(20)]
        leavers = [await self.come(self.target) for _ in range(20)]
        for client in slow:
            client.pause()
        return takers, slow, leavers

    async def test_crowd(self) -> None:
        """Some take it all, some a part, some are slow, some leave: the origin sends it once, all that comes is right,
        and the memory stays what it was.
        """
        await (await self.come(self.small)).end()
        idle = most = self.memory()
        rule = self.origin.fault(Fault(stall=2 * MIB), "blob")
        takers, slow, leavers = await self.crowd()
        await gatherResults([Deferred.fromCoroutine(client.until(1)) for client in takers[:100]])
        for client in leavers:
            client.leave()
        rule.release()
        ending = gatherResults([Deferred.fromCoroutine(client.end()) for client in takers])
        while not ending.called:
            most = max(most, self.memory())
            await pause(0.02)
        await ending
        for client in slow:
            client.resume()
        await gatherResults([Deferred.fromCoroutine(client.end()) for client in slow])
        most = max(most, self.memory())
        for client in takers + slow:
            self.assertTrue(client.complete and client.right, (client.status, client.lines))
        for client in leavers:
            self.assertTrue(client.right)
        bodies = [record for record in self.origin.asked("blob", "GET") if self.target.startswith(record.path)]
        self.assertEqual(len([record for record in bodies if record.header("Range") is None]), 1)
        self.assertLessEqual(sum(record.sent for record in bodies), 1.1 * len(DATA))
        self.assertLess(most - idle, ROOM)
        # All of them are gone, and with them what they cost.
        await eventually(lambda: self.daemon.metrics("crcache_followers") == 0)
