"""A registry that fails is left alone for a few seconds, and not everyone who asks pays for its failing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import OriginError, OriginFailed, OriginLied, OriginTimeout, OriginUnreachable
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.policy.breaker import ERRING, FAILURES, SILENT
from crcache.settings import UpstreamSettings
from crcache.testing.auth import Tokens
from crcache.testing.script import Fault
from crcache.upstream.gates import Gates
from tests.upstream.harness import NAME, REPOSITORY, Taker, UpstreamCase, eventually, later

TIMEOUT = 6.0


class GateCase(UpstreamCase):
    """One origin, and time that passes when the test says so."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.fake = self.registry()
        layers = [bytes([number]) * 100 for number in range(40)]
        self.layers = [Digest.parse(each) for each in self.fake.add_image(NAME, "2.0", layers).layers]
        self.client = self.upstream(self.fake.url, clock=self.clock)

    def layer(self, number: int, **further: Any) -> Query:
        """Asks for one of many layers."""
        return Query(self.name, REPOSITORY, "blob", self.layers[number], "rid-1", **further)

    async def outcome(self, asking: Deferred[Any]) -> int | OriginError:
        """The answer's status, or the error."""
        try:
            answer = await asking
        except OriginError as problem:
            return problem
        await answer.deliver(Taker())
        return int(answer.status)

    async def silence(self, count: int = FAILURES) -> None:
        """Have so many questions get no answer."""
        self.fake.requests.clear()
        rule = self.fake.fault(Fault(hold=True), "blob", times=count)
        asking = [self.client.ask(self.layer(number)) for number in range(count)]
        await eventually(lambda: len(self.fake.requests) == count)
        self.clock.advance(TIMEOUT + 0.1)
        found = await gatherResults([Deferred.fromCoroutine(self.outcome(each)) for each in asking])
        self.assertEqual({type(each) for each in found}, {OriginTimeout})
        rule.release()
        self.fake.requests.clear()


