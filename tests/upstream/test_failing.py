"""Questions that get no answer, or none that may be used, and where they are asked next."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy

from crcache.errors import OriginLied, OriginTimeout, OriginUnreachable, ShuttingDown
from crcache.testing.content import digest_of
from crcache.testing.script import Fault
from crcache.upstream.silent import REMEMBERED
from tests.upstream.harness import UpstreamCase, eventually


class SlowNames:
    """The reactor, but names are never resolved."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.nameResolver = self
        directlyProvides(self, providedBy(reactor))

    def resolveHostName(self, receiver: Any, name: str, *args: Any, **further: Any) -> None:
        self.names.append(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Failing(UpstreamCase):
    """Questions that get no answer, or none that may be used."""

    async def test_refused(self) -> None:
        """Where nobody listens, the origin is unreachable, and the sentence names it."""
        registry = self.registry()
        url = registry.url
        await registry.stop()
        with self.assertRaises(OriginUnreachable) as caught:
            await self.upstream(url).ask(self.blob())
        self.assertIn(url.removeprefix("http://"), caught.exception.message)
        self.assertEqual(self.meter.questions, [("blob", None)])

    async def test_hung_up(self) -> None:
        """A connection closed before any answer, however often, is an unreachable origin."""
        registry = self.registry()
        registry.fault(Fault(hang_up=True), "blob", times=None)
        with self.assertRaises(OriginUnreachable):
            await self.upstream(registry.url).ask(self.blob())

    async def test_dead_connection(self) -> None:
        """That a kept connection has died in the meantime is not noticed by whoever asks."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        await self.get(upstream, self.blob())
        registry.fault(Fault(hang_up=True), "blob")
        answer, _ = await self.get(upstream, self.blob())
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(registry.asked("blob")), 3)

    async def test_many_dead_connections(self) -> None:
        """However many kept connections are dead, a question soon gets one of its own."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        await gatherResults([Deferred.fromCoroutine(self.get(upstream, self.blob())) for _ in range(6)])
        registry.fault(Fault(hang_up=True), "blob", times=3)
        answer, _ = await self.get(upstream, self.blob())
        self.assertEqual(answer.status, 200)

    async def test_first_byte(self) -> None:
        """An origin that takes the question and says nothing is given up, and its connection closed."""
        clock = Clock()
        registry = self.registry()
        registry.fault(Fault(hold=True), "blob")
        asking = self.upstream(registry.url, clock=clock).ask(self.blob())
        await eventually(lambda: registry.requests)
        clock.advance(5.9)
        self.assertNoResult(asking)
        clock.advance(0.2)
        with self.assertRaises(OriginTimeout):
            await asking
        assert registry.listener is not None
        await eventually(lambda: registry.listener is None or registry.listener.connections == 0)

    async def test_cancel(self) -> None:
        """Cancelling a question closes its connection, asks nowhere else, and fails as cancelled."""
        registry = self.registry()
        registry.fault(Fault(hold=True), "blob")
        other = self.registry(content=registry.content)
        asking = self.upstream(registry.url, other.url).ask(self.blob())
        await eventually(lambda: registry.requests)
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        await eventually(lambda: registry.requests[0].done)
        self.assertEqual(other.requests, [])

    async def test_resolving(self) -> None:
        """Looking up the name counts in the time for connecting, and can be cancelled like everything else."""
        self.registry()
        slow, clock = SlowNames(), Clock()
        upstream = self.upstream("http://registry.invalid", "http://other.invalid", on_reactor=slow, clock=clock)
        asking = upstream.ask(self.blob())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(slow.names, ["registry.invalid"])
        asking = upstream.ask(self.blob())
        for _ in range(2):
            clock.advance(3.0)
        self.assertIn("other.invalid", self.failureResultOf(asking, OriginUnreachable).getErrorMessage())

    async def test_not_http(self) -> None:
        """What is not HTTP is an unreachable origin."""
        registry = self.registry()
        registry.fault(Fault(headers=(("Transfer-Encoding", "gzip"),)), "blob")
        with self.assertRaises(OriginUnreachable):
            await self.upstream(registry.url).ask(self.blob())

    async def test_endless_head(self) -> None:
        """An answer whose head does not end, or is longer than any is, is cut off; a long one is taken, with the body
        that comes behind it."""
        registry = self.registry()
        for many, length in ((600, 15_000), (5, 15_000), (400, 1)):
            lines = tuple((f"X-{number}", "x" * length) for number in range(many))
            rule = registry.fault(Fault(headers=lines), "blob", times=None)
            with self.assertRaises(OriginUnreachable):
                await self.upstream(registry.url).ask(self.blob())
            registry.script.rules.remove(rule)
        for many, length in ((4, 15_000), (200, 1)):
            registry.fault(Fault(headers=tuple((f"X-{number}", "x" * length) for number in range(many))), "blob")
            _, body = await self.get(self.upstream(registry.url), self.blob())
            self.assertEqual(digest_of(body), self.image.layers[1])

    async def test_encoded(self) -> None:
        """An encoded body is no blob, and is never delivered."""
        registry = self.registry()
        registry.fault(Fault(gzip=True), "blob")
        with self.assertRaises(OriginLied):
            await self.upstream(registry.url).ask(self.blob())
        await eventually(lambda: registry.requests[0].done)

    async def test_encoded_head(self) -> None:
        """The length of an encoded body is not the content's."""
        registry = self.registry()
        registry.fault(Fault(gzip=True), "blob")
        answer = await self.upstream(registry.url).ask(self.blob(method="HEAD"))
        self.assertEqual((answer.status, answer.length), (200, None))
        self.assertFalse(answer.headers.hasHeader("Content-Length"))
        answer.abort()

    async def test_closed(self) -> None:
        """After the end nothing is asked, and no connection is left."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        await self.get(upstream, self.blob())
        answer = await upstream.ask(self.blob())
        await upstream.close()
        with self.assertRaises(ShuttingDown):
            await upstream.ask(self.blob())
        answer.abort()
        await eventually(lambda: registry.listener is None or registry.listener.connections == 0)


class SeveralUrls(UpstreamCase):
    """A registry with more than one URL."""

    async def test_next(self) -> None:
        """If the first cannot be reached the next one answers."""
        dead = self.registry()
        url = dead.url
        await dead.stop()
        registry = self.registry()
        answer, body = await self.get(self.upstream(url, registry.url), self.blob())
        self.assertEqual((answer.status, len(body)), (200, 300_000))

    async def test_any_answer_is_one(self) -> None:
        """An answer is final, also a no."""
        for status in (400, 401, 403, 404, 408, 416, 501):
            first = self.registry()
            first.fault(Fault(status=status), "blob")
            second = self.registry(content=first.content)
            answer, _ = await self.get(self.upstream(first.url, second.url), self.blob())
            self.assertEqual(answer.status, status)
            self.assertEqual(second.requests, [])

    async def test_lies(self) -> None:
        """One that sends us nowhere, or an encoded body, is followed by the next."""
        for fault in (Fault(redirect="nowhere://"), Fault(redirect="{path}"), Fault(gzip=True)):
            first = self.registry()
            first.fault(fault, "blob", times=None)
            second = self.registry(content=first.content)
            answer, _ = await self.get(self.upstream(first.url, second.url), self.blob())
            self.assertEqual((answer.status, len(second.requests)), (200, 1))

    async def test_turn(self) -> None:
        """Whoever was served badly asks elsewhere next, and at the first one again after the last."""
        first = self.registry()
        second, third = (self.registry(content=first.content) for _ in range(2))
        upstream = self.upstream(first.url, second.url, third.url)
        for turn in range(5):
            await self.get(upstream, self.blob(turn=turn))
        self.assertEqual([len(registry.requests) for registry in (first, second, third)], [2, 2, 1])

    async def test_turn_to_a_dead_one(self) -> None:
        """If the one whose turn it is cannot be reached it is followed by the next, too."""
        first, dead = self.registry(), self.registry()
        url = dead.url
        await dead.stop()
        third = self.registry(content=first.content)
        await self.get(self.upstream(first.url, url, third.url), self.blob(turn=1))
        self.assertEqual((first.requests, len(third.requests)), ([], 1))

    async def test_silent_one_last(self) -> None:
        """One that gave no answer is asked behind the others for a while, so that its silence is waited for once."""
        clock = Clock()
        first = self.registry()
        first.fault(Fault(hold=True), "blob")
        second = self.registry(content=first.content)
        upstream = self.upstream(first.url, second.url, clock=clock)
        asking = upstream.ask(self.blob())
        await eventually(lambda: first.requests)
        clock.advance(3.0)
        (await asking).abort()
        for passed, expected in ((0.0, (1, 2)), (REMEMBERED - 0.1, (1, 3)), (0.2, (2, 3))):
            clock.advance(passed)
            await self.get(upstream, self.blob())
            self.assertEqual((len(first.requests), len(second.requests)), expected)

    async def test_time_is_shared(self) -> None:
        """A first URL that says nothing leaves the second its share of the time."""
        clock = Clock()
        first = self.registry()
        first.fault(Fault(hold=True), "blob")
        second = self.registry(content=first.content)
        asking = self.upstream(first.url, second.url, clock=clock).ask(self.blob())
        await eventually(lambda: first.requests)
        clock.advance(3.0)
        answer = await asking
        self.assertEqual(answer.status, 200)
        answer.abort()

    async def test_none_left(self) -> None:
        """If none can be reached the last one's failure is told."""
        first, second = self.registry(), self.registry()
        urls = first.url, second.url
        await gatherResults([first.stop(), second.stop()])
        with self.assertRaises(OriginUnreachable) as caught:
            await self.upstream(*urls).ask(self.blob())
        self.assertIn(urls[1].removeprefix("http://"), caught.exception.message)
