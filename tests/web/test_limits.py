"""What strangers cannot do to a listener: how much each may have, and for how long."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.identity import Identity, Secured
from crcache.outcomes import CacheStatus, Manifest, Pong
from crcache.testing.certificates import Authority
from crcache.testing.fakes import MemoryBody
from crcache.web.peers import Admission, Tally, peer_of
from crcache.web.site import IDLE, Site
from crcache.web.slow import HEAD
from crcache.web.v2 import V2
from tests.web.cases import pause, reactor
from tests.web.harness import BLOB_PATH, MANIFEST_PATH, MEDIA_TYPE, WebCase, Wire, blob, request

ANOTHER = "127.0.0.2"


class PeerTests(SynchronousTestCase):
    """Whom a client is counted under."""

    def test_addresses(self) -> None:
        """IPv4 addresses each by themselves, mapped ones too; of IPv6 the /64; sockets without addresses under none."""
        for host, expected in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::/64"),
        ]:
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertEqual(peer_of(kind("TCP", host, 1)), expected)
        for nobody in (UNIXAddress(b"/run/x"), UNIXAddress(None), None, object()):
            self.assertEqual(peer_of(nobody), "")

    def test_tally(self) -> None:
        """What has been added and removed leaves nothing, nobody's things but their number."""
        tally = Tally()
        for peer in ("a", "a", "b", "", ""):
            tally.add(peer)
        self.assertEqual((tally.total, tally.of("a"), tally.of(""), len(tally)), (5, 2, 0, 2))
        for peer in ("a", "", "b", "a", ""):
            tally.remove(peer)
        self.assertEqual((tally.total, tally.of("a"), len(tally)), (0, 0, 0))