class SilenceTests(GateCase):
    """Origins that do not answer."""

    async def test_remembered(self) -> None:
        """After some failures in a row nobody waits: it is told at once what failed, and that this is remembered."""
        await self.silence()
        self.clock.advance(2.0)
        for query in (self.layer(9), self.layer(0), self.manifest(), self.manifest(method="HEAD")):
            found = self.failureResultOf(self.client.ask(query), OriginTimeout).value
            self.assertEqual(found.status, 504)
            self.assertIn(
                f"{self.name} failed 2 s ago, which is remembered, and is asked again in 3 s: ", found.message
            )
            self.assertIn("did not answer within 6 s", found.message)
        self.assertEqual(self.fake.requests, [])

    async def test_few(self) -> None:
        """One failure, and another, stop nobody."""
        await self.silence(FAILURES - 1)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(9))), 200)
        await self.silence(FAILURES - 1)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(9))), 200)

    async def test_probe(self) -> None:
        """After some seconds one question finds out how it does, while the others still fail at once; then all go."""
        await self.silence()
        self.clock.advance(SILENT)
        rule = self.fake.fault(Fault(hold=True), "blob")
        probe = self.client.ask(self.layer(1))
        await eventually(lambda: self.fake.requests)
        problem = self.failureResultOf(self.client.ask(self.layer(2)), OriginTimeout).value
        self.assertIn("is being asked again just now", problem.message)
        rule.release()
        self.assertEqual(await self.outcome(probe), 200)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(2))), 200)

    async def test_probe_fails(self) -> None:
        """If it still does not answer it is left alone for as long again."""
        await self.silence()
        self.clock.advance(SILENT)
        await self.silence(1)
        self.clock.advance(SILENT - 0.1)
        self.failureResultOf(self.client.ask(self.layer(2)), OriginTimeout)
        self.clock.advance(0.2)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(2))), 200)

    async def test_probe_leaves(self) -> None:
        """If whoever finds out goes away, the next one does."""
        await self.silence()
        self.clock.advance(SILENT)
        self.fake.fault(Fault(hold=True), "blob")
        probe = self.client.ask(self.layer(1))
        await eventually(lambda: self.fake.requests)
        probe.cancel()
        self.failureResultOf(probe, CancelledError)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(2))), 200)

    async def test_refused_probe(self) -> None:
        """A plain no is an answer, and so is a lie."""
        for fault, expected in ((Fault(status=404), 404), (Fault(status=429), 429), (Fault(gzip=True), None)):
            await self.silence()
            self.clock.advance(SILENT)
            self.fake.fault(fault, "blob")
            found = await self.outcome(self.client.ask(self.layer(1)))
            self.assertEqual(None if isinstance(found, OriginLied) else found, expected)
            self.clock.advance(10.0)
            rule = self.fake.fault(Fault(hold=True), path=str(self.layers[2]))
            asking = [self.client.ask(self.layer(number)) for number in (2, 3)]
            self.assertEqual(await self.outcome(asking[1]), 200)
            rule.release()
            self.assertEqual(await self.outcome(asking[0]), 200)

    async def test_ranges(self) -> None:
        """A client's own range is as any other question: it fails at once."""
        await self.silence()
        self.failureResultOf(self.client.ask(self.layer(1, span=(10, None))), OriginTimeout)
        self.assertEqual(self.fake.requests, [])

    async def test_under_way(self) -> None:
        """What goes on with a body, or was served badly, has pauses of its own: it is put, and its answer helps all."""
        for further in ({"span": (10, None), "resumes": True}, {"turn": 1, "resumes": True}):
            await self.silence()
            self.assertIn(await self.outcome(self.client.ask(self.layer(1, **further))), (200, 206))
            self.assertEqual(await self.outcome(self.client.ask(self.layer(2))), 200)
            self.fake.requests.clear()

    async def test_unreachable(self) -> None:
        """Where nobody listens, that is what is remembered."""
        await self.fake.stop()
        for number in range(FAILURES):
            found = await self.outcome(self.client.ask(self.layer(number)))
            assert isinstance(found, OriginUnreachable)
            self.assertNotIn("remembered", found.message)
        found = self.failureResultOf(self.client.ask(self.layer(9)), OriginUnreachable).value
        self.assertEqual(found.status, 502)
        self.assertIn("remembered", found.message)
        self.assertEqual(len(self.meter.questions), FAILURES)

    async def test_told_once(self) -> None:
        """It is logged once that it fails, and once that it answers; what was remembered is no news."""
        seen = self.events()
        await self.silence()
        for _ in range(5):
            self.failureResultOf(self.client.ask(self.layer(9)), OriginTimeout)
        self.clock.advance(SILENT)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(9))), 200)
        told = [event["event"].name for event in seen if "event" in event]
        self.assertEqual(told, ["origin-failing", "origin-answers"])

    async def test_one_thing(self) -> None:
        """If it is always the same thing that gets no answer, it may be that alone: all else is asked for."""
        self.fake.fault(Fault(hold=True), path=str(self.layers[0]), times=None)
        for number in range(FAILURES + 1):
            asking = self.client.ask(self.layer(0))
            await eventually(lambda: len(self.fake.requests) == number + 1)  # noqa: B023
            self.clock.advance(TIMEOUT + 0.1)
            self.assertNotIn("remembered", self.failureResultOf(asking, OriginTimeout).getErrorMessage())
        self.assertEqual(await self.outcome(self.client.ask(self.layer(1))), 200)
        self.assertEqual(await self.outcome(self.client.ask(self.manifest())), 200)

    async def test_lists(self) -> None:
        """A list that takes too long is no sign: it does not count, and is not what finds out; but that it is answered
        helps all."""
        await self.silence()
        self.clock.advance(SILENT)
        rule = self.fake.fault(Fault(hold=True), "tags", times=None)
        tags = Query(self.name, REPOSITORY, "tags", None, "rid-1")
        asking = self.client.ask(tags)
        await eventually(lambda: self.fake.requests)
        self.assertEqual(await self.outcome(self.client.ask(self.manifest())), 200)
        asking.addErrback(lambda _: None)
        for number in range(FAILURES):
            name = Repository.parse(f"team/app{number}")
            self.client.ask(replace(tags, repository=name)).addErrback(lambda _: None)
        await eventually(lambda: len(self.fake.asked("tags")) == FAILURES + 1)
        self.clock.advance(TIMEOUT + 0.1)
        self.assertEqual(await self.outcome(self.client.ask(self.manifest())), 200)
        rule.release()
        await self.silence()
        self.clock.advance(SILENT)
        self.fake.script.clear()
        self.assertEqual(await self.outcome(self.client.ask(tags)), 200)
        rule = self.fake.fault(Fault(hold=True), "blob", times=None)
        both = [self.client.ask(self.layer(number)) for number in range(2)]
        await eventually(lambda: len(self.fake.asked("blob")) == 2)
        rule.release()
        self.assertEqual([await self.outcome(each) for each in both], [200, 200])

    async def test_others(self) -> None:
        """Another registry is asked as ever."""
        await self.silence()
        query = Query(Registry("other.test"), REPOSITORY, "blob", self.layers[1], "rid-1")
        self.assertEqual(await self.outcome(self.client.ask(query)), 200)


