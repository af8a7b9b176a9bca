"""Origins that fail for the moment are asked again, before whoever asked hears of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from crcache.errors import OriginUnreachable, ShuttingDown
from crcache.policy import tour
from crcache.settings import UpstreamSettings
from crcache.testing.script import Fault
from tests.upstream.harness import UpstreamCase, eventually, later

#: What an origin does for a moment.
PASSING = (*(Fault(status=status, body=b"down") for status in (500, 502, 503, 504)), Fault(hang_up=True))


class Again(UpstreamCase):
    """One URL."""

    async def test_twice(self) -> None:
        """An error that passes, or a connection that is closed before the answer, is nothing that one hears of."""
        for fault in PASSING:
            for query in (self._blob, self._head, self._manifest):
                registry = self.registry()
                registry.fault(fault, times=2)
                answer, _ = await self.get(self.upstream(registry.url), query())
                self.assertEqual((answer.status, len(registry.requests)), (200, 3), fault)

    def _blob(self) -> Any:
        return self.blob()

    def _head(self) -> Any:
        return self.blob(method="HEAD")

    def _manifest(self) -> Any:
        return self.manifest()

    async def test_not_for_ever(self) -> None:
        """What does not pass is told after the third time."""
        for fault in PASSING:
            registry = self.registry()
            registry.fault(fault, times=None)
            upstream = self.upstream(registry.url)
            if fault.hang_up:
                with self.assertRaises(OriginUnreachable):
                    await upstream.ask(self.blob())
            else:
                answer, body = await self.get(upstream, self.blob())
                self.assertEqual((answer.status, body), (fault.status, b"down"))
            self.assertEqual(len(registry.requests), 3)
            await eventually(lambda: all(record.done for record in registry.requests))  # noqa: B023

    async def test_refused(self) -> None:
        """A plain no, and nobody there, are not asked again."""
        for status in (400, 401, 403, 404, 408, 416, 429, 501):
            registry = self.registry()
            registry.fault(Fault(status=status), times=None)
            answer, _ = await self.get(self.upstream(registry.url), self.blob())
            self.assertEqual((answer.status, len(registry.requests)), (status, 1))

    async def test_in_a_slot_at_a_time(self) -> None:
        """What has failed is given up before it is asked for again: its slot is free."""
        registry = self.registry()
        registry.fault(Fault(status=503, body=b"x" * 100_000, stall=10), "blob", times=2)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=1, first_byte_timeout=3.0))
        answer, _ = await self.get(upstream, self.blob())
        self.assertEqual(answer.status, 200)

    async def test_elsewhere_first(self) -> None:
        """With several URLs the others are asked first; then those again, in the same order."""
        first = self.registry()
        second = self.registry(content=first.content)
        for registry in (first, second):
            registry.fault(Fault(status=502), "blob", times=None)
        upstream = self.upstream(first.url, second.url)
        answer, _ = await self.get(upstream, self.blob())
        self.assertEqual((answer.status, len(first.requests), len(second.requests)), (502, 2, 2))
        second.script.clear()
        answer, _ = await self.get(upstream, self.blob())
        self.assertEqual((answer.status, len(first.requests), len(second.requests)), (200, 3, 3))

    async def test_unreachable_then_failing(self) -> None:
        """One that fails for the moment is asked again also if another one cannot be reached."""
        dead, registry = self.registry(), self.registry()
        url = dead.url
        await dead.stop()
        registry.fault(Fault(status=502), "blob", times=2)
        answer, _ = await self.get(self.upstream(registry.url, url), self.blob())
        self.assertEqual((answer.status, len(registry.requests)), (200, 3))


class Pauses(UpstreamCase):
    """The time between."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(tour, "PAUSES", (0.2, 0.5))
        self.clock = Clock()
        self.fake = self.registry()

    async def begun(self, fault: Fault, **further: Any) -> Any:
        """A question that has failed once, and waits."""
        self.fake.fault(fault, "blob", **further)
        self.client = self.upstream(self.fake.url, clock=self.clock)
        asking = self.client.ask(self.blob())
        await eventually(lambda: len(self.fake.requests) == 1 and self.fake.requests[0].done)
        await later(0.1)
        return asking

    async def test_short(self) -> None:
        """There is a pause of tenths of a second."""
        asking = await self.begun(Fault(status=503))
        self.clock.advance(0.09)
        await later(0.05)
        self.assertEqual(len(self.fake.requests), 1)
        self.clock.advance(0.12)
        (await asking).abort()
        self.assertEqual(len(self.fake.requests), 2)

    async def test_wanted(self) -> None:
        """An origin that says that it comes back in a moment is not asked sooner."""
        asking = await self.begun(Fault(status=503, headers=(("Retry-After", "1"),)))
        self.clock.advance(0.9)
        await later(0.05)
        self.assertEqual(len(self.fake.requests), 1)
        self.clock.advance(0.2)
        answer = await asking
        self.assertEqual((answer.status, len(self.fake.requests)), (200, 2))
        answer.abort()

    async def test_too_long(self) -> None:
        """Nobody waits for one that wants to be left alone for longer: that is told at once."""
        asking = await self.begun(Fault(status=503, headers=(("Retry-After", "2"),)))
        answer = self.successResultOf(asking)
        self.assertEqual((answer.status, len(self.fake.requests)), (503, 1))
        answer.abort()

    async def test_cancelled(self) -> None:
        """A question can be cancelled in the pause."""
        asking = await self.begun(Fault(status=503))
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_end(self) -> None:
        """The end of everything ends the pause, and nothing is asked after it."""
        asking = await self.begun(Fault(status=503))
        await self.client.close()
        with self.assertRaises(ShuttingDown):
            await asking
        self.assertEqual((len(self.fake.requests), self.clock.getDelayedCalls()), (1, []))

    async def test_end_while_asking(self) -> None:
        """That its connections are closed at the end is no failure of the origin's."""
        seen = self.events()
        self.fake.fault(Fault(hold=True), "blob")
        client = self.upstream(self.fake.url, clock=self.clock)
        asking = client.ask(self.blob())
        await eventually(lambda: self.fake.requests)
        await client.close()
        with self.assertRaises(ShuttingDown):
            await asking
        self.assertEqual([event for event in seen if "event" in event], [])

    async def test_all_in_time(self) -> None:
        """All of it happens within the time for the first byte."""
        self.fake.fault(Fault(status=503), "blob")
        self.fake.fault(Fault(hold=True), "blob")
        client = self.upstream(self.fake.url, clock=self.clock)
        asking = client.ask(self.blob())
        asking.addErrback(lambda failure: failure.value)
        await eventually(lambda: self.fake.requests[0:] and self.fake.requests[0].done)
        await later(0.1)
        self.clock.advance(0.3)
        await eventually(lambda: len(self.fake.requests) == 2)
        self.clock.advance(5.6)
        self.assertNoResult(asking)
        self.clock.advance(0.2)
        self.assertIn("did not answer", str(await asking))
