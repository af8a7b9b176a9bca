"""L{crcache.flow.follow}: two stores on one directory are as good as two processes."""

from __future__ import annotations

import shutil

from crcache.errors import BodyCut, StoreError
from crcache.facts import Verdict
from crcache.flow.fills import Fills
from crcache.flow.follow import CLAIM, POLL
from crcache.flow.still import StandingStill
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.workers import Inline
from tests.flow.scene import ALPINE, DATA, DIGEST, PAUSE, RETRIES, SEGMENT, FillCase, Watcher, bytes_of, query
from tests.flow.two_stores import TwoStores

#: Seconds without a byte after which an origin is given up.
STALL = 4.0


class FollowTests(TwoStores, FillCase):
    """The first process fetches; the second follows it, until it has to fetch itself."""

    def setUp(self) -> None:
        """Have a second process."""
        super().setUp()
        self.second_upstream = FakeUpstream(DATA)
        upstream, meter = self.second_upstream, FakeMeter()
        tools = Tools(self.clock, self.another(), upstream, Inline(), meter, self._retry, stall=lambda: STALL)
        self.second = Fills(tools)
        self.addCleanup(lambda: self.second.stop() and None)

    def stalled(self, at: int = SEGMENT + 5, **more: object) -> Turn:
        """The first process' origin sends so much, and then waits."""
        turn = Turn(stall=at, **more)  # type: ignore[arg-type]
        self.script(turn)
        return turn

    def test_followed(self) -> None:
        """The second reads what the first writes, and its clients are told; only the first asks the origin."""
        turn = self.stalled()
        first = self.begin()
        self.pass_time(0.1)
        second = self.second.begin(query(), None)
        watcher = Watcher()
        second.watch(watcher)
        self.pass_time(3)
        self.successResultOf(second.opened())
        self.assertEqual((second.size, second.verdict), (len(DATA), Verdict.FILLING))
        self.assertEqual(bytes_of(second), DATA[: SEGMENT + 5])
        self.assertEqual(second.confirmed, set())
        told = watcher.count
        turn.release()
        self.pass_time(POLL * 2)
        self.assertGreater(watcher.count, told)
        self.settled(first)
        self.assertIs(second.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(second), DATA)
        self.assertEqual(len(self.second), 0)
        self.assertEqual((len(self.upstream.queries), self.second_upstream.queries), (1, []))

    def test_opened_by_the_first(self) -> None:
        """The second's clients have their head once the first's origin agrees, not before."""
        turn = Turn(hold=True, stall=0)
        self.script(turn)
        self.begin()
        second = self.second.begin(query(), None)
        opened = second.opened()
        self.pass_time(2)
        self.assertNoResult(opened)
        turn.release()
        self.pass_time(POLL * 2)
        self.successResultOf(opened)

    def test_late_size(self) -> None:
        """A size that the first learns late is told to the second's clients, who may wait for it."""
        self.script(Turn(unsized=True, cut=1000), Turn(stall=10))
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(PAUSE / 2)
        self.successResultOf(second.opened())
        self.assertIsNone(second.size)
        self.pass_time(PAUSE)
        self.assertEqual(second.size, len(DATA))

    def test_wrong(self) -> None:
        """What the first finds to be wrong is never verified in the second; its clients' connections are aborted."""
        turn = self.stalled(wrong=True)
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        self.successResultOf(second.opened())
        turn.release()
        self.pass_time(POLL * 2)
        self.assertIs(second.verdict, Verdict.FAILED)
        self.failureResultOf(second.opened(), BodyCut)

    def test_refused(self) -> None:
        """When the first's origin refuses, the second, whose clients have nothing yet, asks for itself."""
        turn = Turn(status=404, hold=True)
        self.script(turn)
        self.begin().opened().addErrback(lambda _: None)
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        turn.release()
        self.pass_time(1)
        self.assertIs(second.verdict, Verdict.VERIFIED)
        self.assertEqual(len(self.second_upstream.queries), 1)
        self.assertEqual(second.confirmed, {ALPINE})

    def test_taken_over(self) -> None:
        """When the first goes away without a verdict the second goes on from its marks; its clients notice nothing."""
        self.stalled()
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        fd = second.open()
        self.successResultOf(self.fills.stop())
        self.pass_time(CLAIM * 2)
        self.assertEqual([asked.span for asked in self.second_upstream.queries], [(SEGMENT + 5, None)])
        self.assertIs(second.verdict, Verdict.VERIFIED)
        self.assertEqual(bytes_of(second), DATA)
        import os

        self.assertEqual(os.pread(fd, len(DATA), 0), DATA)
        os.close(fd)
        self.assertEqual(list((self.root / "ingest").iterdir()), [])

    def test_patient_takeover(self) -> None:
        """Whoever takes over in mid-body tries more than once."""
        self.stalled()
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        self.second_upstream.turns = [Turn(status=503) for _ in range(RETRIES)]
        self.successResultOf(self.fills.stop())
        self.pass_time(CLAIM * 2 + PAUSE * RETRIES)
        self.assertIs(second.verdict, Verdict.VERIFIED)

    def test_gives_up(self) -> None:
        """When the first's origin breaks off for good the second tries as well, and then gives up, too."""
        self.script(*[Turn(cut=10), *[Turn(cut=0) for _ in range(RETRIES)]])
        self.second_upstream.turns = [Turn(status=503) for _ in range(RETRIES + 1)]
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(20)
        self.assertIs(second.verdict, Verdict.FAILED)
        self.assertEqual(self.kept().hole(0), (10, len(DATA)))

    def test_stopped_follower(self) -> None:
        """A follower that is stopped leaves the first alone."""
        turn = self.stalled()
        first = self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        self.successResultOf(self.second.stop())
        self.assertIs(second.verdict, Verdict.FAILED)
        turn.release()
        self.pass_time(1)
        self.settled(first)

    def test_removed(self) -> None:
        """When somebody removes the files, both go on to the end; what is removed is not kept."""
        turn = self.stalled()
        first = self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        shutil.rmtree(self.root / "ingest")
        turn.release()
        self.pass_time(1)
        for fill in (first, second):
            self.assertIs(fill.verdict, Verdict.VERIFIED)
            self.assertEqual(bytes_of(fill), DATA)
        self.assertIsNone(self.successResultOf(self.store.find(DIGEST)))

    def test_removed_and_left(self) -> None:
        """When the files are removed and then the first goes away, the second fails: there is nothing to go on from."""
        self.stalled()
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        shutil.rmtree(self.root / "ingest")
        self.successResultOf(self.fills.stop())
        self.pass_time(CLAIM * 2)
        self.assertIs(second.verdict, Verdict.FAILED)
        self.failureResultOf(second.opened(), StoreError)

    def test_stands_still(self) -> None:
        """When the first makes no progress for so long, the second stops waiting; its clients are told why."""
        self.stalled()
        self.begin()
        second = self.second.begin(query(), None)
        self.pass_time(STALL * 1.4)
        self.assertIs(second.verdict, Verdict.FILLING)
        self.assertTrue(second.follows)
        self.pass_time(STALL * 0.4)
        self.assertIs(second.verdict, Verdict.FAILED)
        self.assertIsInstance(second.problem, StoreError)
        self.assertFalse(second.follows)
        self.assertEqual(bytes_of(second), DATA[: SEGMENT + 5])
        self.assertEqual((len(self.second), self.second_upstream.queries), (0, []))

    def test_goes_on(self) -> None:
        """A byte now and then is progress, wherever it comes; that the size is known is, too."""
        first = self.owned()
        second = self.second.begin(query(), None)
        for do in (
            lambda: first.settle(None),
            lambda: first.write(0, [DATA[:1]]),
            lambda: first.settle(len(DATA)),
            lambda: first.write(2 * SEGMENT, [DATA[2 * SEGMENT : 2 * SEGMENT + 1]]),
            lambda: first.write(2 * SEGMENT + 1, [DATA[2 * SEGMENT + 1 : 2 * SEGMENT + 2]]),
            lambda: first.write(1, [DATA[1:2]]),
        ):
            self.pass_time(STALL)
            do()
        self.pass_time(STALL)
        self.assertIs(second.verdict, Verdict.FILLING)
        self.pass_time(STALL)
        self.assertIs(second.verdict, Verdict.FAILED)
        first.close()

    def test_not_waited_for_twice(self) -> None:
        """While it stands still nobody waits for it again; when it goes on it is followed again."""
        turn = self.stalled()
        self.begin()
        self.second.begin(query(), None)
        self.pass_time(STALL * 2)
        for _ in range(3):
            self.failureResultOf(self.second.begin(query(), None).opened(), StoreError)
        turn.release()
        self.pass_time(POLL)
        second = self.second.begin(query(), None)
        self.successResultOf(second.opened())
        self.pass_time(1)
        self.assertIs(second.verdict, Verdict.VERIFIED)
        self.assertEqual(self.second_upstream.queries, [])

    def test_not_waited_for_but_followed(self) -> None:
        """If it went on only a little, it is waited for as long as ever."""
        first = self.owned()
        first.settle(len(DATA))
        self.second.begin(query(), None)
        self.pass_time(STALL * 2)
        first.write(0, [DATA[:5]])
        second = self.second.begin(query(), None)
        self.successResultOf(second.opened())
        self.pass_time(STALL)
        self.assertIs(second.verdict, Verdict.FILLING)
        first.close()
        self.pass_time(1)
        self.assertIs(second.verdict, Verdict.VERIFIED)

    def test_stood_still_and_died(self) -> None:
        """When what stood still has died, the next ask here takes it over at once."""
        self.stalled()
        self.begin()
        self.second.begin(query(), None)
        self.pass_time(STALL * 2)
        self.successResultOf(self.fills.stop())
        second = self.second.begin(query(), None)
        self.pass_time(0.1)
        self.assertIs(second.verdict, Verdict.VERIFIED)
        self.assertEqual(len(self.second_upstream.queries), 1)

    def test_few_are_remembered(self) -> None:
        """However many stand still, few of them are remembered: those that did last."""
        still = StandingStill()
        progress = (Verdict.FILLING, True, 10, ((0, 10),))
        keys = [(DOCKER_IO, Digest.of(b"%d" % number)) for number in range(1000)]
        for key in keys:
            still.note(key, progress)
        self.assertTrue(still.at(keys[-1], progress))
        self.assertLess(sum(still.at(key, progress) for key in keys), 500)
        self.assertFalse(still.at(keys[-1], (*progress[:2], 11, ())))
        self.assertFalse(still.at(keys[-1], progress))

    def test_cheap(self) -> None:
        """Following looks a bounded number of times a second, and stops with the fill."""
        self.stalled()
        self.begin()
        second = self.second.begin(query(), None)
        watcher = Watcher()
        second.watch(watcher)
        self.pass_time(2)
        self.assertLessEqual(watcher.count, 2 / POLL + 2)
        self.successResultOf(self.second.stop())
        self.successResultOf(self.fills.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
