"""Back-pressure, from the one who takes a body to the origin."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from crcache.errors import BodyCut
from crcache.settings import UpstreamSettings
from crcache.testing.certificates import Authority
from tests.upstream.harness import NAME, Taker, UpstreamCase, eventually, later

#: More than the sockets' buffers on both sides hold.
_MUCH = 32 << 20


class Pausing(UpstreamCase):
    """Back-pressure reaches the origin."""

    def big(self, tls: bool = False) -> None:
        authority = Authority()
        self.fake = self.registry(tls=authority.context() if tls else None)
        self.image = self.fake.add_image(NAME, "2.0", [_MUCH])
        trust: dict[str, Any] = {"ca": authority.write(self.directory())} if tls else {}
        self.clock = Clock()
        settings = UpstreamSettings(stall_timeout=8.0)
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=settings, **trust)

    async def test_pause(self) -> None:
        """A paused body is not read on: the origin cannot send it all. However long the pause is, it is no stall."""
        self.big()
        await self._pause()

    async def test_pause_tls(self) -> None:
        """The same through TLS."""
        self.big(tls=True)
        await self._pause()

    async def _pause(self) -> None:
        answer = await self.client.ask(self.blob(0))
        taker = Taker(pause_after=1)
        done = answer.deliver(taker)
        await taker.first
        await later(0.3)
        self.assertLess(taker.count, 4 << 20)
        self.assertLess(self.fake.requests[0].sent, 20 << 20)
        for _ in range(20):
            self.clock.advance(8.0)
        self.assertNoResult(done)
        taker.producer.resumeProducing()
        await done
        self.assertEqual(taker.count, _MUCH)

    async def test_pause_at_registration(self) -> None:
        """A consumer that pauses at once gets at most what had come already, until it resumes."""
        self.big()
        answer = await self.client.ask(self.blob(0))
        taker = Taker()
        register = taker.registerProducer

        def paused(producer: object, streaming: bool) -> None:
            register(producer, streaming)
            taker.producer.pauseProducing()

        taker.registerProducer = paused  # type: ignore[method-assign]
        done = answer.deliver(taker)
        await later(0.2)
        self.assertLess(taker.count, 4 << 20)
        taker.producer.resumeProducing()
        await done
        self.assertEqual(taker.count, _MUCH)

    async def test_stopped(self) -> None:
        """A consumer that stops its producer ends the connection."""
        self.big()
        answer = await self.client.ask(self.blob(0))
        taker = Taker()
        taker.first.addCallback(lambda _: taker.producer.stopProducing())
        with self.assertRaises(BodyCut):
            await answer.deliver(taker)
        await eventually(lambda: self.fake.requests[0].done)
        self.assertEqual(taker.events[-1], "unregister")

    async def test_consumer_fails(self) -> None:
        """A consumer that raises gets its own error back, and no more bytes."""
        self.big()
        answer = await self.client.ask(self.blob(0))

        def fail() -> None:
            raise ZeroDivisionError

        taker = Taker(on_write=fail)
        with self.assertRaises(ZeroDivisionError):
            await answer.deliver(taker)
        self.assertEqual(len(taker.pieces), 1)
        await eventually(lambda: self.fake.requests[0].done)