class ErrorTests(GateCase):
    """Origins that answer with errors."""

    async def test_remembered(self) -> None:
        """Errors about different things are remembered, for less long."""
        self.fake.fault(Fault(status=503), "blob", times=None)
        asking = [Deferred.fromCoroutine(self.outcome(self.client.ask(self.layer(n)))) for n in range(FAILURES)]
        await self.hurry(asking)
        self.fake.requests.clear()
        found = self.failureResultOf(self.client.ask(self.layer(9)), OriginFailed).value
        self.assertEqual((found.status, self.fake.requests), (502, []))
        self.assertIn(f"{self.name} answered 503", found.message)
        self.fake.script.clear()
        self.clock.advance(ERRING + 0.1)
        self.assertEqual(await self.outcome(self.client.ask(self.layer(9))), 200)

    async def test_one_thing(self) -> None:
        """If it is always the same thing that it fails for, it may be that alone."""
        self.fake.fault(Fault(status=500), path=str(self.layers[0]), times=None)
        for _ in range(FAILURES + 1):
            await self.hurry([Deferred.fromCoroutine(self.outcome(self.client.ask(self.layer(0))))])
        self.assertEqual(await self.outcome(self.client.ask(self.layer(1))), 200)

    async def hurry(self, asking: list[Deferred[Any]]) -> None:
        """Have these end, pauses included, as fast as can be."""
        while not all(each.called for each in asking):
            self.clock.advance(0.01)
            await later(0.002)


class PauseTests(GateCase):
    """Those who make a pause before they ask again."""

    async def test_found_out_meanwhile(self) -> None:
        """If the registry turns out to fail during the pause, the question is not put again."""
        self.fake.fault(Fault(status=503, headers=(("Retry-After", "1"),)), "blob", times=None)
        asking = self.client.ask(self.layer(0))
        await eventually(lambda: self.fake.requests and self.fake.requests[0].done)
        await later(0.1)
        for number in range(FAILURES):
            entry = self.client._gates.enter(self.layer(number))
            entry.failed(OriginUnreachable("nobody there"))
            entry.leave()
        self.assertNoResult(asking)
        self.clock.advance(1.1)
        self.assertIn("remembered", self.failureResultOf(asking, OriginUnreachable).getErrorMessage())
        self.assertEqual(len(self.fake.requests), 1)


