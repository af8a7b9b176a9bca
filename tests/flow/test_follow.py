"""L{crcache.flow.follow}: two stores on one directory are as good as two processes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from crcache.errors import BodyCut, StoreError
from crcache.facts import Verdict
from crcache.flow.fills import Fills
from crcache.flow.follow import CLAIM, POLL
from crcache.flow.tools import Tools
from crcache.interfaces import IStore
from crcache.store.filesystem import Filesystem
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.workers import Inline
from tests.flow.scene import ALPINE, DATA, DIGEST, PAUSE, RETRIES, SEGMENT, FillCase, Watcher, bytes_of, query


class FollowTests(FillCase):
    """The first process fetches; the second follows it, until it has to fetch itself."""

    def make_store(self) -> IStore:
        """In a directory."""
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.root)
        return self.another()

    def another(self) -> Filesystem:
        """The other process' store."""
        store = Filesystem(self.root, Inline(), lambda: 1000.0)
        store.start()
        return store

    def setUp(self) -> None:
        """Have a second process."""
        super().setUp()
        self.second_upstream = FakeUpstream(DATA)
        tools = Tools(self.clock, self.another(), self.second_upstream, Inline(), FakeMeter(), self._retry)
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
