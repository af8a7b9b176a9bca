"""Tests for L{crcache.parents.parent}: when a parent is asked, and when it is left alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.errors import OriginUnreachable
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.parents.parent import Parent
from crcache.policy.nearness import ERRORS, LONGEST, PAUSE
from crcache.settings import ParentSettings

REGISTRY = Registry.parse("r.example")
OTHER = Registry.parse("other.example")
QUERY = Query(REGISTRY, Repository.parse("a/b"), "blob", Digest.parse("sha256:" + 64 * "a"), "id")


@dataclass
class Said:
    """What a ping's answer says."""

    status: int = 200
    via: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[str]:
        """As L{Exchange.lines<crcache.upstream.exchange.Exchange.lines>}."""
        return self.via


class ParentTests(SynchronousTestCase):
    """One parent, and what its pings come to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pings: list[Deferred[Any]] = []
        self.parent = Parent(ParentSettings("http://rack:3000"), self.clock, self._ping, 5.0)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _ping(self, parent: Parent) -> Deferred[Any]:
        self.pings.append(Deferred())
        return self.pings[-1]

    def answers(self, status: int = 200, *via: str) -> None:
        """The last ping is answered."""
        self.pings[-1].callback(Said(status, list(via)))

    def refuses(self) -> None:
        """The last ping is not."""
        self.pings[-1].errback(OriginUnreachable("nobody there"))

    def ready(self, registry: Registry = REGISTRY) -> bool:
        """Whether it is asked, which nobody has to wait for."""
        return self.successResultOf(self.parent.ready(registry))

    def told(self) -> list[object]:
        """The names of what was logged."""
        return [each["event"].name for each in self.events if isinstance(each.get("event"), events.Event)]

    def test_first(self) -> None:
        """The first who ask wait for one ping together; whoever leaves meanwhile changes nothing."""
        waiting = [self.parent.ready(REGISTRY), self.parent.ready(OTHER), self.parent.ready(REGISTRY)]
        waiting[0].cancel()
        self.failureResultOf(waiting[0])
        self.assertEqual(len(self.pings), 1)
        self.answers(200, "1.0 proxy, 1.1 crcache-00000000000000aa")
        self.assertEqual([self.successResultOf(each) for each in waiting[1:]], [True, True])
        self.assertEqual(self.parent.pseudonym, "crcache-00000000000000aa")
        self.assertTrue(self.ready())
        self.assertEqual((len(self.pings), self.told()), (1, []))

    def test_stranger(self) -> None:
        """What is no crcache is asked as well, whatever it says to a ping but an error of its own."""
        for status in (200, 401, 404):
            self.setUp()
            waiting = self.parent.ready(REGISTRY)
            self.answers(status, "1.1 varnish")
            self.assertTrue(self.successResultOf(waiting))
            self.assertEqual(self.parent.pseudonym, "")

    def test_away(self) -> None:
        """One that is away is told of once, and found out about now and then, ever more rarely; nobody waits for that.
        When it is back it is asked."""
        waiting = self.parent.ready(REGISTRY)
        self.refuses()
        self.assertFalse(self.successResultOf(waiting))
        pauses = []
        for _ in range(7):
            began = self.clock.seconds()
            while not self.ready() and self.pings[-1].called:
                self.clock.advance(1)
            pauses.append(self.clock.seconds() - began)
            self.refuses()
        self.assertEqual(pauses, [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, LONGEST, LONGEST, LONGEST])
        self.clock.advance(LONGEST)
        self.assertFalse(self.ready())
        self.assertFalse(self.ready())
        self.answers()
        self.assertTrue(self.ready())
        self.assertEqual(self.told(), ["parent-failing", "parent-answers"])

    def test_black_hole(self) -> None:
        """A ping that gets no answer is given up."""
        waiting = self.parent.ready(REGISTRY)
        self.clock.advance(5.0)
        self.assertFalse(self.successResultOf(waiting))
        self.assertEqual(self.told(), ["parent-failing"])

    def test_its_own_error(self) -> None:
        """One that answers a ping with an error of its own (it has no disk yet, or ends) is away."""
        waiting = self.parent.ready(REGISTRY)
        self.answers(503)
        self.assertFalse(self.successResultOf(waiting))
        self.assertEqual(self.told(), ["parent-failing"])

    def test_itself(self) -> None:
        """One that is this cache itself is not asked; that is told of once, however often it turns out."""
        for _ in range(2):
            waiting = self.parent.ready(REGISTRY)
            self.answers(508)
            self.assertFalse(self.successResultOf(waiting))
            self.clock.advance(PAUSE)
        self.assertEqual(self.told(), ["parents-loop", "parent-failing"])

    def up(self) -> None:
        """It is there."""
        self.parent.ready(REGISTRY)
        self.answers()

    def test_silence(self) -> None:
        """After a question without an answer a ping tells whether all of it is away; until then nobody asks."""
        self.up()
        self.parent.failed(QUERY, heard=True)
        self.assertFalse(self.ready(OTHER))
        self.assertEqual(len(self.pings), 2)
        self.refuses()
        self.assertFalse(self.ready(OTHER))
        self.assertEqual(self.told(), ["parent-failing"])

    def test_silence_of_one(self) -> None:
        """If it is there, only the registry that was asked about is left alone, for a while."""
        self.up()
        self.parent.failed(QUERY, heard=True)
        self.answers()
        self.assertEqual((self.ready(OTHER), self.ready()), (True, False))
        self.assertEqual(self.parent.describe(lambda _: True)["not_asked_about"], ["r.example"])
        self.assertNotIn("not_asked_about", self.parent.describe(lambda _: False))
        self.clock.advance(PAUSE)
        self.assertTrue(self.ready())
        self.parent.failed(QUERY, heard=True)
        self.answers()
        self.clock.advance(PAUSE)
        self.assertFalse(self.ready())
        self.clock.advance(PAUSE)
        self.assertTrue(self.ready())
        self.parent.answered(QUERY, 404)
        self.assertEqual((self.told(), self.ready()), ([], True))

    def test_not_connected(self) -> None:
        """No connection says nothing of the registry."""
        self.up()
        self.parent.failed(QUERY, heard=False)
        self.answers()
        self.assertTrue(self.ready())

    def test_errors(self) -> None:
        """Errors in a row, as many as it takes, have it left alone for that registry; any other answer ends the row."""
        self.up()
        for _ in range(3):
            for _ in range(ERRORS - 1):
                self.parent.answered(QUERY, 502)
            self.parent.answered(QUERY, 404)
        self.assertTrue(self.ready())
        for _ in range(ERRORS):
            self.assertTrue(self.ready())
            self.parent.answered(QUERY, 429)
        self.assertEqual((self.ready(), self.ready(OTHER)), (False, True))

    def test_loop(self) -> None:
        """That a question had come from it is told of once, and is no error."""
        self.up()
        for _ in range(10):
            self.parent.answered(QUERY, 508)
        self.assertTrue(self.ready())
        self.assertEqual(self.told(), ["parents-loop"])

    def test_bounded(self) -> None:
        """Clients can name any registry: few are remembered."""
        self.up()
        for number in range(1000):
            registry = Registry.parse(f"r{number}.example")
            for _ in range(ERRORS):
                self.parent.answered(Query(registry, QUERY.repository, "tags", None, "id"), 500)
        left = [number for number in range(1000) if not self.ready(Registry.parse(f"r{number}.example"))]
        self.assertEqual(len(left), 256)

    def test_stopped(self) -> None:
        """A ping that is on its way when it ends is called off, and says nothing."""
        waiting = self.parent.ready(REGISTRY)
        self.parent.stop()
        self.assertFalse(self.successResultOf(waiting))
        self.assertEqual(self.told(), [])