class QueueTests(GateCase):
    """Those who wait for a connection."""

    async def test_called_off(self) -> None:
        """When the registry turns out to fail, those who still wait for a connection fail with it. Until then those who
        failed had left their connections to a few."""
        settings = UpstreamSettings(max_connections=FAILURES, first_byte_timeout=TIMEOUT)
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=settings)
        self.fake.fault(Fault(hold=True), "blob", times=None)
        asking = [self.client.ask(self.layer(number)) for number in range(FAILURES)]
        await eventually(lambda: len(self.fake.requests) == FAILURES)
        self.clock.advance(3.0)
        # They could wait for three seconds more.
        waiting = [self.client.ask(self.layer(number)) for number in range(FAILURES, 40)]
        staying = self.client.ask(self.layer(0, span=(3, None), resumes=True))
        self.clock.advance(3.1)
        few, many = waiting[:FAILURES], waiting[FAILURES:]
        for each in asking + many:
            self.failureResultOf(each, OriginTimeout)
        for each in (*few, staying):
            self.assertNoResult(each)
        await eventually(lambda: len(self.fake.requests) == 2 * FAILURES)
        self.fake.script.clear()
        self.assertEqual([await self.outcome(each) for each in (*few, staying)], [200] * len(few) + [206])

    async def test_negotiating(self) -> None:
        """So do those who wait for a token."""
        self.fake.auth = Tokens()
        rule = self.fake.fault(Fault(hold=True), "token", times=None)
        asking = [self.client.ask(self.layer(number)) for number in range(FAILURES)]
        await eventually(lambda: len(self.fake.asked("blob")) == FAILURES and self.fake.asked("token"))
        self.clock.advance(3.0)
        waiting = self.client.ask(self.layer(9))
        self.assertEqual(len(self.fake.requests), FAILURES + 1)
        self.clock.advance(3.1)
        for each in (*asking, waiting):
            self.failureResultOf(each, OriginTimeout)
        rule.release()

    async def test_queued_probe(self) -> None:
        """One that waits for a connection finds out nothing meanwhile: that is left to another."""
        first = await self.queue()
        queued = Deferred.fromCoroutine(self.outcome(self.client.ask(self.layer(1))))
        self.assertEqual(await self.outcome(self.client.ask(self.manifest())), 200)
        self.assertNoResult(queued)
        first.abort()
        self.assertEqual(await queued, 200)

    async def test_queued_called_off(self) -> None:
        """If that other one finds that the registry still fails, those who wait fail with it."""
        await self.queue()
        queued = Deferred.fromCoroutine(self.outcome(self.client.ask(self.layer(1))))
        self.fake.fault(Fault(status=503, headers=(("Retry-After", "30"),)), "manifest")
        await self.outcome(self.client.ask(self.manifest()))
        self.assertIn("remembered", str(self.successResultOf(queued)))

    async def test_probe_again(self) -> None:
        """When it gets one it is what finds out, if nobody has done so."""
        first = await self.queue()
        rule = self.fake.fault(Fault(hold=True), "blob")
        queued = self.client.ask(self.layer(1))
        first.abort()
        await eventually(lambda: str(self.layers[1]) in self.fake.requests[-1].path)
        self.failureResultOf(self.client.ask(self.manifest()), OriginTimeout)
        rule.release()
        self.assertEqual(await self.outcome(queued), 200)

    async def queue(self) -> Any:
        """A body that has the only connection for bodies, of a registry of which it is time to find out how it does."""
        settings = UpstreamSettings(max_connections=1, first_byte_timeout=TIMEOUT, stall_timeout=100.0)
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=settings)
        self.fake.fault(Fault(stall=10), "blob")
        first = await self.client.ask(self.layer(0))
        self.fake.fault(Fault(hold=True), "manifest", times=FAILURES)
        asking = [self.client.ask(self.manifest(f"1.{number}")) for number in range(FAILURES)]
        await eventually(lambda: len(self.fake.asked("manifest")) == FAILURES)
        self.clock.advance(TIMEOUT + 0.1)
        for each in asking:
            self.failureResultOf(each, OriginTimeout)
        self.clock.advance(SILENT)
        return first

    async def test_busy_is_not_broken(self) -> None:
        """That all connections are taken says nothing of the origin."""
        seen = self.events()
        settings = UpstreamSettings(max_connections=1, first_byte_timeout=TIMEOUT, stall_timeout=100.0)
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=settings)
        self.fake.fault(Fault(stall=10), "blob")
        first = await self.client.ask(self.layer(0))
        waiting = [self.client.ask(self.layer(number)) for number in range(1, 10)]
        self.clock.advance(TIMEOUT + 0.1)
        for each in waiting:
            problem = self.failureResultOf(each, OriginTimeout).value
            self.assertIn("was free for 6 s", problem.message)
        self.assertEqual(await self.outcome(self.client.ask(self.manifest())), 200)
        self.assertEqual([event for event in seen if "event" in event], [])
        first.abort()


class GatesTests(SynchronousTestCase):
    """L{Gates} by itself."""

    def query(self, name: str) -> Query:
        """A question to some registry."""
        return Query(Registry(name), REPOSITORY, "manifest", Tag("1.0"), "rid-1")

    def test_heard(self) -> None:
        """What got no answer in time counts each time if there was no connection to send it on; otherwise once."""
        for heard in (False, True):
            gates = Gates(Clock())
            for _ in range(FAILURES):
                entry = gates.enter(self.query("a.test"))
                entry.begins(lambda: succeed(None))
                if heard:
                    entry.heard()
                entry.late()
                entry.failed(OriginTimeout("too slow"))
                entry.leave()
            if heard:
                gates.enter(self.query("a.test")).leave()
            else:
                with self.assertRaises(OriginTimeout):
                    gates.enter(self.query("a.test"))

    def test_forgotten(self) -> None:
        """Of registries that are well nothing is kept."""
        gates = Gates(Clock())
        for name in ("a.test", "b.test"):
            entry = gates.enter(self.query(name))
            entry.answered(200)
            entry.leave()
        self.assertEqual(len(gates._gates), 0)

    def test_bounded(self) -> None:
        """However many registries clients make up, no more than some are remembered."""
        gates = Gates(Clock())
        for number in range(1100):
            for _ in range(FAILURES):
                entry = gates.enter(self.query(f"r{number}.test"))
                entry.failed(OriginUnreachable("no such host"))
                entry.leave()
        self.assertEqual(len(gates._gates), 1024)
        gates.enter(self.query("r0.test")).leave()
        with self.assertRaises(OriginUnreachable):
            gates.enter(self.query("r1099.test"))
