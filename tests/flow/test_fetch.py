"""L{crcache.flow.fetch}: what is asked of the origin, and what becomes of its answers."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import (
    BlobUnknown,
    CrcacheError,
    OriginBusy,
    OriginFailed,
    OriginLied,
    OriginTimeout,
    OriginUnreachable,
    StoreError,
    Unauthorized,
)
from crcache.facts import Fetched, Membership, Verdict
from crcache.flow.demand import Demands
from crcache.flow.fetch import Fetch
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.interfaces import IIngest
from crcache.store.memory import Memory, MemoryIngest
from crcache.testing.fakes import FakeMeter
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.workers import Inline
from tests.flow.ingests import SlowIngest
from tests.flow.scene import ALPINE, DATA, DIGEST, SEGMENT, FillCase, Held, query


class Recorder:
    """What a fetch reports to."""

    def doubted(self) -> None:
        """As L{Reports.doubted}."""

    def answered(self, size: int | None, repository: Repository | None) -> None:
        """Nothing."""

    def moved(self) -> None:
        """Nothing."""

    def verified(self, size: int) -> None:
        """Nothing."""


class WholeTests(FillCase):
    """A fill of what nobody has yet."""

    def test_whole(self) -> None:
        """It is asked for once, without a range, and is content and a membership afterwards."""
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.upstream.queries, [query()])
        known = self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertEqual(known, Membership(DIGEST, None, len(DATA), True, 1000.0, Fetched.OPENLY))
        self.assertFalse(self.upstream.answers[0].aborted)

    def test_no_length(self) -> None:
        """Without a length the end of the answer is the end of the body."""
        self.script(Turn(unsized=True, stall=1000))
        turn = self.upstream.turns[0]
        fill = self.begin()
        self.pass_time(1)
        self.assertIsNone(fill.size)
        self.successResultOf(fill.opened())
        self.assertEqual(fill.readable(0), 1000)
        turn.release()
        self.pass_time(1)
        self.assertEqual(self.settled(fill).size, len(DATA))

    def test_length_of_descriptor(self) -> None:
        """Without a length the descriptor's is taken: ranges need not wait."""
        self.script(Turn(unsized=True, stall=1000))
        fill = self.begin(expected=len(DATA))
        self.pass_time(1)
        self.assertEqual(fill.size, len(DATA))

    def test_length_against_descriptor(self) -> None:
        """The origin's own length counts, not a descriptor's that anyone may have written."""
        fill = self.begin(expected=7)
        self.pass_time(1)
        self.settled(fill)

    def test_wrong_descriptor(self) -> None:
        """A descriptor's wrong length, and none from the origin, is an error, and nothing of it is kept."""
        self.script(Turn(unsized=True))
        fill = self.begin(expected=1000)
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(self.kept().size, None)

    def test_empty(self) -> None:
        """Nothing at all can be fetched, too; its head waits for the verdict, since it is all of the answer."""
        nothing = Digest.of(b"")
        self.upstream.content[nothing] = b""
        for turn in (Turn(), Turn(unsized=True)):
            self.script(turn)
            fill = self.begin(query(nothing))
            self.pass_time(1)
            self.assertEqual((fill.verdict, fill.size), (Verdict.VERIFIED, 0))
            self.successResultOf(fill.opened())
            self.successResultOf(self.store.drop(nothing))

    def test_empty_lie(self) -> None:
        """An empty answer for what is not empty is an error before any head is written."""
        self.script(Turn(body=b""))
        fill = self.begin()
        opened = fill.opened()
        self.pass_time(1)
        self.failureResultOf(opened, OriginLied)
        self.assertIsNone(fill.size)

    def test_sha512(self) -> None:
        """The digest that was asked for decides, of whatever algorithm."""
        digest = Digest.of(DATA, "sha512")
        self.upstream.content[digest] = DATA
        fill = self.begin(query(digest))
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.VERIFIED)
        self.assertIsNotNone(self.successResultOf(self.store.find(digest)))


