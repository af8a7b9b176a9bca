"""No origin is asked too much at once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock

from crcache.errors import OriginBusy, OriginTimeout, ShuttingDown
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Repository
from crcache.settings import UpstreamSettings
from crcache.testing.auth import Tokens
from crcache.testing.script import Fault
from crcache.upstream import limits
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


class Fairness(UpstreamCase):
    """Nobody waits for somebody else's crowd."""

    def of(self, peer: str, repository: str = "team/app") -> Query:
        """A question of that peer's about a blob."""
        digest = Digest.parse(self.image.layers[1])
        return Query(self.name, Repository.parse(repository), "blob", digest, "rid-1", peer=peer)

    async def test_long_bodies(self) -> None:
        """A peer that keeps all the places it can get leaves one for another, and gets the next when one is free."""
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", times=None)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=8))
        greedy = [upstream.ask(self.of("p")) for _ in range(12)]
        held = await gatherResults(greedy[:7])
        other = await upstream.ask(self.of("q"))
        self.assertEqual(len(registry.asked("blob")), 8)
        for waiting in greedy[7:]:
            self.assertNoResult(waiting)
        other.abort()
        await later(0.05)
        self.assertNoResult(greedy[7])
        held[0].abort()
        for waiting in greedy[7:]:
            (await waiting).abort()
        for each in held:
            each.abort()

    async def test_realm(self) -> None:
        """A token service that does not answer one peer's crowd is asked for another peer all the same."""
        registry = self.registry(Tokens())
        rule = registry.fault(Fault(hold=True), "token", times=None)
        upstream = self.upstream(registry.url)
        asking = [upstream.ask(self.of("p", f"team/p{count}")) for count in range(20)]
        await eventually(lambda: len(registry.asked("token")) == SMALL - 1)
        asking.append(upstream.ask(self.of("q", "team/q")))
        await eventually(lambda: len(registry.asked("token")) == SMALL)
        self.assertIn("team%2Fq", registry.asked("token")[-1].query)
        rule.release()
        for each in asking:
            await (await each).deliver(Taker())

    async def test_one_token_for_both(self) -> None:
        """So it is if the other peer wants a token that the crowd waits for already: it is asked for once, and now."""
        registry = self.registry(Tokens())
        rule = registry.fault(Fault(hold=True), "token", times=None)
        upstream = self.upstream(registry.url)
        asking = [upstream.ask(self.of("p", f"team/p{count}")) for count in range(20)]
        await eventually(lambda: len(registry.asked("blob")) == 20 and len(registry.asked("token")) == SMALL - 1)
        asking.append(upstream.ask(self.of("q", "team/p19")))
        await eventually(lambda: len(registry.asked("token")) == SMALL)
        self.assertIn("team%2Fp19", registry.asked("token")[-1].query)
        rule.release()
        for each in asking:
            await (await each).deliver(Taker())

    async def test_full(self) -> None:
        """When too many wait, one more is told so at once, with the seconds, and the registry is none the worse for
        it."""
        self.patch(limits, "QUEUE", 1)
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", times=None)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=1))
        first = await upstream.ask(self.of("p"))
        second = upstream.ask(self.of("p"))
        for _ in range(5):
            with self.assertRaises(OriginBusy) as caught:
                await upstream.ask(self.of("p"))
        self.assertEqual((caught.exception.status, caught.exception.headers), (503, (("Retry-After", "5"),)))
        self.assertIn(registry.url.removeprefix("http://"), caught.exception.message)
        first.abort()
        (await second).abort()
        self.assertEqual((await self.get(upstream, self.manifest()))[0].status, 200)

    async def test_closed(self) -> None:
        """Who waits when it all ends is told at once, and nothing is asked for him any more."""
        registry = self.registry()
        registry.fault(Fault(stall=10), "blob", times=None)
        upstream = self.upstream(registry.url, settings=UpstreamSettings(max_connections=1))
        first = await upstream.ask(self.of("p"))
        waiting = [upstream.ask(self.of(peer)) for peer in "pq"]
        await upstream.close()
        for each in waiting:
            with self.assertRaises(ShuttingDown):
                await each
        self.assertEqual(len(registry.asked("blob")), 1)
        first.abort()
