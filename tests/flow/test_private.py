"""L{crcache.flow.lending}: private fills, which ask with what their clients lend them."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from crcache.errors import Denied, GivenUp, OriginError, Unauthorized
from crcache.facts import Fetched, Membership, Query, Verdict
from crcache.flow.fetch import Fetch
from crcache.flow.fill import Fill
from crcache.flow.fills import Fills
from crcache.flow.follow import CLAIM
from crcache.flow.lending import LINGER, MOMENT
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.interfaces import IBody, IIngest
from crcache.secret import Secret
from crcache.store.memory import Memory
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.workers import Inline
from tests.flow.scene import (
    ALPINE,
    DATA,
    DIGEST,
    NGINX,
    PAUSE,
    RETRIES,
    SEGMENT,
    FillCase,
    Held,
    Watcher,
    bytes_of,
    query,
)
from tests.flow.two_stores import TwoStores

ANN, BOB, EVE = Secret("Bearer ann-wd1x"), Secret("Bearer bob-wd1x"), Secret("Basic eve-wd1x")


class Marked(Secret):
    """A secret of which one can see whether somebody still has it."""

    __slots__ = ("__weakref__",)


def private(authorization: Secret = ANN, repository: Repository = ALPINE) -> Query:
    """Asks for a whole blob with a client's credentials."""
    return replace(query(repository=repository), authorization=authorization)


class PrivateCase(FillCase):
    """An origin that lets in some.

    @ivar accepted: whom.
    """

    def setUp(self) -> None:
        """Let Ann and Bob in."""
        super().setUp()
        self.accepted = {ANN, BOB}
        self.upstream.rule = self._rule

    def _rule(self, asked: Query) -> Turn | None:
        if asked.authorization in self.accepted:
            return None
        return Turn(status=401, headers={"WWW-Authenticate": "Bearer realm=r"})

    def used(self) -> list[Secret | None]:
        """The credentials that the origin was asked with."""
        return [asked.authorization for asked in self.upstream.queries]

    def follow(self, fill: Fill, authorization: Secret, span: tuple[int, int | None] | None = None) -> Any:
        """A client does; call what is returned when it leaves."""
        body, watcher = fill.lend(authorization), Watcher()
        body.watch(watcher, span)
        return lambda: body.unwatch(watcher)

    def owned(self) -> Any:
        """The private fill's files, held by another who fetches."""
        ingest = self.successResultOf(self.store.ingest(DOCKER_IO, DIGEST, ALPINE))
        assert IIngest.providedBy(ingest)
        return ingest


class ApartTests(PrivateCase):
    """Which fill is whose."""

    def test_apart(self) -> None:
        """A repository's private fill is another than the open one, and than another repository's; each is found."""
        self.script(*[Turn(stall=10) for _ in range(3)])
        self.accepted.add(cast(Secret, None))
        fills = [self.begin(private()), self.begin(query()), self.begin(private(repository=NGINX))]
        self.assertEqual(len(set(map(id, fills))), 3)
        self.assertEqual(self.used(), [ANN, None, ANN])
        found = [self.fills.running(DOCKER_IO, DIGEST, whose) for whose in (ALPINE, None, NGINX)]
        self.assertEqual(found, fills)
        self.assertIsNone(self.fills.running(DOCKER_IO, DIGEST, Repository("other")))
        self.assertIs(self.begin(private(BOB)), fills[0])
        self.assertEqual(len(self.fills), 3)

    def test_files_apart(self) -> None:
        """What one of them has fetched is not there for the other."""
        self.script(Turn(stall=SEGMENT), Turn(stall=10))
        self.accepted.add(cast(Secret, None))
        mine, everyones = self.begin(private()), self.begin(query())
        self.pass_time(0.1)
        self.assertEqual((mine.front(), everyones.front()), (SEGMENT, 10))

    def test_membership(self) -> None:
        """What it brings is noted as private, and as fetched so."""
        fill = self.begin(private())
        self.pass_time(1)
        self.settled(fill)
        known = self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertEqual(known, Membership(DIGEST, None, len(DATA), False, 1000.0, Fetched.PRIVATELY))
        self.assertEqual(fill.confirmed, {ALPINE})

    def test_not_asked(self) -> None:
        """If the origin has not been asked, nothing is noted of the repository."""
        self.left((0, len(DATA)))
        fill = self.begin(private())
        self.pass_time(1)
        self.settled(fill)
        self.assertIsNone(self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST)))
        self.assertEqual((self.used(), fill.confirmed), ([], set()))

    def test_body(self) -> None:
        """A client's view of it is a body as the fill is."""
        self.script(Turn(stall=SEGMENT + 5))
        fill = self.begin(private())
        body, watcher = fill.lend(ANN), Watcher()
        verifyObject(IBody, body)
        body.watch(watcher)
        self.pass_time(0.1)
        self.assertEqual((body.size, body.verdict, body.problem), (len(DATA), Verdict.FILLING, None))
        self.assertEqual(bytes_of(body), DATA[: SEGMENT + 5])
        self.assertGreater(watcher.count, 0)
        told = watcher.count
        body.unwatch(watcher)
        body.unwatch(watcher)
        self.pass_time(LINGER + 1)
        self.assertEqual(watcher.count, told)
        self.assertIs(body.verdict, Verdict.FAILED)
        self.assertIsInstance(body.problem, GivenUp)


