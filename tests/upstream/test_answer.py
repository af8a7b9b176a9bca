"""How bodies are delivered: whole, paused, cut, stalled, unwanted."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from zope.interface.verify import verifyObject

from crcache.errors import BodyCut
from crcache.interfaces import IAnswer
from crcache.settings import UpstreamSettings
from crcache.testing.certificates import Authority
from crcache.testing.script import Fault
from crcache.upstream.answer import KeptAnswer
from tests.upstream.harness import NAME, Taker, UpstreamCase, eventually, later

_BIG = 8_000_000


class Delivery(UpstreamCase):
    """The way of a body."""

    async def test_order(self) -> None:
        """The consumer is given a producer first, then bytes, then told that there is no more."""
        registry = self.registry()
        answer = await self.upstream(registry.url).ask(self.blob())
        taker = Taker()
        await answer.deliver(taker)
        self.assertEqual(taker.events, ["register", "write", "unregister"])

    async def test_empty(self) -> None:
        """A body of no bytes is complete."""
        registry = self.registry()
        registry.fault(Fault(body=b""), "blob")
        answer = await self.upstream(registry.url).ask(self.blob())
        self.assertEqual(answer.length, 0)
        taker = Taker()
        await answer.deliver(taker)
        self.assertEqual(taker.events, ["register", "unregister"])

    async def test_once(self) -> None:
        """A body is delivered once."""
        registry = self.registry()
        answer = await self.upstream(registry.url).ask(self.blob())
        await answer.deliver(Taker())
        with self.assertRaises(RuntimeError):
            await answer.deliver(Taker())

    async def test_chunked(self) -> None:
        """A chunked body has no length but an end of its own."""
        registry = self.registry()
        registry.fault(Fault(unsized="chunked"), "blob")
        answer, body = await self.get(self.upstream(registry.url), self.blob())
        self.assertIsNone(answer.length)
        self.assertEqual(len(body), 300_000)

    async def test_until_close(self) -> None:
        """A body that only the connection's orderly end ends is complete."""
        registry = self.registry()
        registry.fault(Fault(unsized="close"), "blob")
        answer, body = await self.get(self.upstream(registry.url), self.blob())
        self.assertIsNone(answer.length)
        self.assertEqual(len(body), 300_000)

    async def test_until_reset(self) -> None:
        """A body without a length whose connection is reset is cut."""
        registry = self.registry()
        registry.fault(Fault(unsized="close", cut=1000, reset=True), "blob")
        await self._cut(self.upstream(registry.url), 1000)

    async def test_cut(self) -> None:
        """A body that ends before its length is cut; what had come was passed on."""
        registry = self.registry()
        registry.fault(Fault(cut=1000), "blob")
        await self._cut(self.upstream(registry.url), 1000)
        registry.fault(Fault(cut=70_000, reset=True), "blob")
        await self._cut(self.upstream(registry.url), 70_000)
        registry.fault(Fault(unsized="chunked", cut=1000), "blob")
        await self._cut(self.upstream(registry.url), 1000)

    async def _cut(self, upstream: object, count: int) -> None:
        answer = await upstream.ask(self.blob())  # type: ignore[attr-defined]
        taker = Taker()
        with self.assertRaises(BodyCut):
            await answer.deliver(taker)
        self.assertEqual(taker.count, count)
        self.assertEqual(taker.events[-1], "unregister")

    async def test_longer(self) -> None:
        """What comes beyond the length is not passed on, and harms no later question."""
        registry = self.registry()
        registry.fault(Fault(claim=1000), "blob")
        upstream = self.upstream(registry.url)
        _, body = await self.get(upstream, self.blob())
        self.assertEqual(body, registry.content.blobs[self.image.layers[1]][:1000])
        _, body = await self.get(upstream, self.manifest())
        self.assertEqual(body, self.image.manifest)

    async def test_large(self) -> None:
        """A large body arrives whole through a consumer that pauses all the time."""
        registry = self.registry()
        image = registry.add_image(NAME, "2.0", [_BIG])
        self.image = image
        answer = await self.upstream(registry.url).ask(self.blob(0))

        def breathe() -> None:
            taker.producer.pauseProducing()
            later(0.001).addCallback(lambda _: taker.producer.resumeProducing())

        taker = Taker(on_write=breathe)
        await answer.deliver(taker)
        self.assertEqual(taker.body, registry.content.blobs[image.layers[0]])
        self.assertEqual(self.meter.bytes, _BIG)


