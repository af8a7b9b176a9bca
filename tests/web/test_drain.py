"""L{Site.drain}: how connections end when the daemon stops, over real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS

from crcache.facts import Verdict
from crcache.flow.carry import Means
from crcache.flow.sender import Sender
from crcache.grammar.reference import DOCKER_IO
from crcache.outcomes import Outcome
from crcache.testing.certificates import Authority
from crcache.testing.fakes import MemoryBody
from crcache.web import channel, drain
from crcache.web.site import Site
from crcache.web.v2 import V2
from crcache.workers import Inline
from tests.flow.sending import GrowingBody
from tests.web.cases import pause, reactor
from tests.web.harness import BLOB_PATH, DATA, WebCase, Wire, blob, parse_reply, request

BIG = bytes(range(256)) * 4096 * 8


class DrainCase(WebCase):
    """A site whose moments are short.

    @ivar site: what is drained.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(drain, "FRESH", 0.3)
        self.patch(channel, "PARTING", 0.3)
        self.site = Site(V2(self.cache, self.sender, self.meter, reactor, DOCKER_IO), reactor)
        self.serve(self.site)

    async def held_up(self, *more: bytes) -> tuple[Wire, Deferred[Outcome]]:
        """A connection whose request the cache has not answered yet."""
        waiting: Deferred[Any] = Deferred()
        self.answer_with(waiting)
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False) + b"".join(more))
        await self.until(lambda: self.site.busy == 1)
        return wire, waiting

    async def begun(self) -> tuple[Wire, MemoryBody]:
        """A connection on which a body's first half is there."""
        body = MemoryBody(DATA[:500], len(DATA), Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(DATA[:400])
        return wire, body

    async def kept_alive(self) -> Wire:
        """A connection that has had an answer."""
        self.answer_with(blob())
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(DATA)
        await self.until(lambda: self.site.busy == 0)
        return wire

    async def until(self, condition: Any) -> None:
        """Wait for it, some seconds at most."""
        for _ in range(400):
            if condition():
                return
            await pause(0.01)
        self.fail("it never came about")

    def assertClosed(self, wire: Wire) -> None:
        """The connection ended in an orderly way."""
        assert wire.lost is not None
        self.assertIsNotNone(wire.lost.check(ConnectionDone), wire.lost)

    def assertCut(self, wire: Wire) -> None:
        """It ended, in the middle of its answer."""
        self.assertClosed(wire)
        head, _, body = wire.received.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d\r\n" % len(DATA), head + b"\r\n")
        self.assertLess(len(body), len(DATA))

    def assertReset(self, wire: Wire) -> None:
        """The connection was broken off."""
        assert wire.lost is not None
        self.assertIsNotNone(wire.lost.check(ConnectionLost), wire.lost)


class DrainTests(DrainCase):
    """Plain connections."""

    async def test_nobody(self) -> None:
        """Without connections it is over at once, however often it is asked for."""
        for _ in range(2):
            self.successResultOf(self.site.drain(10))
        self.assertEqual((self.site.connections, self.site.busy), (0, 0))

    async def test_counts(self) -> None:
        """Connections and requests in flight are counted."""
        await self.kept_alive()
        _, waiting = await self.held_up()
        self.assertEqual((self.site.connections, self.site.busy), (2, 1))
        waiting.callback(blob())
        await self.until(lambda: self.site.busy == 0)
        await self.site.drain(5)
        self.assertEqual(self.site.connections, 0)

    async def test_idle(self) -> None:
        """An idle connection is closed at once, in an orderly way."""
        wire = await self.kept_alive()
        before = reactor.seconds()
        await self.site.drain(5)
        self.assertLess(reactor.seconds() - before, 0.28)
        await wire.closed
        self.assertClosed(wire)

    async def test_idle_next_request(self) -> None:
        """A request that meets the end of its connection is met by that end, not by a reset or half an answer."""
        wire = await self.kept_alive()
        wire.readConnectionLost = lambda: None  # type: ignore[attr-defined]
        received = len(wire.received)
        sock: socket.socket = wire.transport.getHandle()  # type: ignore[union-attr]
        wire.transport.stopReading()  # type: ignore[union-attr]
        draining = self.site.drain(5)
        await self.until(lambda: sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"" if _readable(sock) else 0)
        sock.send(request(BLOB_PATH))
        await pause(0.05)
        self.assertEqual(sock.recv(100), b"")
        self.assertEqual(len(wire.received), received)
        wire.transport.startReading()  # type: ignore[union-attr]
        await draining
        await wire.closed
        self.assertClosed(wire)

    async def test_idle_unread(self) -> None:
        """A request that has been sent, but not read yet, when it begins is answered as any other."""
        wire = await self.kept_alive()
        self.answer_with(blob())
        wire.transport.getHandle().send(request(BLOB_PATH, close=False))  # type: ignore[union-attr]
        await self.site.drain(5)
        await wire.closed
        self.assertEqual(wire.received.count(DATA), 2)
        self.assertEqual(wire.received.count(b"Connection: close\r\n"), 1)

    async def test_fresh(self) -> None:
        """A fresh connection's first request is answered in full, and is its last; HTTP/1.0's too."""
        for version in ("HTTP/1.1", "HTTP/1.0"):
            wire = await self.connect()
            await self.until(lambda: self.site.connections == 1)
            draining = self.site.drain(5)
            await pause(0.1)
            self.answer_with(blob())
            wire.write(request(BLOB_PATH, version=version, close=False))
            reply = parse_reply(await wire.closed)
            self.assertEqual((reply.status, reply.body, reply.one("Connection")), (200, DATA, "close"))
            self.assertClosed(wire)
            await draining

    async def test_fresh_silent(self) -> None:
        """A fresh connection without a request is closed when its moment is over."""
        wire = await self.connect()
        await self.until(lambda: self.site.connections == 1)
        draining = self.site.drain(5)
        await pause(0.15)
        self.assertIsNone(wire.lost)
        await draining
        await wire.closed
        self.assertClosed(wire)
        self.assertEqual(wire.received, b"")

    async def test_late(self) -> None:
        """A connection that is accepted after it began counts as fresh; a request in pieces is waited for."""
        first = await self.connect()
        await self.until(lambda: self.site.connections == 1)
        draining = self.site.drain(5)
        wire = await self.connect()
        data = request(BLOB_PATH, close=False)
        wire.write(data[:20])
        await pause(0.1)
        wire.write(data[20:])
        self.assertEqual(parse_reply(await wire.closed).one("Connection"), "close")
        await draining
        await first.closed

    async def test_head_not_written(self) -> None:
        """An answer whose head has not been written says that it is the last; a refusal does too."""
        for result in (blob(), RuntimeError("broken")):
            wire, waiting = await self.held_up()
            draining = self.site.drain(5)
            await pause(0.1)
            self.assertIsNone(wire.lost)
            waiting.callback(result) if not isinstance(result, Exception) else waiting.errback(result)
            reply = parse_reply(await wire.closed)
            self.assertEqual(reply.one("Connection"), "close")
            self.assertEqual(reply.status, 500 if isinstance(result, Exception) else 200)
            self.assertClosed(wire)
            await draining
        self.flushLoggedErrors(RuntimeError)

    async def test_head_written(self) -> None:
        """A body in flight comes whole, and its connection is closed behind it."""
        wire, body = await self.begun()
        draining = self.site.drain(5)
        await pause(0.1)
        self.assertEqual(self.site.busy, 1)
        body.grow(DATA[500:])
        body.judge(Verdict.VERIFIED)
        reply = parse_reply(await wire.closed)
        self.assertEqual((reply.body, reply.one("Connection")), (DATA, None))
        self.assertClosed(wire)
        await draining

    async def test_time_is_up(self) -> None:
        """A body that has not been sent by then ends short of what its head announced, which containerd resumes while a
        reset fails its pull. What has not been begun is reset. It takes no longer than told.
        """
        wire, _ = await self.begun()
        waits, _ = await self.held_up()
        before = reactor.seconds()
        await self.site.drain(0.2)
        self.assertLess(reactor.seconds() - before, 1)
        await wire.closed
        await waits.closed
        self.assertCut(wire)
        self.assertReset(waits)
        self.assertEqual(waits.received, b"")

    async def test_hurried(self) -> None:
        """Asked again with less time, it takes less; asked with more, no more. Both are told of the end."""
        wire, _ = await self.begun()
        first = self.site.drain(60)
        second = self.site.drain(120)
        self.assertNoResult(first)
        await self.site.drain(0)
        await first
        await second
        await wire.closed
        self.assertCut(wire)

    async def test_no_time(self) -> None:
        """Without any time idle connections still end in an orderly way."""
        wire = await self.kept_alive()
        await self.site.drain(0)
        await wire.closed
        self.assertClosed(wire)

    async def test_pipelined(self) -> None:
        """Of requests in a row the one at hand is answered, and those behind it are not begun."""
        second = request("/v2/second/manifests/a?ns=docker.io", close=False)
        wire, waiting = await self.held_up(second)
        draining = self.site.drain(5)
        waiting.callback(blob())
        reply = parse_reply(await wire.closed)
        self.assertEqual((reply.body, reply.one("Connection")), (DATA, "close"))
        self.assertClosed(wire)
        self.assertEqual(len(self.cache.asks), 1)
        await draining

    async def test_client_stays(self) -> None:
        """A client that keeps its end open does not keep it from ending."""
        wire = await self.kept_alive()
        wire.transport.stopReading()  # type: ignore[union-attr]
        before = reactor.seconds()
        await self.site.drain(30)
        self.assertLess(reactor.seconds() - before, 2)

    async def test_slow_reader(self) -> None:
        """An answer that has been handed over in full, but not been taken, ends short when the time is up."""
        self.answer_with(blob(MemoryBody(BIG)))
        wire = await self.connect()
        wire.transport.pauseProducing()  # type: ignore[union-attr]
        wire.write(request(BLOB_PATH, close=False))
        await self.until(lambda: self.cache.asks and self.site.busy == 0)
        await self.site.drain(0.5)
        wire.transport.resumeProducing()  # type: ignore[union-attr]
        await wire.closed
        self.assertClosed(wire)
        self.assertLess(len(wire.received), len(BIG))

    async def test_slow_reader_of_a_part(self) -> None:
        """One that is still being written, through a buffer of our own, ends short too and is not reset."""
        data = DATA * (1 + len(BIG) // len(DATA))
        for size, end in ((len(data), self.assertClosed), (None, self.assertReset)):
            body = MemoryBody(data[:-1], size, Verdict.FILLING)
            self.answer_with(blob(body))
            wire = await self.connect()
            wire.transport.pauseProducing()  # type: ignore[union-attr]
            # HTTP/1.0 has no chunks: without a length only a reset tells that it was not the end.
            wire.write(request(BLOB_PATH, version="HTTP/1.0", close=False))
            await self.until(lambda: self.site.busy == 1)
            await pause(0.1)
            draining = self.site.drain(0.1)
            await pause(0.6)
            self.assertEqual((self.site.connections, self.site.busy), (0, 0))
            await draining
            wire.transport.resumeProducing()  # type: ignore[union-attr]
            await wire.closed
            end(wire)
            self.assertLess(len(wire.received), len(data))


class BodyTests(DrainCase):
    """Bodies as they are really sent."""

    def setUp(self) -> None:
        super().setUp()
        self.body = GrowingBody(BIG, there=1 << 20)
        self.addCleanup(self.body.close) if hasattr(self.body, "close") else None
        self._ports.clear()
        sender = Sender(Means(Inline(), Inline(), reactor, lambda _: None))
        self.site = Site(V2(self.cache, sender, self.meter, reactor, DOCKER_IO), reactor)
        self.serve(self.site)

    async def _drained(self, endpoint: IStreamClientEndpoint) -> None:
        self.answer_with(blob(self.body))  # type: ignore[arg-type]
        wire = Wire()
        await connectProtocol(endpoint, wire)
        self.addCleanup(wire.abort)
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(b"\r\n\r\n")
        draining = self.site.drain(8)
        await pause(0.05)
        self.assertIsNone(wire.lost)
        self.body.judge(Verdict.VERIFIED)
        self.body.grow(len(BIG))
        reply = parse_reply(await wire.closed.addTimeout(8, reactor))
        self.assertTrue(reply.body == BIG, len(reply.body))
        self.assertClosed(wire)
        await draining

    async def test_sendfile(self) -> None:
        """A connection whose body went out by sendfile closes behind it."""
        await self._drained(TCP4ClientEndpoint(reactor, "127.0.0.1", self._ports[0]))

    async def test_cut(self) -> None:
        """One whose time is up ends in the middle, and the body that grows on finds nobody to send to."""
        self.answer_with(blob(self.body))  # type: ignore[arg-type]
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(b"\r\n\r\n")
        await pause(0.1)
        await self.site.drain(0.1)
        await wire.closed
        self.assertClosed(wire)
        self.assertLess(len(wire.received), len(BIG))
        self.body.grow(2 << 20)
        self.body.judge(Verdict.VERIFIED)
        await pause(0.05)

    async def test_tls(self) -> None:
        """One with TLS does too."""
        authority = Authority()
        listener = reactor.listenSSL(0, self.site, authority.context(), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        trusting = optionsForClientTLS("localhost", Certificate.loadPEM(authority.certificate))
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getHost().port)
        await self._drained(wrapClientTLS(trusting, plain))

    async def test_tls_idle(self) -> None:
        """An idle one with TLS is closed, whether or not the client takes notice."""
        context = Authority().context()
        for deaf in (False, True):
            site = Site(V2(self.cache, self.sender, self.meter, reactor, DOCKER_IO), reactor)
            listener = reactor.listenSSL(0, site, context, interface="127.0.0.1")
            self.addCleanup(listener.stopListening)
            self.answer_with(blob())
            wire = Wire()
            port = listener.getHost().port
            await connectProtocol(SSL4ClientEndpoint(reactor, "127.0.0.1", port, CertificateOptions()), wire)
            self.addCleanup(wire.abort)
            wire.write(request(BLOB_PATH, close=False))
            await wire.until(DATA)
            if deaf:
                wire.transport.pauseProducing()  # type: ignore[union-attr]
            before = reactor.seconds()
            await site.drain(30)
            self.assertLess(reactor.seconds() - before, 2)
            if not deaf:
                await wire.closed
                self.assertClosed(wire)


def _readable(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True