class LimitCase(WebCase):
    """A site with limits.

    @ivar refused: why connections were.
    """

    def setUp(self) -> None:
        super().setUp()
        self.most, self.each, self.requests = 1000, 1000, 1000
        self.refused: list[str] = []
        self.admission = Admission(lambda: self.most, lambda: self.each, self.refused.append)
        self.v2 = V2(self.cache, self.sender, self.meter, reactor, DOCKER_IO, lambda: self.requests)
        self.site = Site(self.v2, reactor, self.admission)

    def listen(self, cache: Any = None) -> int:
        if not self._ports:
            self.serve(self.site)
        return self._ports[0]

    async def connect_from(self, host: str) -> Wire:
        """A connection from another address."""
        wire = Wire()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.listen(), bindAddress=(host, 0))
        await connectProtocol(endpoint, wire)
        self.addCleanup(wire.abort)
        return wire

    async def served(self, wire: Wire) -> None:
        """It is answered there."""
        wire.received = b""
        wire.write(request("/v2/", close=False))
        await wire.until(b"HTTP/1.1 ")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that is about to happen."""
        for _ in range(500):
            if condition():
                return
            await pause(0.01)
        self.fail("it never came about")

    def warnings(self) -> list[Any]:
        """Lines above info."""
        return [event for event in self.events if event["log_level"] > LogLevel.info]


class ConnectionTests(LimitCase):
    """How many there may be."""

    async def test_each(self) -> None:
        """One peer has no more than so many: the next is closed at once, and another peer's is not; with one gone
        there is room again."""
        self.each = 3
        self.answer_with(Pong())
        wires = [await self.connect() for _ in range(3)]
        for wire in wires:
            await self.served(wire)
        self.assertEqual(await (await self.connect()).closed, b"")
        self.assertEqual(self.refused, ["connections-per-peer"])
        await self.served(await self.connect_from(ANOTHER))
        wires[0].abort()
        await self.until(lambda: self.admission.tally.of("127.0.0.1") == 2)
        await self.served(await self.connect())
        (line,) = self.warnings()
        self.assertEqual((line["event"], line["client"]), (events.CONNECTIONS_REFUSED, "127.0.0.1"))

    async def test_all(self) -> None:
        """All together have no more than so many."""
        self.most = 3
        self.answer_with(Pong())
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            await self.served(await self.connect_from(host))
        self.assertEqual(await (await self.connect()).closed, b"")
        self.assertEqual((self.refused, self.warnings()[0]["event"]), (["connections"], events.CONNECTIONS_REFUSED))
        self.most = 4
        await self.served(await self.connect())

    async def test_unix(self) -> None:
        """Who comes by a UNIX socket is counted in all alone."""
        self.each, self.most = 1, 3
        self.answer_with(Pong())
        path = self.mktemp()[-60:].replace("/", "-")
        listener = reactor.listenUNIX(path, self.site)
        self.addCleanup(listener.stopListening)
        for _ in range(3):
            wire = Wire()
            await connectProtocol(UNIXClientEndpoint(reactor, path), wire)
            self.addCleanup(wire.abort)
            await self.served(wire)
        wire = Wire()
        await connectProtocol(UNIXClientEndpoint(reactor, path), wire)
        self.assertEqual(await wire.closed, b"")
        self.assertEqual(self.refused, ["connections"])

    async def test_tls(self) -> None:
        """So it is with TLS, before the handshake: a connection costs no more than it does in the clear."""
        self.each = 2
        authority = Authority()
        identity: Any = authority.context()
        listener = reactor.listenTCP(0, Secured(Identity(identity), self.site), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        self._ports.append(listener.getHost().port)
        for _ in range(2):
            await self.connect()
        self.assertEqual(await (await self.connect()).closed, b"")
        self.assertEqual(self.refused, ["connections-per-peer"])
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_counted_exactly(self) -> None:
        """Two thousand connections, opened and closed in every manner, leave nothing."""
        self.most = self.each = self.requests = 4000
        self.answer_with(blob(MemoryBody(b"x" * 100, 200, Verdict.FILLING)))
        port = self.listen()
        manners: list[tuple[bytes, bool]] = [
            (b"", False),
            (b"", True),
            (b"GET /v2/ HT", False),
            (b"GET /v2/ HT", True),
            (b"\x16\x03\x01", True),
            (b"nonsense\r\n\r\n", False),
            (b"GET /v2/ HTTP/1.1\r\n\r\n", False),
            (b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", True),
            (request("/v2/x"), False),
            (request("/v2/x", close=False) * 3, True),
            (request(BLOB_PATH, close=False), True),
            (request(BLOB_PATH, close=False) * 2, False),
        ]
        for _ in range(2004 // (len(manners) * 3)):
            opened = []
            for data, reset in manners * 3:
                client = socket.create_connection(("127.0.0.1", port))
                opened.append((client, reset))
                client.sendall(data)
            await pause(0)
            for client, reset in opened:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            await pause(0)
        await self.until(lambda: self.admission.tally.total == 0)
        await self.until(lambda: self.v2.tally.total == 0)
        self.assertEqual((len(self.admission.tally), len(self.v2.tally), self.site.connections), (0, 0, 0))
        self.assertEqual(self.refused, [])


class RequestTests(LimitCase):
    """How many requests are worked at."""

    async def held_up(self, wire: Wire) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.answer_with(waiting)
        wire.write(request(BLOB_PATH, close=False))
        before = self.v2.tally.total
        await self.until(lambda: self.v2.tally.total > before)
        return waiting

    async def test_each(self) -> None:
        """One peer has no more than so many at once: the next gets a 503 that says so, on a connection that goes on;
        another peer is served."""
        self.requests = 2
        waiting = [await self.held_up(await self.connect()) for _ in range(2)]
        self.answer_with(blob())
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False))
        received = await wire.until(b"}]}")
        head, _, body = received.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
        self.assertIn(b"Retry-After: 1", head)
        (error,) = json.loads(body)["errors"]
        self.assertEqual((error["code"], error["message"][:11]), ("UNAVAILABLE", "2 requests "))
        other = await self.connect_from(ANOTHER)
        other.write(request(BLOB_PATH, close=False))
        await other.until(b"HTTP/1.1 200 ")
        waiting[0].callback(blob())
        await self.until(lambda: self.v2.tally.of("127.0.0.1") == 1)
        wire.write(request(BLOB_PATH, close=False))
        await wire.until(b"HTTP/1.1 200 ")
        waiting[1].callback(blob())

    async def test_gone(self) -> None:
        """Who asks and goes away has what he asked for counted as long as somebody works at it."""
        self.requests = 1
        wire = await self.connect()
        waiting = await self.held_up(wire)
        wire.abort()
        await self.until(lambda: self.site.connections == 0)
        self.answer_with(blob())
        self.assertEqual((await self.ask(BLOB_PATH)).status, 503)
        waiting.callback(blob())
        self.assertEqual((await self.ask(BLOB_PATH)).status, 200)
        await self.until(lambda: self.v2.tally.total == 0)


class SlowTests(LimitCase):
    """Requests that come a byte at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.site = Site(self.v2, self.clock, self.admission)
        self.answer_with(Pong())

    async def drip(self, wire: Wire, data: bytes) -> int:
        """A byte each second, until the connection ends. Returns how many seconds that took."""
        for second, byte in enumerate(data):
            wire.write(bytes([byte]))
            await pause(0.001)
            self.clock.advance(1)
            await pause(0.001)
            if wire.lost is not None:
                return second + 1
        self.fail("it was never cut")

    async def test_first(self) -> None:
        """A first request that comes a byte a second is cut when its time is over, whatever there is of it."""
        wire = await self.connect()
        self.assertEqual(await self.drip(wire, b"GET /v2/ HTTP/1.1\r\nHost: cache\r\nX-A: aaaaaaaaaaaaaa\r\n"), HEAD)
        self.assertEqual((wire.received, self.refused, self.site.connections), (b"", ["slow"], 0))
        self.assertEqual([event["event"] for event in self.events if "event" in event], [events.CLIENT_SLOW])
        self.assertEqual(self.warnings(), [])

    async def test_later(self) -> None:
        """So is a later one; the pause before it has nothing to do with it."""
        wire = await self.connect()
        await self.served(wire)
        for _ in range(2):
            self.clock.advance(IDLE - 10)
            await pause(0.001)
            await self.served(wire)
        self.assertEqual(await self.drip(wire, b"GET /v2/ HTTP/1.1\r\n" + b"X: y\r\n" * 9), HEAD)

    async def test_in_time(self) -> None:
        """One that comes in pieces, but in time, is answered; the next one has as long."""
        wire = await self.connect()
        for _ in range(3):
            for piece in (b"GET /v2/ HT", b"TP/1.1\r\nHo", b"st: x\r\n", b"\r\n"):
                await pause(0.005)
                self.clock.advance(HEAD / 5)
                wire.write(piece)
            await wire.until(b"HTTP/1.1 200 ")
            wire.received = b""
        self.assertEqual(self.refused, [])

    async def test_nothing(self) -> None:
        """A connection on which nothing is ever asked ends then, too. Go's clients have many of those: not a word."""
        wire = await self.connect()
        await pause(0.005)
        self.clock.advance(HEAD + 1)
        self.assertEqual(await wire.closed, b"")
        self.assertEqual((self.refused, [event for event in self.events if "event" in event]), ([], []))

    async def test_long_answer(self) -> None:
        """However long an answer takes, and whatever has come of the next request meanwhile, it is not cut; the rest
        of that has its time when it is that one's turn."""
        waiting: Deferred[Any] = Deferred()
        self.answer_with(waiting)
        wire = await self.connect()
        wire.write(request(BLOB_PATH, close=False) + b"GET /v2/ HT")
        await self.until(lambda: self.v2.tally.total == 1)
        self.clock.advance(HEAD * 100)
        await pause(0.005)
        self.assertIsNone(wire.lost)
        self.answer_with(Pong())
        waiting.callback(Pong())
        await wire.until(b"{}")
        self.assertEqual(await self.drip(wire, b"TP/1.1\r\n" + b"X: y\r\n" * 9), HEAD)

    async def test_tls(self) -> None:
        """A handshake that comes to nothing is cut likewise."""
        identity: Any = Authority().context()
        listener = reactor.listenTCP(0, Secured(Identity(identity), self.site), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        self._ports.append(listener.getHost().port)
        wire = await self.connect()
        self.assertEqual(await self.drip(wire, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30)), HEAD)
        self.assertEqual((self.refused, self.flushLoggedErrors()), (["slow"], []))

    async def test_nothing_tls(self) -> None:
        """One that is made ahead, with its handshake, ends without a word as well."""
        authority = Authority()
        identity: Any = authority.context()
        listener = reactor.listenTCP(0, Secured(Identity(identity), self.site), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        trusted = Certificate.loadPEM(authority.certificate)
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getHost().port)
        wire: Any = Wire()
        await connectProtocol(wrapClientTLS(optionsForClientTLS("localhost", trusted), tcp), wire)
        await self.until(lambda: wire.transport.getHandle().get_peer_finished())
        await pause(0.05)
        self.clock.advance(HEAD + 1)
        await wire.closed
        self.assertEqual((self.refused, [event for event in self.events if "event" in event]), ([], []))


