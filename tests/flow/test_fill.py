"""L{crcache.flow.fill} and L{crcache.flow.fills}."""

from __future__ import annotations

import gc
import os

from twisted.internet.defer import Deferred

from crcache.errors import BlobUnknown, OriginFailed, OriginTimeout, StoreError
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.store.memory import Memory
from crcache.testing.upstream import FakeUpstream, Turn
from tests.flow.scene import ALPINE, DATA, DIGEST, NGINX, FillCase, Watcher, bytes_of, query
from tests.store.stores import descriptors

GHCR = Registry("ghcr.io")


class JoinTests(FillCase):
    """Many clients, one fetch."""

    def test_joined(self) -> None:
        """However many ask, of whatever repository, one fill is begun, and the origin is asked once."""
        self.script(Turn(stall=1000))
        turn = self.upstream.turns[0]
        fill = self.begin()
        self.assertEqual(len(self.fills), 1)
        for repository in (ALPINE, NGINX):
            self.assertIs(self.begin(query(repository=repository)), fill)
        self.assertIs(self.fills.running(DOCKER_IO, DIGEST), fill)
        turn.release()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(len(self.upstream.queries), 1)
        self.assertIsNone(self.fills.running(DOCKER_IO, DIGEST))

    def test_registries(self) -> None:
        """Another registry's fill of the same digest is another: no registry's lies reach another's clients."""
        self.script(Turn(wrong=True, stall=10), Turn(stall=10))
        lying, honest = self.upstream.turns
        first, second = self.begin(), self.begin(query(registry=GHCR))
        self.assertIsNot(first, second)
        self.assertEqual(len(self.fills), 2)
        self.pass_time(1)
        self.assertEqual(bytes_of(second), DATA[:10])
        lying.release()
        self.pass_time(1)
        self.assertIs(first.verdict, Verdict.FAILED)
        honest.release()
        self.pass_time(1)
        self.settled(second)

    def test_confirmed(self) -> None:
        """Only the repository through which the origin was asked is confirmed to hold it."""
        fill = self.begin()
        self.begin(query(repository=NGINX))
        self.pass_time(1)
        self.assertEqual(fill.confirmed, {ALPINE})

    def test_after_the_end(self) -> None:
        """Whoever asks once it is over begins another, which finds the content without asking the origin."""
        first = self.begin()
        self.pass_time(1)
        second = self.begin()
        self.assertIsNot(first, second)
        self.successResultOf(second.opened())
        self.settled(second)
        self.assertEqual((len(self.upstream.queries), second.confirmed), (1, set()))

    def test_counted(self) -> None:
        """Fills are counted while they run, however they end."""
        self.script(Turn(stall=10), Turn(status=500))
        turn = self.upstream.turns[0]
        self.begin()
        self.assertEqual(self.meter.calls["filling"], [(1,)])
        turn.release()
        self.pass_time(1)
        self.assertEqual(self.meter.calls["filling"], [(1,), (-1,)])
        self.successResultOf(self.store.drop(DIGEST))
        self.failureResultOf(self.begin().opened(), OriginFailed)
        self.assertEqual(self.meter.calls["filling"], [(1,), (-1,), (1,), (-1,)])

    def test_described(self) -> None:
        """The fills that run can be shown to operators."""
        self.script(Turn(stall=1000))
        self.begin()
        self.pass_time(1)
        self.assertEqual(
            self.fills.describe(),
            [
                {
                    "registry": "docker.io",
                    "repository": "library/alpine",
                    "digest": str(DIGEST),
                    "size": len(DATA),
                    "front": 1000,
                }
            ],
        )


class BodyTests(FillCase):
    """A fill as a body to send from."""

    def test_grows(self) -> None:
        """Watchers are told as it grows, and of the verdict; each only while it watches."""
        self.script(Turn(stall=1000))
        turn = self.upstream.turns[0]
        fill = self.begin()
        staying, leaving = Watcher(), Watcher()
        fill.watch(staying)
        fill.watch(leaving)
        self.pass_time(1)
        self.assertEqual((fill.readable(0), fill.size, fill.verdict), (1000, len(DATA), Verdict.FILLING))
        self.assertGreater(leaving.count, 0)
        count = leaving.count
        fill.unwatch(leaving)
        fill.unwatch(leaving)
        turn.release()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(leaving.count, count)
        self.assertGreater(staying.count, count)

    def test_told_of_the_end(self) -> None:
        """When watchers are told of the verdict it can be seen, and so can all bytes."""
        self.script(Turn(stall=1000))
        turn = self.upstream.turns[0]
        fill = self.begin()
        seen: list[tuple[Verdict, int]] = []

        class Noting(Watcher):
            def moved(self) -> None:
                seen.append((fill.verdict, fill.readable(0)))

        fill.watch(Noting())
        turn.release()
        self.pass_time(1)
        self.assertIn((Verdict.VERIFIED, len(DATA)), seen)

    def test_watcher_leaves_when_told(self) -> None:
        """Watchers may leave, and new ones come, while they are being told."""
        self.script(Turn(stall=10))
        turn = self.upstream.turns[0]
        fill = self.begin()
        late = Watcher()

        class Leaving(Watcher):
            def moved(self) -> None:
                super().moved()
                fill.unwatch(self)
                fill.watch(late)

        leaving = [Leaving(), Leaving()]
        for each in leaving:
            fill.watch(each)
        turn.release()
        self.pass_time(1)
        self.assertEqual([each.count for each in leaving], [1, 1])
        self.assertGreater(late.count, 0)

    def test_descriptor_outlives(self) -> None:
        """A descriptor opened while it grew goes on being good after the commit, and after the content's removal."""
        self.script(Turn(stall=1000))
        turn = self.upstream.turns[0]
        fill = self.begin()
        self.pass_time(1)
        gc.collect()
        before = descriptors()
        fd = fill.open()
        turn.release()
        self.pass_time(1)
        self.successResultOf(self.store.drop(DIGEST))
        self.assertEqual(bytes_of(fill), DATA)
        self.assertEqual(os.pread(fd, len(DATA), 0), DATA)
        os.close(fd)
        self.assertLessEqual(descriptors(), before)

    def test_before_it_begins(self) -> None:
        """Before the store has answered there is nothing to read, and nothing to open."""
        self.store = Memory(lambda: 0.0)
        self.fills = self.make_fills(store=_Never())  # type: ignore[arg-type]
        fill = self.begin()
        self.assertEqual((fill.readable(0), fill.size, fill.verdict), (0, None, Verdict.FILLING))
        self.assertRaises(StoreError, fill.open)


