"""No origin is asked too much at once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock

from crcache.errors import OriginTimeout
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.settings import UpstreamSettings
from crcache.testing.script import Fault
from crcache.upstream.limits import SMALL
from tests.upstream.harness import REPOSITORY, Taker, UpstreamCase, eventually, later


class Queueing(UpstreamCase):
    """No origin is asked too much at once."""

    async def test_bodies(self) -> None:
        """At most so many bodies at once; a slot is free when a body has been delivered or aborted."""
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", times=None)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=2))
        asking = [upstream.ask(self.blob()) for _ in range(4)]
        first, second = await gatherResults(asking[:2])
        await later(0.1)
        self.assertEqual(len(registry.asked("blob")), 2)
        first.abort()
        third = await asking[2]
        self.assertEqual(len(registry.asked("blob")), 3)
        registry.script.clear()
        await second.deliver(Taker())
        fourth = await asking[3]
        third.abort()
        fourth.abort()

    async def test_small_ones_pass(self) -> None:
        """HEADs and manifests do not queue behind bodies."""
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", method="GET")
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=1))
        body = await upstream.ask(self.blob())
        await self.get(upstream, self.blob(method="HEAD"))
        await self.get(upstream, self.manifest())
        body.abort()

    async def test_lists_are_bodies(self) -> None:
        """Lists come at their clients' pace: however many clients do not read theirs, manifests are to be had."""
        registry = self.registry()
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=9, first_byte_timeout=2.0))
        digest = Digest.parse(self.image.layers[0])
        for query in (
            Query(self.name, REPOSITORY, "tags", None, "rid-1"),
            Query(self.name, REPOSITORY, "referrers", digest, "rid-1"),
        ):
            unread = await gatherResults([upstream.ask(query) for _ in range(SMALL)])
            answer, _ = await self.get(upstream, self.manifest())
            self.assertEqual(answer.status, 200)
            for each in unread:
                each.abort()

    async def test_eight_small_ones(self) -> None:
        """There are eight small requests at once, and the ninth waits for its turn."""
        registry = self.registry()
        rule = registry.fault(Fault(hold=True), "manifest", times=None)
        upstream = self.upstream(registry.url)
        asking = [Deferred.fromCoroutine(self.get(upstream, self.manifest())) for _ in range(12)]
        await eventually(lambda: len(registry.requests) == 8)
        await later(0.1)
        self.assertEqual(len(registry.requests), 8)
        rule.release()
        await gatherResults(asking)
        self.assertEqual(len(registry.requests), 12)

    async def test_leaving_the_queue(self) -> None:
        """Who leaves the queue takes nobody's turn."""
        registry = self.registry()
        rule = registry.fault(Fault(stall=10), "blob", times=None)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=1))
        first = await upstream.ask(self.blob())
        leaving, staying = upstream.ask(self.blob()), upstream.ask(self.blob())
        leaving.cancel()
        with self.assertRaises(CancelledError):
            await leaving
        rule.release()
        first.abort()
        answer = await staying
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(registry.requests), 2)
        answer.abort()

    async def test_waiting_counts(self) -> None:
        """Time in the queue is time without an answer."""
        clock = Clock()
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", times=None)
        settings = UpstreamSettings(max_connections=1, first_byte_timeout=6.0, stall_timeout=100.0)
        upstream = self.upstream(registry.url, clock=clock, settings=settings)
        first = await upstream.ask(self.blob())
        waiting = upstream.ask(self.blob())
        clock.advance(6.1)
        with self.assertRaises(OriginTimeout):
            await waiting
        first.abort()
