"""L{crcache.flow.fill}: clients that leave, daemons that stop."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from crcache.errors import ShuttingDown
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.store.memory import Memory
from crcache.testing.upstream import FakeUpstream, Turn
from tests.flow.scene import DATA, SEGMENT, FillCase, Held, Watcher

GHCR = Registry("ghcr.io")


class LeavingTests(FillCase):
    """Clients that leave, and a daemon that stops."""

    def test_client_leaves(self) -> None:
        """A client that leaves cancels nothing, before the answer or after it, be it the only one."""
        self.script(Turn(hold=True))
        turn = self.upstream.turns[0]
        fill = self.begin()
        opened, other = fill.opened(), fill.opened()
        opened.addErrback(lambda failure: failure.trap(CancelledError))
        opened.cancel()
        turn.release()
        self.successResultOf(other)
        watcher = Watcher()
        fill.watch(watcher)
        fill.unwatch(watcher)
        self.pass_time(1)
        self.settled(fill)

    def test_all_leave_at_once(self) -> None:
        """Nor do many who leave because of one another."""
        self.script(Turn(hold=True))
        turn = self.upstream.turns[0]
        fill = self.begin()
        waiting = [fill.opened() for _ in range(3)]
        for each in waiting:
            each.addErrback(lambda failure: failure.trap(CancelledError))

        def leave(_: None) -> None:
            for other in waiting[1:]:
                other.cancel()

        waiting[0].addCallback(leave)
        turn.release()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_opened(self) -> None:
        """It opens once the origin agrees, before any byte of the body, for those who asked before and after."""
        self.script(Turn(hold=True, stall=0))
        turn = self.upstream.turns[0]
        fill = self.begin()
        before = fill.opened()
        self.assertNoResult(before)
        turn.release()
        self.successResultOf(before)
        self.successResultOf(fill.opened())

    def test_stop(self) -> None:
        """A stopped fill lets connection and lock go; what has come is kept, and resumed by the next."""
        self.script(Turn(stall=SEGMENT + 5))
        fill = self.begin()
        self.pass_time(1)
        answer = self.upstream.answers[0]
        self.successResultOf(self.fills.stop())
        self.assertTrue(answer.aborted)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual((len(self.fills), self.clock.getDelayedCalls()), (0, []))
        self.assertRaises(ShuttingDown, self.begin)
        self.assertEqual(self.kept().hole(0), (SEGMENT + 5, len(DATA)))
        self.fills = self.make_fills()
        again = self.begin()
        self.pass_time(1)
        self.settled(again)
        self.assertEqual(self.spans(), [None, (SEGMENT + 5, None)])

    def test_stop_at_any_moment(self) -> None:
        """Wherever a fill is, stopping ends it, and those who wait for its head are told why."""
        moments = {
            "asking": Turn(hold=True),
            "before the body": Turn(stall=0),
            "within": Turn(stall=5000),
            "between tries": Turn(cut=5000),
        }
        for moment, turn in moments.items():
            self.upstream = FakeUpstream(DATA, turns=(turn,))
            self.store = self.make_store()
            self.fills = self.make_fills()
            fill = self.begin()
            opened = fill.opened()
            self.clock.advance(0.5)
            stopped = self.fills.stop()
            self.pass_time(0.1)
            self.successResultOf(stopped)
            if moment == "asking":
                self.failureResultOf(opened, ShuttingDown)
            else:
                self.successResultOf(opened)
            self.assertIs(fill.verdict, Verdict.FAILED, moment)
            self.assertEqual(len(self.upstream.queries), 1)
            self.assertTrue(self.owned().owner, moment)

    def test_stop_while_hashing(self) -> None:
        """A fill that is only being hashed is stopped as well, when the step at hand is done."""
        self.left((0, len(DATA)))
        hashing = Held()
        self.fills = self.make_fills(hashing)
        fill = self.begin()
        self.assertEqual(hashing.waiting, 1)
        self.successResultOf(self.fills.stop())
        self.assertIs(fill.verdict, Verdict.FAILED)
        hashing.step()
        self.assertTrue(self.owned().owner)

    def test_stop_while_committing(self) -> None:
        """A fill that is verified is committed before it ends: its clients go on, and nobody need hash it again."""
        held = Held()
        self.store = Memory(lambda: 0.0)
        ended: list[object] = []
        store = _SlowCommit(self.store, held)
        self.fills = self.make_fills(store=store)  # type: ignore[arg-type]
        fill = self.begin()
        self.pass_time(1)
        self.assertEqual((fill.verdict, held.waiting), (Verdict.VERIFIED, 1))
        self.fills.stop().addCallback(ended.append)
        self.assertEqual((fill.verdict, ended), (Verdict.VERIFIED, []))
        held.step()
        self.assertEqual(ended, [None])
        self.settled(fill)

    def test_stop_twice(self) -> None:
        """Nothing to stop is stopped at once."""
        self.successResultOf(self.fills.stop())
        self.successResultOf(self.fills.stop())


class _SlowCommit:
    """A store whose commits are done when the test says so."""

    def __init__(self, store: Memory, held: Held) -> None:
        self._store, self._held = store, held

    def ingest(self, registry: Registry, digest: Digest, repository: Repository | None) -> object:
        def slow(ingest: Any) -> Any:
            commit = ingest.commit
            ingest.commit = lambda *args: self._held.run(lambda: commit(*args).result)
            return ingest

        return self._store.ingest(registry, digest, repository).addCallback(slow)