class LendingTests(PrivateCase):
    """With whose credentials the origin is asked."""

    def test_first(self) -> None:
        """It begins with those of the client that asked for it."""
        self.settled(self.begin(private(BOB)))
        self.assertEqual(self.used(), [BOB])

    def test_left(self) -> None:
        """When the one has left who began it, it goes on with those of one who follows."""
        self.script(Turn(cut=SEGMENT))
        fill = self.begin(private())
        leave = self.follow(fill, ANN)
        self.follow(fill, BOB)
        leave()
        self.pass_time(PAUSE + 1)
        self.settled(fill)
        self.assertEqual(self.used(), [ANN, BOB])
        self.assertEqual(self.spans(), [None, (SEGMENT, None)])

    def test_gone_between(self) -> None:
        """If nobody lends anything when the next question is due, it waits for somebody who does."""
        self.script(Turn(cut=SEGMENT))
        fill = self.begin(private())
        leave = self.follow(fill, ANN)
        self.pass_time(PAUSE - 0.1)
        leave()
        self.pass_time(0.5)
        self.assertEqual(self.used(), [ANN])
        self.follow(fill, BOB)
        self.settled(fill)
        self.assertEqual(self.used(), [ANN, BOB])

    def test_watched_again(self) -> None:
        """A client that watches again lends again: ranges wait for the size before they wait for bytes."""
        self.script(Turn(cut=SEGMENT))
        fill = self.begin(private())
        body, watcher = fill.lend(ANN), Watcher()
        for _ in range(3):
            body.watch(watcher)
            body.unwatch(watcher)
        body.watch(watcher)
        body.watch(other := Watcher())
        body.unwatch(watcher)
        self.pass_time(PAUSE + 1)
        self.settled(fill)
        body.unwatch(other)

    def test_refused(self) -> None:
        """If the origin refuses them, as when a token has expired, another's are used, and those never again, whoever
        brings them."""
        for status in (401, 403):
            self.setUp()
            self.script(Turn(cut=SEGMENT), Turn(cut=SEGMENT))
            fill = self.begin(private(BOB))
            self.follow(fill, BOB)
            self.follow(fill, ANN)
            self.accepted.remove(ANN)
            if status == 403:
                self.patch(self, "_rule", lambda asked: Turn(status=403) if asked.authorization == ANN else None)
                self.upstream.rule = self._rule
            self.pass_time(PAUSE + 0.1)
            self.assertEqual(self.used(), [BOB, ANN, BOB])
            self.follow(fill, ANN)
            self.pass_time(PAUSE + 1)
            self.settled(fill)
            self.assertEqual(self.used(), [BOB, ANN, BOB, BOB])

    def test_all_refused(self) -> None:
        """If all are refused, that is the answer, with the challenge; each was tried once."""
        self.accepted.clear()
        self.script(Turn(hold=True))
        (hold,) = self.upstream.turns
        self.upstream.rule = lambda asked: hold if asked.authorization == ANN else self._rule(asked)
        hold.status, hold.headers = 401, {"WWW-Authenticate": "Bearer realm=r"}
        fill = self.begin(private())
        for secret in (BOB, EVE, ANN):
            self.assertIs(self.begin(private(secret)), fill)
        opened = fill.opened()
        hold.release()
        problem = self.failureResultOf(opened, Unauthorized).value
        self.assertEqual(problem.headers, (("WWW-Authenticate", "Bearer realm=r"),))
        self.assertEqual(self.used(), [ANN, EVE, BOB])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_of_many(self) -> None:
        """One good one among many is enough, also for the first question; a forbidden one is passed over as well."""
        self.accepted = {BOB}
        fill = self.begin(private(ANN))
        self.failureResultOf(fill.opened(), Unauthorized)
        held = Turn(hold=True, status=403)
        self.upstream.rule = lambda asked: held if asked.authorization == EVE else self._rule(asked)
        fill = self.begin(private(EVE))
        self.begin(private(BOB))
        held.release()
        self.settled(fill)
        self.assertEqual(self.used(), [ANN, EVE, BOB])

    def test_refused_in_the_middle(self) -> None:
        """Refused in mid-body with no other left, it is not asked again, and after its tries it fails so."""
        for gone, error in ((Turn(status=403), Denied), (None, Unauthorized)):
            self.setUp()
            self.script(Turn(cut=SEGMENT), *[gone or Turn(status=401)])
            fill = self.begin(private())
            self.follow(fill, ANN)
            self.pass_time(PAUSE * (RETRIES + 2))
            self.assertEqual(self.used(), [ANN, ANN])
            self.assertIs(fill.verdict, Verdict.FAILED)
            self.assertIsInstance(fill.problem, error)
            self.assertEqual(self.kept().hole(0), (SEGMENT, len(DATA)))

    def test_fresh_token(self) -> None:
        """A client that joins with a fresh token revives a fill that has none left and is trying again."""
        self.script(Turn(cut=SEGMENT))
        fill = self.begin(private())
        self.follow(fill, ANN)
        self.accepted.remove(ANN)
        self.pass_time(PAUSE * 2)
        self.assertIs(fill.verdict, Verdict.FILLING)
        self.assertIs(self.begin(private(BOB)), fill)
        self.pass_time(PAUSE + 1)
        self.settled(fill)
        self.assertEqual(self.used(), [ANN, ANN, BOB])

    def test_out_of_turn(self) -> None:
        """What is waited for far ahead is asked for with what is lent, too; so is the rest."""
        self.script(Turn(stall=100))
        (front,) = self.upstream.turns
        fill = self.begin(private())
        leave = self.follow(fill, ANN)
        self.follow(fill, BOB, (2 * SEGMENT + 5, 2 * SEGMENT + 6))
        leave()
        self.pass_time(3)
        self.assertEqual(fill.readable(2 * SEGMENT + 5), 3 * SEGMENT)
        front.release()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.used(), [ANN, BOB, BOB])


