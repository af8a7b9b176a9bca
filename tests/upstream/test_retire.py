"""L{crcache.upstream.client.Upstream.retire}: an upstream that another takes the place of."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from crcache.errors import BodyCut, ShuttingDown
from crcache.settings import UpstreamSettings
from crcache.testing.auth import Tokens
from crcache.testing.certificates import Authority
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from crcache.upstream.client import Upstream
from tests.upstream.harness import Taker, UpstreamCase, eventually, later, password

#: Of the layer that is asked for.
SIZE = 300_000


def timers() -> set[Any]:
    """What the reactor will call some day."""
    net: Any = reactor
    return set(net.getDelayedCalls())


async def timers_so_far() -> set[Any]:
    """The same, with trial's own for this test, which it starts when the test first waits."""
    await later(0)
    return timers()


class Impolite(Protocol):
    """Answers, and then reads no more."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        transport.pauseProducing()


def fired(deferred: Deferred[None]) -> list[object]:
    """Filled when the Deferred fires."""
    results: list[object] = []
    deferred.addBoth(results.append)
    return results


def connections(registry: FakeRegistry) -> int:
    """How many are open, as the registry sees it."""
    assert registry.listener is not None
    return registry.listener.connections


class RetireTests(UpstreamCase):
    """Nothing that has begun is disturbed, and nothing is left over."""

    def origin(self) -> tuple[FakeRegistry, Upstream]:
        """A registry with TLS, whose connections end as awkwardly as any, and its upstream."""
        authority = Authority()
        registry = self.registry(tls=authority.context())
        return registry, self.upstream(registry.url, ca=authority.write(self.directory()))

    async def test_unused(self) -> None:
        """One that was never asked is gone at once."""
        _, upstream = self.origin()
        self.assertEqual(fired(upstream.retire()), [None])

    async def test_idle(self) -> None:
        """Idle connections are closed at once, also those of an origin that does not close its own end; with them go
        the timers."""
        registry, upstream = self.origin()
        before = await timers_so_far()
        for _ in range(2):
            await self.get(upstream, self.blob())
        self.assertEqual(connections(registry), 1)
        assert registry.listener is not None
        registry.listener.freeze()
        await upstream.retire()
        registry.listener.thaw()
        await eventually(lambda: connections(registry) == 0)
        await eventually(lambda: not timers() - before)

    async def test_in_flight(self) -> None:
        """An answer in flight goes on to its last byte, and only then its connection is closed, never kept."""
        registry, upstream = self.origin()
        before = await timers_so_far()
        rule = registry.fault(Fault(stall=100_000), "blob")
        answer = await upstream.ask(self.blob())
        taker = Taker()
        delivered = answer.deliver(taker)
        await taker.first
        gone = fired(upstream.retire())
        await later(0.05)
        self.assertEqual((gone, connections(registry)), ([], 1))
        rule.release()
        await delivered
        self.assertTrue(taker.body == registry.content.blobs[self.image.layers[1]])
        await eventually(lambda: gone == [None] and connections(registry) == 0)
        await eventually(lambda: not timers() - before)

    async def test_paused(self) -> None:
        """So does one whose consumer has paused it, however long."""
        registry, upstream = self.origin()
        taker = Taker(pause_after=1)
        answer = await upstream.ask(self.blob())
        delivered = answer.deliver(taker)
        gone = fired(upstream.retire())
        await later(0.05)
        self.assertEqual(gone, [])
        taker.producer.resumeProducing()
        await delivered
        self.assertEqual(taker.count, SIZE)
        await eventually(lambda: gone == [None])
        self.assertEqual(connections(registry), 0)

    async def test_in_plain(self) -> None:
        """The same without TLS, with one connection idle and one in use."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        rule = registry.fault(Fault(stall=100_000), "blob")
        held = await upstream.ask(self.blob())
        await self.get(upstream, self.blob())
        self.assertEqual(connections(registry), 2)
        gone = fired(upstream.retire())
        await eventually(lambda: connections(registry) == 1)
        rule.release()
        taker = Taker()
        await held.deliver(taker)
        self.assertEqual(taker.count, SIZE)
        await eventually(lambda: gone == [None] and connections(registry) == 0)

    async def test_question(self) -> None:
        """A question that waits for its answer gets it; also if it needs a token and further requests for that, which
        then go on connections of their own."""
        registry = self.registry(Tokens(users={"puller": "secret1"}))
        upstream = self.upstream(registry.url, credential=password())
        rule = registry.fault(Fault(hold=True), "blob")
        asking = upstream.ask(self.blob())
        await eventually(lambda: registry.requests)
        gone = fired(upstream.retire())
        self.assertEqual(gone, [])
        rule.release()
        answer = await asking
        taker = Taker()
        await answer.deliver(taker)
        self.assertEqual((answer.status, taker.count), (200, SIZE))
        self.assertEqual([record.kind for record in registry.requests], ["blob", "token", "blob"])
        await eventually(lambda: gone == [None] and connections(registry) == 0)

    async def test_connecting(self) -> None:
        """One that is just being connected for is not cut off."""
        registry, upstream = self.origin()
        asking = upstream.ask(self.blob())
        gone = fired(upstream.retire())
        answer = await asking
        self.assertEqual(gone, [])
        taker = Taker()
        await answer.deliver(taker)
        self.assertEqual(taker.count, SIZE)
        await eventually(lambda: gone == [None] and connections(registry) == 0)

    async def test_impolite(self) -> None:
        """An origin that never answers TLS's farewell keeps no connection open, not even one that was to be closed
        after its only request anyway."""
        authority = Authority()
        net: Any = reactor
        port = net.listenSSL(0, Factory.forProtocol(Impolite), authority.context(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.registry()
        url = f"https://127.0.0.1:{port.getHost().port}"
        upstream = self.upstream(url, ca=authority.write(self.directory()))
        asking = upstream.ask(self.blob())
        gone = fired(upstream.retire())
        taker = Taker()
        await (await asking).deliver(taker)
        self.assertEqual(taker.body, b"ok")
        await eventually(lambda: gone == [None])

    async def test_queued(self) -> None:
        """A question that waits for its turn is put, and waited for, although no connection is open for it yet."""
        registry = self.registry()
        settings = UpstreamSettings(first_byte_timeout=6.0, max_connections=1)
        upstream = self.upstream(registry.url, settings=settings)
        first = await upstream.ask(self.blob())
        second = upstream.ask(self.blob())
        gone = fired(upstream.retire())
        first.abort()
        taker = Taker()
        await (await second).deliver(taker)
        self.assertEqual(taker.count, SIZE)
        await eventually(lambda: gone == [None] and connections(registry) == 0)

    async def test_late_question(self) -> None:
        """A question that comes after all is answered, and keeps no connection."""
        registry, upstream = self.origin()
        await self.get(upstream, self.blob())
        await upstream.retire()
        _, body = await self.get(upstream, self.blob())
        self.assertEqual(len(body), SIZE)
        await eventually(lambda: connections(registry) == 0)

    async def test_failing(self) -> None:
        """A body that breaks off, or that is not wanted any more, ends its connection as ever."""
        registry, upstream = self.origin()
        registry.fault(Fault(cut=1000), "blob")
        cut, unwanted = await upstream.ask(self.blob()), await upstream.ask(self.blob())
        gone = fired(upstream.retire())
        with self.assertRaises(BodyCut):
            await cut.deliver(Taker())
        self.assertEqual(gone, [])
        unwanted.abort()
        await eventually(lambda: gone == [None] and connections(registry) == 0)

    async def test_closed(self) -> None:
        """C{close} aborts what is left of a retired one, and then it is gone; no question is answered any more."""
        registry, upstream = self.origin()
        registry.fault(Fault(stall=100_000), "blob")
        answer = await upstream.ask(self.blob())
        taker = Taker()
        delivered = answer.deliver(taker)
        gone = [fired(upstream.retire()) for _ in range(2)]
        await taker.first
        closing = upstream.close()
        with self.assertRaises(BodyCut):
            await delivered
        await closing
        self.assertEqual(gone, [[None], [None]])
        await eventually(lambda: connections(registry) == 0)
        with self.assertRaises(ShuttingDown):
            await upstream.ask(self.blob())
