"""Turns are fair, and not everybody can wait."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import OriginBusy, ShuttingDown
from crcache.facts import MOST_PEERS, Crowd
from crcache.grammar.reference import Registry
from crcache.upstream import limits
from crcache.upstream.limits import Limits
from crcache.upstream.turns import Place, Turns
from crcache.upstream.urls import origin_of

A, B = Registry.parse("a.test"), Registry.parse("b.test")


class TurnsCase(SynchronousTestCase):
    """Who gets a place, in which order."""

    def setUp(self) -> None:
        self.got: list[str] = []
        self.places: list[Place] = []

    def ask(
        self, turns: Turns, name: str, peer: str, registry: str = "a", crowd: Crowd | None = None
    ) -> Deferred[Place]:
        """Take a place; C{name} is noted when it is had."""

        def had(place: Place) -> Place:
            self.got.append(name)
            self.places.append(place)
            return place

        return turns.take(peer, registry, crowd).addCallback(had)

    def release(self) -> None:
        """All that are held, and those that are had then, one after another."""
        while self.places:
            self.places.pop(0).release()


class TurnsTests(TurnsCase):
    """L{Turns}."""

    def test_peers_in_turn(self) -> None:
        """A crowd of one peer has another wait for one turn, not for all of them."""
        turns = Turns(1, 100, "x")
        for count in range(5):
            self.ask(turns, f"crowd{count}", "crowd")
        self.ask(turns, "one", "alone")
        self.ask(turns, "two", "alone")
        self.release()
        self.assertEqual(self.got, ["crowd0", "crowd1", "one", "crowd2", "two", "crowd3", "crowd4"])
        self.assertTrue(turns.unused)

    def test_registries_in_turn(self) -> None:
        """So it is with the registries that one peer asks; and a peer that names many has no more turns for it."""
        turns = Turns(1, 100, "x")
        self.ask(turns, "held", "p", "held")
        for registry in ("dead", "dead", "dead", "well", "other"):
            self.ask(turns, registry, "p", registry)
        self.ask(turns, "q", "q", "dead")
        self.ask(turns, "q", "q", "dead")
        self.release()
        self.assertEqual(self.got, ["held", "dead", "q", "well", "q", "other", "dead", "dead"])

    def crowded(self, turns: Turns) -> Crowd:
        """All places are a greedy peer's, with five that wait; the last one of these is the crowd's."""
        crowd = Crowd()
        for count in range(6):
            self.ask(turns, f"greedy{count}", "greedy")
        self.ask(turns, "wanted", "greedy", crowd=crowd)
        return crowd

    def test_wanted_by_another(self) -> None:
        """What another peer wants too waits for that peer's turn, if that has less that waits, and once only."""
        turns = Turns(1, 100, "x")
        crowd = self.crowded(turns)
        crowd.join("other")
        crowd.join("other")
        self.assertEqual(turns.waiting, 6)
        self.release()
        self.assertEqual(self.got, ["greedy0", "greedy1", "wanted", "greedy2", "greedy3", "greedy4", "greedy5"])
        self.assertTrue(turns.unused)
        self.assertEqual(crowd.watchers, set())

    def test_wanted_by_a_greedy_one(self) -> None:
        """Nobody waits longer because one who has more wants the same; nobody in particular makes no difference."""
        turns = Turns(1, 100, "x")
        self.ask(turns, "held", "p")
        crowd = Crowd()
        self.ask(turns, "modest", "modest", crowd=crowd)
        for count in range(4):
            self.ask(turns, f"greedy{count}", "greedy")
        crowd.join("greedy")
        crowd.join("")
        self.release()
        self.assertEqual(self.got[:2], ["held", "modest"])

    def test_place_for_another(self) -> None:
        """A place that the one peer may not have is had at once by the other, who wanted it already or comes now."""
        for early in (True, False):
            turns = Turns(8, 100, "x")
            crowd = Crowd()
            got: list[Place] = []
            for _ in range(9):
                turns.take("greedy", "a")
            if early:
                crowd.join("other")
            turns.take("greedy", "a", crowd).addCallback(got.append)
            self.assertEqual(len(got), early)
            crowd.join("other")
            self.assertEqual(len(got), 1)
            self.assertEqual(turns.waiting, 2)

    def test_crowd_leaves(self) -> None:
        """Whoever leaves is nobody's any more; who comes then, or when all is over, changes nothing."""
        turns = Turns(1, 100, "x")
        crowd = Crowd()
        self.ask(turns, "held", "p")
        leaving = turns.take("greedy", "a", crowd)
        crowd.join("other")
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        crowd.join("third")
        self.release()
        self.assertTrue(turns.unused)
        for count in range(MOST_PEERS * 2):
            crowd.join(str(count))
        self.assertEqual(len(crowd.peers), MOST_PEERS)

    def test_crowd_ends_together(self) -> None:
        """Of two that a crowd wants, the one whose turn comes first may end the other: that changes nothing."""
        turns = Turns(8, 100, "x")
        crowd = Crowd()
        for _ in range(7):
            self.ask(turns, "held", "greedy")
        waiting = [turns.take("greedy", "a", crowd) for _ in range(2)]

        def ended(_: object) -> None:
            for each in waiting:
                each.cancel()

        for each in waiting:
            each.addBoth(ended)
        crowd.join("other")
        self.assertEqual((turns.waiting, [each.called for each in waiting]), (0, [True, True]))

    def test_many_that_end_at_once(self) -> None:
        """However many end as soon as it is their turn, each has one, and nothing is left."""
        held = Limits(1)
        first = self.successResultOf(held.acquire(origin_of("https://a.test"), True, A))

        async def ask() -> None:
            (await held.acquire(origin_of("https://a.test"), True, A)).release()
            raise OriginBusy("the registry wants to be left alone")

        asking = [Deferred.fromCoroutine(ask()) for _ in range(1000)]
        first.release()
        for each in asking:
            self.failureResultOf(each, OriginBusy)
        self.assertEqual(held._turns, {})
        self.assertTrue(held._strangers.unused)

    def test_first_come(self) -> None:
        """Within a peer and a registry, first come, first served; who comes when there is a place has it."""
        turns = Turns(2, 100, "x")
        for name in "abcde":
            self.ask(turns, name, "p")
        self.assertEqual(self.got, ["a", "b"])
        self.release()
        self.assertEqual(self.got, list("abcde"))

    def test_kept(self) -> None:
        """However many places a peer would like, and however long it keeps them, another gets one at once."""
        turns = Turns(16, 100, "x")
        for _ in range(40):
            self.ask(turns, "greedy", "p")
        self.assertEqual(self.got, ["greedy"] * 14)
        for peer in ("q", "r"):
            self.ask(turns, peer, peer)
        self.assertEqual(self.got[14:], ["q", "r"])
        self.ask(turns, "late", "s")
        self.places[-1].release()
        self.assertEqual(self.got[16:], ["late"], "who has fewer goes before who may have no more")

    def test_nobody_in_particular(self) -> None:
        """Nobody's may have all places, as may a peer where there are but a few."""
        for peer, places in (("", 16), ("p", 7)):
            turns = Turns(places, 100, "x")
            self.got.clear()
            for _ in range(places):
                self.ask(turns, "x", peer)
            self.assertEqual(len(self.got), places)

    def test_bounded(self) -> None:
        """When all who may wait are there, one more is told at once to come later: 503, with the seconds."""
        turns = Turns(1, 3, "a connection to there")
        waiting = [self.ask(turns, "x", "p") for _ in range(4)]
        error = self.failureResultOf(self.ask(turns, "more", "p"), OriginBusy).value
        self.assertEqual((error.status, error.seconds, error.headers), (503, 5.0, (("Retry-After", "5"),)))
        self.assertIn("a connection to there", error.message)
        self.assertEqual(turns.waiting, 3)
        for each in waiting[1:]:
            self.assertNoResult(each)
        self.release()

    def test_room_is_made(self) -> None:
        """It is not he who is told so, though, if somebody else has more that wait: the last of those is."""
        turns = Turns(1, 4, "x")
        crowd = [self.ask(turns, "crowd", "p", registry) for registry in ("held", "a", "b", "b", "b")]
        first, second = self.ask(turns, "q", "q"), self.ask(turns, "q", "q")
        for dropped in (4, 3):
            self.failureResultOf(crowd[dropped], OriginBusy)
        self.failureResultOf(self.ask(turns, "q", "q"), OriginBusy)
        self.assertEqual(turns.waiting, 4)
        for each in (*crowd[1:3], first, second):
            self.assertNoResult(each)
        self.release()
        self.assertEqual(self.got, ["crowd", "crowd", "q", "crowd", "q"])
        self.assertTrue(turns.unused)

    def test_leaving(self) -> None:
        """Who leaves the queue is forgotten, whoever has gone leaves no trace, and nobody's turn is lost."""
        turns = Turns(1, 100, "x")
        self.ask(turns, "held", "p")
        leaving = [self.ask(turns, "gone", peer, registry) for peer in "pqr" for registry in "ab"]
        self.ask(turns, "stays", "q", "b")
        for each in leaving:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(turns.waiting, 1)
        self.release()
        self.assertEqual(self.got, ["held", "stays"])
        self.assertTrue(turns.unused)
        self.assertEqual((turns._held, turns._counts, dict(turns._peers)), ({}, {}, {}))

    def test_closed(self) -> None:
        """When it all ends, who waits is told, and so is who comes."""
        turns = Turns(1, 100, "x")
        self.ask(turns, "held", "p")
        waiting = [self.ask(turns, "x", peer, registry) for peer in "pq" for registry in "ab" for _ in range(2)]
        turns.close(lambda: ShuttingDown("over"))
        for each in (*waiting, self.ask(turns, "late", "r")):
            self.failureResultOf(each, ShuttingDown)
        self.release()
        self.assertEqual((self.got, turns.unused), (["held"], True))

    def test_twice(self) -> None:
        """To release a place twice lets one go, not two."""
        turns = Turns(1, 100, "x")
        self.ask(turns, "a", "p")
        for name in "bc":
            self.ask(turns, name, "p")
        place = self.places.pop()
        place.release()
        place.release()
        self.assertEqual(self.got, ["a", "b"])