class PauseTests(PrivateCase):
    """When nobody is left who lends."""

    def test_pauses(self) -> None:
        """It ends a little later, as if it were stopped; the next ask goes on from there, with its own credentials."""
        self.script(Turn(stall=SEGMENT + 5))
        fill = self.begin(private())
        leave = self.follow(fill, ANN)
        self.pass_time(MOMENT * 2)
        leave()
        self.pass_time(LINGER - 0.1)
        self.assertIs(self.fills.running(DOCKER_IO, DIGEST, ALPINE), fill)
        self.assertFalse(self.upstream.answers[0].aborted)
        self.pass_time(0.2)
        self.assertTrue(self.upstream.answers[0].aborted)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual((len(self.fills), self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.kept().hole(0), (SEGMENT + 5, len(DATA)))
        again = self.begin(private(BOB))
        self.settled(again)
        self.assertEqual(self.used(), [ANN, BOB])
        self.assertEqual(self.spans(), [None, (SEGMENT + 5, None)])

    def test_followed_again(self) -> None:
        """One who comes back soon finds it running, and it goes on."""
        self.script(Turn(stall=SEGMENT))
        (turn,) = self.upstream.turns
        fill = self.begin(private())
        for _ in range(5):
            leave = self.follow(fill, ANN)
            self.pass_time(LINGER)
            leave()
            self.pass_time(LINGER - 0.1)
        self.assertIs(self.begin(private()), fill)
        self.pass_time(LINGER)
        turn.release()
        self.pass_time(0.1)
        self.settled(fill)
        self.assertEqual(self.used(), [ANN])

    def test_never_watched(self) -> None:
        """One who never comes to watch is followed by nobody after a moment."""
        self.script(Turn(stall=SEGMENT))
        fill = self.begin(private())
        self.successResultOf(fill.opened())
        body = fill.lend(ANN)
        self.pass_time(MOMENT)
        self.assertIs(fill.verdict, Verdict.FILLING)
        self.pass_time(LINGER + 0.1)
        self.assertIs(body.verdict, Verdict.FAILED)
        body.watch(watcher := Watcher())
        body.unwatch(watcher)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiting_for_the_head(self) -> None:
        """One who waits for the head of its answer follows it, however long that takes; its credential is there."""
        first, second = Turn(hold=True, status=401), Turn(hold=True)
        self.upstream.rule = lambda asked: first if asked.authorization == ANN else second
        fill = self.begin(private(ANN))
        self.begin(private(BOB))
        opened = fill.opened()
        self.pass_time(MOMENT * 1.5)
        first.release()
        self.assertEqual(self.used(), [ANN, BOB])
        self.pass_time(MOMENT * 0.4)
        second.release()
        self.successResultOf(opened)
        self.settled(fill)

    def test_waiting_without_lending(self) -> None:
        """One who waits for the head follows it also when the one has left who began it."""
        self.script(Turn(hold=True))
        (turn,) = self.upstream.turns
        fill = self.begin(private())
        opened = fill.opened()
        self.follow(fill, ANN)()
        self.pass_time(LINGER * 3)
        self.assertIs(fill.verdict, Verdict.FILLING)
        turn.release()
        self.successResultOf(opened)
        self.settled(fill)

    def test_still_writing(self) -> None:
        """Who asks while a paused one is still writing gets one that waits for it, and is not told of it."""
        held = Held()
        self.store = Memory(lambda: 1000.0, held)
        self.fills = self.make_fills()
        self.script(Turn(stall=SEGMENT + 5))
        fill = self.begin(private())
        leave = self.follow(fill, ANN)
        self.clock.advance(0.1)
        self.assertGreater(held.waiting, 0)
        leave()
        self.clock.advance(LINGER)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertIsNone(self.fills.running(DOCKER_IO, DIGEST, ALPINE))
        again = self.begin(private(BOB))
        self.assertIsNot(again, fill)
        self.follow(again, BOB)
        for _ in range(1000):
            self.clock.advance(0.01)
            while held.waiting:
                held.step()
        self.settled(again)
        self.assertEqual(self.used(), [ANN, BOB])

    def test_stopped_while_leaving(self) -> None:
        """Stopping waits for a paused one, too, and for one that has begun after it."""
        held = Held()
        self.store = Memory(lambda: 1000.0, held)
        self.fills = self.make_fills()
        self.script(Turn(stall=SEGMENT + 5))
        fill = self.begin(private())
        self.follow(fill, ANN)()
        self.clock.advance(LINGER)
        self.assertTrue(fill.paused)
        self.begin(private(BOB))
        stopped = self.fills.stop()
        self.assertNoResult(stopped)
        while held.waiting:
            held.step()
        self.successResultOf(stopped)
        self.assertTrue(self.owned().owner)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_missing(self) -> None:
        """If all bytes are there it needs nobody: it is hashed to its end, and kept."""
        self.left((0, len(DATA)))
        hashing = Held()
        self.fills = self.make_fills(hashing)
        fill = self.begin(private())
        self.follow(fill, ANN)()
        self.pass_time(LINGER * 3)
        self.assertIs(fill.verdict, Verdict.FILLING)
        while hashing.waiting:
            hashing.step()
        self.settled(fill)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_missing_but_wrong(self) -> None:
        """If they prove wrong, and nobody is there to fetch them anew, it pauses then."""
        small = Digest.of(b"small")
        ingest: Any = self.successResultOf(self.store.ingest(DOCKER_IO, small, ALPINE))
        ingest.settle(5)
        self.successResultOf(ingest.write(0, [b"smell"]))
        ingest.close()
        hashing = Held()
        self.fills = self.make_fills(hashing)
        fill = self.begin(replace(private(), reference=small))
        self.follow(fill, ANN)()
        self.pass_time(LINGER * 3)
        while hashing.waiting:
            hashing.step()
        self.assertIs(fill.verdict, Verdict.FILLING)
        self.pass_time(LINGER + 0.1)
        self.assertTrue(fill.paused)
        self.assertEqual((self.used(), self.clock.getDelayedCalls()), ([], []))

    def test_open_goes_on(self) -> None:
        """An open one goes on without anybody, whoever lends it what it has no use for."""
        self.accepted = {cast(Secret, None)}
        self.script(Turn(cut=SEGMENT))
        fill = self.begin()
        self.assertIs(fill.lend(ANN), fill)
        self.follow(fill, ANN)()
        self.pass_time(LINGER * 2)
        self.settled(fill)
        self.assertEqual(self.used(), [None, None])

    def test_stop(self) -> None:
        """A stopped one leaves nothing behind, with or without followers."""
        for following in (True, False):
            self.setUp()
            self.script(Turn(stall=SEGMENT))
            fill = self.begin(private())
            leave = self.follow(fill, ANN)
            if not following:
                leave()
            self.successResultOf(self.fills.stop())
            self.assertEqual(self.clock.getDelayedCalls(), [])
            leave()
            self.assertEqual(self.clock.getDelayedCalls(), [])


class SecrecyTests(PrivateCase):
    """Nobody keeps a credential, or shows it."""

    def test_not_kept(self) -> None:
        """A client's credential is gone when the client is, though the fill goes on for another."""
        self.accepted = {BOB, Marked("Bearer ann-wd1x")}
        self.script(Turn(stall=10, cut=SEGMENT))
        (turn,) = self.upstream.turns
        secret = Marked("Bearer ann-wd1x")
        there = weakref.ref(secret)
        fill = self.begin(private(secret))
        leave = self.follow(fill, secret)
        del secret
        self.upstream.queries.clear()
        self.follow(fill, BOB)
        gc.collect()
        self.assertIsNotNone(there())
        leave()
        del leave
        gc.collect()
        self.assertIsNone(there())
        turn.release()
        self.pass_time(PAUSE + 1)
        self.settled(fill)
        self.assertEqual(self.used(), [BOB])

    def test_over(self) -> None:
        """When it is over, well or not, it has none, though its clients still hold it."""
        for turn in (Turn(), Turn(cut=0), Turn(status=401), Turn(status=404), Turn(wrong=True)):
            self.setUp()
            self.upstream.rule = lambda _, turn=turn: turn  # type: ignore[misc]
            secret = Marked("Bearer ann-wd1x")
            there = weakref.ref(secret)
            fill = self.begin(private(secret))
            self.begin(private(secret))
            self.pass_time(20)
            self.assertIsNot(fill.verdict, Verdict.FILLING)
            self.begin(private(BOB))
            assert fill.lending is not None
            self.follow(fill, secret)
            fill.lending.offer(secret)
            self.upstream.queries.clear()
            del secret
            gc.collect()
            self.assertIsNone(there(), turn)

    def test_not_shown(self) -> None:
        """Neither operators nor the log, at any level, are shown any."""
        logged: list[LogEvent] = []
        observer = cast(ILogObserver, logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.script(Turn(cut=SEGMENT), Turn(cut=10))
        fill = self.begin(private())
        self.follow(fill, ANN, (2 * SEGMENT, None))
        self.follow(fill, EVE)
        self.accepted.clear()
        shown = json.dumps(self.fills.describe())
        self.pass_time(20)
        self.accepted = {BOB}
        self.follow(self.begin(private(BOB)), BOB)()
        self.script(Turn(stall=10))
        problem = cast(OriginError, fill.problem)
        shown += repr((fill, vars(fill), fill.query, vars(problem), problem, fill.lend(ANN), vars(fill.lend(ANN))))
        self.assertGreater(len(logged), 2)
        for event in logged:
            shown += formatEvent(event) + repr(event)
        self.assertIn("sha256:", shown)
        self.assertNotIn("wd1x", shown)


class ProcessesTests(TwoStores, PrivateCase):
    """Two processes: two stores on one directory are as good."""

    def setUp(self) -> None:
        """Have a second process, whose client is Bob, following the first one's fill."""
        super().setUp()
        self.second_upstream = FakeUpstream(DATA)
        self.second = Fills(Tools(self.clock, self.another(), self.second_upstream, Inline(), FakeMeter(), self._retry))
        self.addCleanup(lambda: self.second.stop() and None)
        self.script(Turn(stall=SEGMENT + 5))
        self.fill = self.begin(private())
        self.leave = self.follow(self.fill, ANN)
        self.other = self.second.begin(private(BOB), None)
        self.leave_other = self.follow(self.other, BOB)
        self.pass_time(1)
        self.assertTrue(self.other.follows)
        self.assertEqual(bytes_of(self.other), DATA[: SEGMENT + 5])
        self.assertEqual(self.second_upstream.queries, [])

    def taken_over(self) -> None:
        """The second goes on with what its own client lends."""
        self.pass_time(CLAIM * 2)
        self.assertIs(self.other.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(self.other), DATA)
        asked = [(each.authorization, each.span) for each in self.second_upstream.queries]
        self.assertEqual(asked, [(BOB, (SEGMENT + 5, None))])
        known = self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST))
        assert known is not None
        self.assertEqual((known.open, known.fetched), (False, Fetched.PRIVATELY))

    def test_paused(self) -> None:
        """When the first one's clients have left, it lets go, and the second takes over."""
        self.leave()
        self.pass_time(LINGER + 0.1)
        self.assertTrue(self.fill.paused)
        self.taken_over()

    def test_stopped(self) -> None:
        """So when it is stopped."""
        self.successResultOf(self.fills.stop())
        self.taken_over()

    def test_died(self) -> None:
        """So when it dies, without a word."""
        ingest = cast(Any, self.fill)._source
        self.patch(Fetch, "_drop", lambda _: None)
        ingest.close()
        self.taken_over()

    def test_follower_pauses(self) -> None:
        """A follower whose clients have left pauses as well, and leaves the first alone."""
        self.leave_other()
        self.pass_time(LINGER + 0.1)
        self.assertTrue(self.other.paused)
        self.assertEqual(len(self.second), 0)
        self.assertIs(self.fill.verdict, Verdict.FILLING)

    def test_standing_still_apart(self) -> None:
        """That the one stands still is not held against the open one of the same digest, or another repository's."""
        self.script(Turn(stall=SEGMENT + 5))
        self.follow(self.begin(private(repository=NGINX)), ANN)
        self.pass_time(40)
        self.assertIs(self.other.verdict, Verdict.FAILED)
        self.assertIs(self.second.begin(private(BOB), None).verdict, Verdict.FAILED)
        elsewhere = self.second.begin(private(BOB, NGINX), None)
        self.assertTrue(elsewhere.follows)
        self.assertIs(self.second.begin(private(BOB), None).verdict, Verdict.FAILED)
