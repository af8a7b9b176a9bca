"""Tests for L{crcache.upstream.health}."""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.grammar.reference import Registry
from crcache.testing.script import Fault
from crcache.upstream.health import Health
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path

A, B = Registry("a.test"), Registry("b.test")


class HealthTests(SynchronousTestCase):
    """L{Health} by itself."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.clock = Clock()
        self.health = Health(self.clock)

    def told(self) -> list[tuple[events.Event, str]]:
        """What was logged since the last call."""
        told = [(event["event"], event["registry"]) for event in self.events]
        self.last = self.events[-1] if self.events else {}
        self.events.clear()
        return told

    def test_well(self) -> None:
        """Of a registry that answers, with whatever but a 5xx, there is nothing to say."""
        for status in (200, 307, 401, 404, 429):
            self.health.answered(A, status, "1")
        self.assertEqual(self.told(), [])

    def test_fails(self) -> None:
        """It is told once that a registry fails and once that it answers again, with the time between."""
        self.health.failed(A, "no answer", "1")
        self.health.failed(A, "no answer", "2")
        self.health.answered(A, 503, "3")
        self.assertEqual(self.told(), [(events.ORIGIN_FAILING, "a.test")])
        self.assertEqual(formatEvent(self.last), "a.test fails: no answer (request 1)")
        self.assertIs(self.last["log_level"], LogLevel.warn)
        self.clock.advance(90)
        self.health.answered(B, 200, "4")
        self.assertEqual(self.told(), [])
        self.health.answered(A, 404, "5")
        self.health.answered(A, 200, "6")
        self.assertEqual(self.told(), [(events.ORIGIN_ANSWERS, "a.test")])
        self.assertEqual(formatEvent(self.last), "a.test answers again, after 90 s (request 5)")

    def test_5xx(self) -> None:
        """An answer that says that the registry fails is a failure."""
        self.health.answered(A, 502, "1")
        self.assertEqual(self.told(), [(events.ORIGIN_FAILING, "a.test")])

    def test_nobody_asks(self) -> None:
        """One that nobody has asked for ten minutes is not told of any more, until it fails again; how long it has been
        failing counts from the first time all the same."""
        self.health.failed(A, "no answer", "1")
        self.health.failed(B, "no route", "1")
        self.clock.advance(599)
        self.health.failed(B, "no route", "2")
        self.assertEqual(self.health.failing(), {A: (599.0, "no answer"), B: (599.0, "no route")})
        self.clock.advance(1)
        self.assertEqual(self.health.failing(), {B: (600.0, "no route")})
        self.clock.advance(600)
        self.assertEqual(self.health.failing(), {})
        self.health.failed(A, "no answer", "3")
        self.assertEqual(self.health.failing(), {A: (1200.0, "no answer")})

    def test_bounded(self) -> None:
        """However many registries clients make up, no more than some are remembered."""
        for number in range(1100):
            self.health.failed(Registry(f"r{number}.test"), "no such host", "1")
        self.told()
        self.health.answered(Registry("r1.test"), 200, "1")
        self.health.answered(Registry("r1099.test"), 200, "1")
        self.assertEqual(self.told(), [(events.ORIGIN_ANSWERS, "r1099.test")])


class OriginTests(ClientCase):
    """An origin before which crcache stands."""

    async def test_comes_back(self) -> None:
        """It is told when it begins to fail and when it answers again, however many ask."""
        self.cache = self.instance(upstream=IMPATIENT)
        image = self.origin.add_image(REPO, "1.0")
        self.origin.fault(Fault(status=503), times=3)
        for _ in range(5):
            await self.ask(blob_path(image.layers[0]))
        told = [(event["event"].name, event.get("registry")) for event in self.events if "event" in event]
        health = [each for each in told if each[0].startswith("origin-")]
        self.assertEqual(health, [("origin-failing", NAME), ("origin-answers", NAME)])

    async def test_plain_no(self) -> None:
        """An origin's plain no is nothing that operators have to read twice: the request's own line has it."""
        for status in (401, 403, 404):
            self.origin.fault(Fault(status=status), times=1)
            await self.ask(blob_path("sha256:" + f"{status:064}"))
        levels = {event["log_level"] for event in self.events if "digest" in event and "status" not in event}
        self.assertEqual(levels, {LogLevel.debug})
        self.assertEqual([event["status"] for event in self.events if "aborted" in event], [401, 403, 404])

    async def test_wrong_content(self) -> None:
        """Content that is not what its digest says is told of as a warning, with whose it was."""
        image = self.origin.add_image(REPO, "1.0")
        self.origin.fault(Fault(wrong=True), "blob", times=1)
        await self.ask(blob_path(image.layers[0]))
        (event,) = (event for event in self.events if event.get("event") is events.CONTENT_WRONG)
        self.assertIs(event["log_level"], LogLevel.warn)
        found = {name: event[name] for name in ("registry", "repository", "digest")}
        self.assertEqual(found, {"registry": NAME, "repository": REPO, "digest": image.layers[0]})