class Stalling(UpstreamCase):
    """Bodies that stop coming."""

    async def test_stall(self) -> None:
        """A body of which nothing comes for the stall timeout is cut, and its connection closed."""
        clock = Clock()
        registry = self.registry()
        registry.fault(Fault(stall=1000), "blob")
        settings = UpstreamSettings(stall_timeout=8.0)
        answer = await self.upstream(registry.url, clock=clock, settings=settings).ask(self.blob())
        taker = Taker()
        done = answer.deliver(taker)
        await taker.first
        clock.pump([1.0] * 7)
        self.assertNoResult(done)
        clock.pump([1.0] * 4)
        with self.assertRaises(BodyCut):
            await done
        await eventually(lambda: registry.requests[0].done)

    async def test_slow_is_no_stall(self) -> None:
        """A body that comes slowly is whole in the end."""
        registry = self.registry()
        registry.fault(Fault(body=b"x" * 200_000, rate=400_000), "blob")
        settings = UpstreamSettings(stall_timeout=0.3)
        _, body = await self.get(self.upstream(registry.url, settings=settings), self.blob())
        self.assertEqual(len(body), 200_000)

    async def test_nothing_left_behind(self) -> None:
        """After a delivery no timer is left."""
        clock = Clock()
        registry = self.registry()
        await self.get(self.upstream(registry.url, clock=clock), self.blob())
        self.assertEqual(clock.getDelayedCalls(), [])


class Aborting(UpstreamCase):
    """Bodies that nobody wants any more."""

    async def test_before(self) -> None:
        """Aborting an answer closes its connection."""
        registry = self.registry()
        registry.fault(Fault(stall=1000), "blob")
        answer = await self.upstream(registry.url).ask(self.blob())
        answer.abort()
        answer.abort()
        await eventually(lambda: registry.requests[0].done)

    async def test_during(self) -> None:
        """Aborting during the delivery ends it at once, with the consumer told."""
        registry = self.registry()
        registry.fault(Fault(stall=1000), "blob")
        answer = await self.upstream(registry.url).ask(self.blob())
        taker = Taker()
        done = answer.deliver(taker)
        await taker.first
        answer.abort()
        self.failureResultOf(done, BodyCut)
        self.assertEqual(taker.events[-1], "unregister")
        await eventually(lambda: registry.requests[0].done)

    async def test_cancelled(self) -> None:
        """Cancelling the delivery aborts, and fails as cancelled."""
        registry = self.registry()
        registry.fault(Fault(stall=1000), "blob")
        answer = await self.upstream(registry.url).ask(self.blob())
        taker = Taker()
        done = answer.deliver(taker)
        await taker.first
        done.cancel()
        self.failureResultOf(done, CancelledError)
        await eventually(lambda: registry.requests[0].done)

    async def test_after(self) -> None:
        """Aborting after the delivery harms nobody who uses the connection since."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        first = await upstream.ask(self.blob())
        await first.deliver(Taker())
        registry.fault(Fault(stall=1000), "blob")
        second = await upstream.ask(self.blob())
        first.abort()
        taker = Taker()
        done = second.deliver(taker)
        await taker.first
        registry.script.clear()
        await done
        assert registry.listener is not None
        self.assertEqual((taker.count, registry.listener.accepted), (300_000, 1))

    async def test_small_answer(self) -> None:
        """Aborting an answer that is complete already leaves the connection for others."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        answer = await upstream.ask(self.manifest("no-such"))
        await later(0.05)
        answer.abort()
        await self.get(upstream, self.blob())
        assert registry.listener is not None
        self.assertEqual(registry.listener.accepted, 1)

    async def test_silent_peer(self) -> None:
        """Through TLS, a connection is closed without waiting for a peer that has stopped reading."""
        authority = Authority()
        registry = self.registry(tls=authority.context())
        registry.fault(Fault(stall=1000), "blob")
        upstream = self.upstream(registry.url, ca=authority.write(self.directory()))
        answer = await upstream.ask(self.blob())
        assert registry.listener is not None
        registry.listener.freeze()
        answer.abort()
        await upstream.close()
        registry.listener.thaw()
        await eventually(lambda: registry.requests[0].done)


class Kept(SynchronousTestCase):
    """An answer whose body is in memory."""

    def answer(self) -> KeptAnswer:
        return KeptAnswer(401, Headers(), b"no", lambda count: None)

    def test_delivers(self) -> None:
        """It behaves as any other."""
        answer = self.answer()
        verifyObject(IAnswer, answer)
        taker = Taker()
        self.successResultOf(answer.deliver(taker))
        self.assertEqual((answer.length, taker.body), (2, b"no"))
        self.assertEqual(taker.events, ["register", "write", "unregister"])
        answer.abort()

    def test_waits(self) -> None:
        """It waits for a consumer that pauses."""
        taker = Taker()
        register = taker.registerProducer

        def paused(producer: object, streaming: bool) -> None:
            register(producer, streaming)
            taker.producer.pauseProducing()

        taker.registerProducer = paused  # type: ignore[method-assign]
        done: Deferred[None] = self.answer().deliver(taker)
        self.assertNoResult(done)
        taker.producer.resumeProducing()
        self.successResultOf(done)

    def test_stopped(self) -> None:
        """A consumer that goes away is told that the body was cut."""
        taker = Taker()
        register = taker.registerProducer

        def stopped(producer: object, streaming: bool) -> None:
            register(producer, streaming)
            taker.producer.pauseProducing()
            taker.producer.stopProducing()

        taker.registerProducer = stopped  # type: ignore[method-assign]
        self.failureResultOf(self.answer().deliver(taker), BodyCut)
