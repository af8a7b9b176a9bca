"""L{crcache.flow.letting_go}: clients that take nothing, over real sockets, on a clock that the test turns."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from crcache import events
from crcache.facts import Verdict
from crcache.flow.carry import Means
from crcache.flow.letting_go import PATIENCE
from crcache.flow.sender import Sender
from crcache.grammar.digest import Digest
from crcache.testing.upstream import FakeAnswer
from crcache.web.site import Request
from tests.flow.sending import MIB, Client, GrowingBody, SendCase
from tests.web.cases import pause

#: More than the buffers of two sockets take.
DATA = os.urandom(MIB) * 10


class Sipper(Client):
    """Reads so much, and then no more.

    @ivar enough: how much that is, heads included.
    """

    enough = 1

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        super().dataReceived(data)
        if len(self.data) >= self.enough:
            self.tcp.pauseProducing()

    async def read(self, test: SendCase, more: int) -> None:
        """Read so much more, or to the end."""
        self.enough = len(self.data) + more
        self.tcp.resumeProducing()
        await test.until(lambda: len(self.data) >= self.enough or self.lost)


class LetGoTests(SendCase):
    """A client that stops reading, however it is sent to."""

    timeout = 30

    def setUp(self) -> None:
        """Send by another clock."""
        super().setUp()
        self.clock = Clock()
        self.sender = Sender(Means(self.workers, self.workers, self.clock, lambda _: None))

    def each(self) -> list[str]:
        """The ways of sending: from a file, in chunks, straight from an origin."""
        self.serve(GrowingBody.complete(DATA), path=b"/file")
        self.serve(GrowingBody.complete(DATA), 0, None, path=b"/chunks")

        def relay(request: Request) -> Deferred[int]:
            request.setHeader("Content-Length", str(len(DATA)))
            answer = FakeAnswer(200, Headers(), DATA, length=len(DATA), clock=cast(Any, reactor))
            return self.sender.relay(request, answer, Digest.of(DATA))

        self.bodies.handlers[b"/relay"] = relay
        return ["/file", "/chunks", "/relay"]

    async def stuck(self, path: str) -> Sipper:
        """A client that has read a little, and reads no more; the sockets' buffers are full."""
        client = Sipper()
        await connectProtocol(self.endpoint(), client)
        self.addCleanup(client.abort)
        client.tcp.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        client.ask(path)
        await self.until(lambda: client.data)
        await pause(0.2)
        return client

    def wait(self, seconds: float) -> None:
        """Let it pass."""
        for _ in range(round(seconds / 10)):
            self.clock.advance(10)

    async def test_let_go(self) -> None:
        """It is let go after some minutes, not before; the end is orderly, and short."""
        logged = self.logged()
        for path in self.each():
            client = await self.stuck(path)
            self.wait(PATIENCE - 10)
            await pause(0.02)
            result = self.bodies.results[-1]
            self.assertFalse(result.called, path)
            while not result.called:
                # The system's buffers may have been moving still.
                self.wait(PATIENCE / 2)
                await pause(0.02)
            self.assertLess(await result, len(DATA))
            await client.read(self, len(DATA) * 2)
            assert client.lost is not None
            client.lost.trap(ConnectionDone)
            self.assertLess(len(client.body), len(DATA))
            self.assertFalse(client.body.endswith(b"0\r\n\r\n"))
            self.assertEqual([each["event"] for each in logged], [events.CLIENT_LET_GO], path)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            logged.clear()

    async def test_slow(self) -> None:
        """One that reads a little now and then is served to its end."""
        for path in self.each():
            client = await self.stuck(path)
            for _ in range(3):
                await client.read(self, MIB)
                await pause(0.05)
                self.wait(PATIENCE - 10)
            client.enough = len(DATA) * 2
            client.tcp.resumeProducing()
            await self.bodies.results[-1]
            await self.until(lambda: len(client.body) >= len(DATA))  # noqa: B023
            self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_very_slow(self) -> None:
        """Also one that reads less than what would have the system ask for more."""
        client = await self.stuck(self.each()[0])
        for _ in range(4):
            await client.read(self, 128 << 10)
            await pause(0.1)
            self.wait(PATIENCE - 10)
        self.assertFalse(self.bodies.results[-1].called)

    async def test_nothing_to_take(self) -> None:
        """One for which there is nothing is not let go, however long it takes."""
        body = self.serve(GrowingBody(DATA, there=MIB))
        client = await self.begin()
        await self.settled(client, MIB)
        self.wait(3 * PATIENCE)
        body.judge(Verdict.VERIFIED)
        await self.until(client.answers)
        self.assertEqual(client.answers(), [DATA])

    async def test_left(self) -> None:
        """One that leaves is not looked for any more."""
        for path in self.each():
            client = await self.stuck(path)
            client.abort()
            await self.bodies.results[-1]
            self.assertEqual(self.clock.getDelayedCalls(), [])