class HeadTests(LimitCase):
    """How large a request's head may be."""

    async def test_large(self) -> None:
        """16 KiB in all, whatever they consist of, and a hundred lines; beyond that the answer is a 400 in the
        registry's JSON, and the connection ends."""
        self.answer_with(Pong())
        first = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"
        for head, status in [
            (first + b"".join(b"X-%d: %s\r\n" % (count, b"y" * 290) for count in range(50)), 200),
            (first + b"".join(b"X-%d: %s\r\n" % (count, b"y" * 1000) for count in range(17)), 400),
            (first + b"X: " + b"y" * 15000 + b"\r\n", 200),
            (first + b"X: " + b"y" * 17000 + b"\r\n", 400),
            (first + b"X: y\r\n" + b" " + b"y" * 9000 + b"\r\n " + b"y" * 9000 + b"\r\n", 400),
            (b"GET /v2/?" + b"y" * 17000 + b" HTTP/1.1\r\nHost: x\r\n", 400),
            (first + b"X: y\r\n" * 99, 200),
            (first + b"X: y\r\n" * 100, 400),
            (first + b"X: y\r\n" * 3000, 400),
        ]:
            wire = await self.connect()
            wire.write(head + b"\r\n")
            received = await (wire.closed if status == 400 else wire.until(b"{}"))
            wire.abort()
            self.assertTrue(received.startswith(b"HTTP/1.1 %d " % status), (head[:60], received[:60]))
            if status == 400:
                self.assertEqual(json.loads(received.partition(b"\r\n\r\n")[2])["errors"][0]["code"], "UNSUPPORTED")