class LimitsTests(SynchronousTestCase):
    """L{Limits}, towards origins that nobody knows."""

    def limits(self) -> Limits:
        self.patch(limits, "STRANGERS", 16)
        return Limits(64, lambda registry: registry == A)

    def strangers(self, made: Limits, count: int, peer: str = "") -> list[Any]:
        """So many registries that never answer."""
        return [
            made.acquire(origin_of(f"https://{index}.test"), False, Registry.parse(f"{index}.test"), peer)
            for index in range(count)
        ]

    def test_strangers(self) -> None:
        """However many registries a client names, so many are asked at once as long as none of them answers."""
        made = self.limits()
        asking = self.strangers(made, 20)
        first, second, *_ = [self.successResultOf(each) for each in asking[:16]]
        for each in asking[16:]:
            self.assertNoResult(each)
        first.answered()
        self.successResultOf(asking[16])
        second.release()
        self.successResultOf(asking[17])
        self.assertNoResult(asking[18])

    def test_named_and_known(self) -> None:
        """Registries that the administrator has named, and those that have answered, wait for none of them."""
        made = self.limits()
        known = self.successResultOf(made.acquire(origin_of("https://b.test"), False, B))
        known.answered()
        known.release()
        self.strangers(made, 40)
        self.successResultOf(made.acquire(origin_of("https://a.test"), False, A))
        self.successResultOf(made.acquire(origin_of("https://b.test"), True, B))
        made.known.drop(origin_of("https://b.test"))
        self.assertNoResult(made.acquire(origin_of("https://b.test"), True, B))

    def test_another_peer(self) -> None:
        """Nor does another peer."""
        made = self.limits()
        self.strangers(made, 40, "p")
        self.successResultOf(made.acquire(origin_of("https://b.test"), False, B, "q"))

    def test_closed(self) -> None:
        """So it is with slots of either kind, also at origins that nobody has asked yet."""
        made = self.limits()
        asking = self.strangers(made, 40)
        made.close(lambda: ShuttingDown("over"))
        for each in asking[16:]:
            self.failureResultOf(each, ShuttingDown)
        self.failureResultOf(made.acquire(origin_of("https://a.test"), False, A), ShuttingDown)

    def test_no_trace(self) -> None:
        """Whoever gets no slot, or leaves, has none of either kind."""
        made = self.limits()
        asking = self.strangers(made, 40)
        for each in asking[16:]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        for each in asking[:16]:
            slot = self.successResultOf(each)
            slot.release()
            slot.release()
        self.assertEqual(made._turns, {})
        self.assertTrue(made._strangers.unused)