class _Never:
    def ingest(self, *args: object) -> object:
        return Deferred()


class LateTests(FillCase):
    """Those who have nothing yet wait for so long, and no longer."""

    #: Seconds, unless said otherwise.
    OPENING = 40.0

    def setUp(self) -> None:
        super().setUp()
        self.small = os.urandom(10_000)
        self.upstream.content[Digest.of(self.small)] = self.small

    def test_bit_by_bit(self) -> None:
        """A small body that never stops coming in pieces is given up in time; what came is gone on with."""
        self.upstream.rule = lambda _: Turn(cut=20)
        asked = query(Digest.of(self.small))
        fill = self.begin(asked)
        opened = fill.opened()
        self.pass_time(self.OPENING - 0.1)
        self.assertNoResult(opened)
        self.pass_time(0.2)
        self.assertEqual(self.failureResultOf(opened, OriginTimeout).value.status, 504)
        self.failureResultOf(fill.opened(), OriginTimeout)
        self.assertEqual((len(self.fills), self.clock.getDelayedCalls()), (0, []))
        self.upstream.rule = lambda _: None
        self.upstream.queries.clear()
        again = self.begin(asked)
        self.successResultOf(again.opened())
        self.assertEqual(bytes_of(again), self.small)
        ((begun, _),) = (span for span in self.spans() if span is not None)
        self.assertGreater(begun, 20 * 30)

    def test_silent(self) -> None:
        """One that stalls is, and so is one whose head does not come."""
        for turn in (Turn(stall=10), Turn(hold=True)):
            self.script(turn)
            opened = self.begin(query(Digest.of(self.small))).opened()
            self.pass_time(self.OPENING - 0.1)
            self.assertNoResult(opened)
            self.pass_time(0.2)
            self.failureResultOf(opened, OriginTimeout)
            self.assertEqual(len(self.fills), 0)

    def test_open(self) -> None:
        """Once answers have begun a fill has all the time it takes."""
        turn = Turn(stall=10)
        self.script(turn)
        fill = self.begin()
        self.successResultOf(fill.opened())
        self.pass_time(self.OPENING + 1)
        turn.release()
        self.pass_time(1)
        self.settled(fill)


class FailingStoreTests(FillCase):
    """A cache that fails."""

    def test_no_descriptors_kept(self) -> None:
        """However a fill ends, its descriptors end with it, without waiting for the garbage collector."""
        self.upstream.content[Digest.of(b"")] = b""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = descriptors()
        for turn in (Turn(), Turn(status=404), Turn(wrong=True), Turn(cut=0), Turn(body=b"")):
            for _ in range(5):
                self.upstream.rule = lambda _, turn=turn: turn  # type: ignore[misc]
                fill = self.begin()
                fill.opened().addErrback(lambda _: None)
                self.pass_time(5)
                self.assertIsNot(fill.verdict, Verdict.FILLING)
                self.successResultOf(self.store.drop(DIGEST))
                self.store.fills.clear()  # type: ignore[attr-defined]
                self.upstream.answers.clear()
            del fill
            self.assertLessEqual(descriptors(), before + 3, turn)

    def test_unknown_error(self) -> None:
        """A mistake of ours is logged, and fails the fill in words that a client may see."""

        class Broken(FakeUpstream):
            def ask(self, query: object) -> object:  # type: ignore[override]
                raise ZeroDivisionError("our own mistake")

        self.upstream = Broken()
        self.fills = self.make_fills()
        opened = self.begin().opened()
        self.assertNotIn("mistake", str(self.failureResultOf(opened, StoreError).value))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_missing(self) -> None:
        """A fill that fails leaves room for the next, which may do better."""
        self.script(Turn(status=404))
        self.failureResultOf(self.begin().opened(), BlobUnknown)
        again = self.begin()
        self.pass_time(1)
        self.settled(again)