class PipelineTests(LimitCase):
    """Clients that ask and ask, and take nothing."""

    SIZE = 1 << 20
    COUNT = 300

    def setUp(self) -> None:
        super().setUp()
        data = bytes(self.SIZE)
        self.answer_with(Manifest(Digest.of(data), MEDIA_TYPE, len(data), data, cache=CacheStatus.HIT))

    def buffered(self) -> int:
        """Bytes that the server holds for its one client."""
        (channel,) = self.site.connected._timers
        transport: Any = channel.transport
        raw = getattr(transport, "transport", transport)
        held: int = len(raw.dataBuffer) + raw._tempDataLen + sum(map(len, channel._dataBuffer)) + len(channel._buffer)
        return held

    async def unread(self, wire: Wire) -> None:
        """Ask often, take nothing; then take everything."""
        wire.transport.pauseProducing()  # type: ignore[union-attr]
        wire.write(request(MANIFEST_PATH, close=False) * self.COUNT)
        await self.until(lambda: self.cache.asks)
        await pause(0.2)
        self.assertLess(len(self.cache.asks), 20)
        self.assertLess(self.buffered(), 2 * self.SIZE + (200 << 10))
        asked = len(self.cache.asks)
        await pause(0.05)
        self.assertEqual(len(self.cache.asks), asked)

    async def test_unread(self) -> None:
        """Of hundreds of requests at once no more are answered than the client takes; all are, once it does."""
        wire = await self.connect()
        await self.unread(wire)
        counter = _Counter(wire)
        wire.transport.resumeProducing()  # type: ignore[union-attr]
        await self.until(lambda: counter.count > self.COUNT * self.SIZE)
        self.assertEqual(len(self.cache.asks), self.COUNT)

    async def test_unread_tls(self) -> None:
        """With TLS as well."""
        authority = Authority()
        identity: Any = authority.context()
        listener = reactor.listenTCP(0, Secured(Identity(identity), self.site), interface="127.0.0.1")
        self.addCleanup(listener.stopListening)
        wire = Wire()
        trusted = optionsForClientTLS("localhost", Certificate.loadPEM(authority.certificate))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getHost().port)
        await connectProtocol(wrapClientTLS(trusted, endpoint), wire)
        self.addCleanup(wire.abort)
        results = self.cache.results
        self.answer_with(Pong())
        await self.served(wire)
        self.cache.asks.clear()
        self.cache.results = results
        await self.unread(wire)

    async def test_errors(self) -> None:
        """So it is with errors, however small."""
        self.answer_with(Pong())
        wire = await self.connect()
        await self.served(wire)
        (channel,) = self.site.connected._timers
        # What the system takes in between is not to be waited for.
        for end, option in ((channel, socket.SO_SNDBUF), (wire, socket.SO_RCVBUF)):
            transport: Any = end.transport
            transport.getHandle().setsockopt(socket.SOL_SOCKET, option, 4096)
        wire.transport.pauseProducing()  # type: ignore[union-attr]
        wire.write(request(f"/v2/{'x' * 200}/nonsense", close=False) * 10_000)
        await self.until(self.request_events)
        before = 0
        while len(self.request_events()) > before:
            before = len(self.request_events())
            self.assertLess(self.buffered(), 400 << 10)
            await pause(0.1)
        self.assertLess(before, 5_000, "it stops")

    async def test_sends_for_ever(self) -> None:
        """What comes behind a request while its answer is not taken is not read without end."""
        data = bytes(16 << 20)
        self.answer_with(Manifest(Digest.of(data), MEDIA_TYPE, len(data), data, cache=CacheStatus.HIT))
        wire = await self.connect()
        wire.transport.pauseProducing()  # type: ignore[union-attr]
        wire.write(request(MANIFEST_PATH, close=False))
        await self.until(lambda: self.cache.asks)
        wire.write(b"GET /v2/ HTTP/1.1\r\nX: y\r\n" * 1_000_000)
        await pause(0.3)
        self.assertLess(self.buffered(), len(data) + (200 << 10))


class _Counter:
    """Takes what comes in place of a wire's memory."""

    def __init__(self, wire: Wire) -> None:
        self.count = 0
        wire.dataReceived = self  # type: ignore[method-assign]

    def __call__(self, data: bytes) -> None:
        self.count += len(data)