class WrongTests(FillCase):
    """Answers that are not what was asked for."""

    def test_wrong_bytes(self) -> None:
        """Other bytes than the digest's are never verified, and nothing of them is kept."""
        self.script(Turn(wrong=True))
        fill = self.begin()
        seen: list[Verdict] = []

        class Noting:
            def moved(self) -> None:
                seen.append(fill.verdict)

        fill.watch(Noting())  # type: ignore[arg-type]
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertNotIn(Verdict.VERIFIED, seen)
        self.failureResultOf(fill.opened(), OriginLied)
        self.assertIsNone(self.successResultOf(self.store.find(DIGEST)))
        self.assertIsNone(self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST)))
        again = self.begin()
        self.pass_time(1)
        self.settled(again)
        self.assertEqual(self.spans(), [None, None])

    def test_not_removed(self) -> None:
        """A lie is one also where the disk does not let go of it: nobody takes it for the disk's fault."""
        self.patch(MemoryIngest, "discard", lambda _: fail(StoreError("read-only file system")))
        self.script(Turn(wrong=True))
        fill = self.begin()
        self.pass_time(1)
        self.assertIsInstance(fill.problem, OriginLied)
        self.assertTrue(fill.lied)

    def test_claimed_digest(self) -> None:
        """What the origin says that the digest is counts for nothing."""
        other = b"other bytes"
        self.script(Turn(body=other, headers={"Docker-Content-Digest": str(DIGEST)}))
        fill = self.begin()
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.FAILED)

    def test_more_than_promised(self) -> None:
        """Bytes beyond the length are not taken."""
        self.script(Turn(body=DATA + b"more", unsized=True))
        fill = self.begin(expected=len(DATA))
        self.pass_time(1)
        self.settled(fill)

    def test_absurd_length(self) -> None:
        """A length that nothing has is the origin's fault, not an accident of ours."""
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.successResultOf(self.store.drop(DIGEST))
        self.upstream.rule = lambda _: Turn(
            status=206, headers={"Content-Range": f"bytes 0-5/{1 << 63}"}, body=b"123456"
        )
        fill = self.begin()
        opened = fill.opened()
        self.pass_time(1)
        self.failureResultOf(opened, OriginLied)

    def test_success_of_another_kind(self) -> None:
        """A 2xx that is not 200 is no body; nor is a range that nobody asked for."""
        for turn in (Turn(status=204), Turn(status=202), Turn(status=206, headers={"Content-Range": "bytes 0-5/6"})):
            self.script(turn)
            opened = self.begin().opened()
            self.pass_time(1)
            self.failureResultOf(opened, OriginLied)
            self.assertTrue(self.upstream.answers[-1].aborted)


class RefusedTests(FillCase):
    """An origin that does not send the body at all."""

    def test_refused(self) -> None:
        """A refusal becomes the error that says so, at once, without another try; its answer is not left open."""
        cases: list[tuple[Turn, type[CrcacheError]]] = [
            (Turn(status=404), BlobUnknown),
            (Turn(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}), Unauthorized),
            (Turn(status=429), OriginBusy),
            (Turn(status=500), OriginFailed),
            (Turn(error=OriginTimeout("too slow")), OriginTimeout),
            (Turn(error=OriginUnreachable("no route")), OriginUnreachable),
        ]
        for turn, kind in cases:
            self.script(turn)
            fill = self.begin()
            opened = fill.opened()
            self.failureResultOf(opened, kind)
            self.failureResultOf(fill.opened(), kind)
            self.assertIs(fill.verdict, Verdict.FAILED)
            self.assertEqual(len(self.fills), 0)
            if turn.error is None:
                self.assertTrue(self.upstream.answers[-1].aborted)
        self.assertEqual(len(self.upstream.queries), len(cases))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        assert isinstance(self.store, Memory)
        self.assertEqual(self.store.fills, {})

    def test_refused_when_resuming(self) -> None:
        """A refusal leaves what an earlier fill has fetched."""
        self.left((0, SEGMENT))
        self.script(Turn(status=503))
        self.failureResultOf(self.begin().opened(), OriginFailed)
        self.assertEqual(self.kept().hole(0), (SEGMENT, len(DATA)))


class SlowDiskTests(SynchronousTestCase):
    """Memory."""

    def test_bounded(self) -> None:
        """While the disk is slow the upstream is paused, with no more than a few batches on the way."""
        clock, workers, data = Clock(), Held(), DATA * 5
        upstream = FakeUpstream(data)
        store = Memory(lambda: 0.0, workers)
        tools = Tools(clock, store, upstream, Inline(), FakeMeter(), lambda _: None)
        ingest = self.successResultOf(store.ingest(DOCKER_IO, Digest.of(data)))
        assert IIngest.providedBy(ingest)

        fetch = Fetch(
            tools,
            query(Digest.of(data)),
            ingest,
            Recorder(),
            demands=Demands(clock.seconds),
            expected=None,
            patient=False,
        )
        running: Deferred[None] = Deferred.fromCoroutine(fetch.run())
        written = 0
        while workers.waiting:
            (answer,) = upstream.answers
            self.assertLessEqual(answer.delivered - written, 3 * SEGMENT)
            self.assertTrue(answer.paused or answer.delivered == len(data))
            workers.step()
            written = ingest.readable(0)
            clock.advance(0.01)
        self.assertEqual(written, len(data))
        self.successResultOf(running)

    def test_failing_disk(self) -> None:
        """A disk that fails ends the fetch with an error, and nothing is left to stand in the way."""
        clock, upstream = Clock(), FakeUpstream(DATA)

        class Full(SlowIngest):
            def write(self, *args: object) -> Deferred[None]:
                return fail(StoreError("no space left"))

        ingest = Full()
        tools = Tools(clock, Memory(lambda: 0.0), upstream, Inline(), FakeMeter(), lambda _: None)
        fetch = Fetch(tools, query(), ingest, Recorder(), demands=Demands(clock.seconds), expected=None, patient=False)
        running: Deferred[None] = Deferred.fromCoroutine(fetch.run())
        clock.advance(1)
        self.failureResultOf(running, StoreError)
        self.assertIs(ingest.state, Verdict.FAILED)
