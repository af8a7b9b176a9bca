"""L{crcache.flow.stream}."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from crcache.errors import BodyCut, StoreError
from crcache.flow.stream import BATCH, LINGER, Stream
from crcache.testing.upstream import FakeAnswer, Turn
from tests.flow.ingests import SlowIngest

DATA = os.urandom(5 * BATCH + 12345)


class StreamTests(SynchronousTestCase):
    """One answer, written over a run."""

    def setUp(self) -> None:
        """Have a fill that writes nothing by itself."""
        self.clock = Clock()
        self.ingest = SlowIngest()
        self.progress = 0

    def stream(self, start: int = 0, stop: int | None = None, skip: int = 0) -> Stream:
        """A stream over that run."""
        return Stream(self.clock, self.ingest, start, stop, self._progressed, skip=skip)

    def _progressed(self) -> None:
        self.progress += 1

    def answer(self, body: bytes = DATA, **turn: Any) -> FakeAnswer:
        """An answer that hands its body over as fast as it is taken."""
        return FakeAnswer(200, Headers(), body, turn=Turn(**turn))

    def run_of(self, stream: Stream, answer: FakeAnswer) -> Deferred[None]:
        """Begin."""
        return Deferred.fromCoroutine(stream.run(answer))

    def write_all(self) -> None:
        """Let every write end, and those that follow."""
        while self.ingest.writing:
            self.ingest.end()
            self.clock.advance(LINGER)

    def test_whole(self) -> None:
        """Every byte arrives in its place, in order; the end comes when all is written."""
        stream, answer = self.stream(), self.answer()
        running = self.run_of(stream, answer)
        for _ in range(5):
            self.assertNoResult(running)
            self.ingest.end()
        self.assertNoResult(running)
        self.write_all()
        self.successResultOf(running)
        self.assertEqual(self.ingest.taken, DATA)
        self.assertEqual(stream.offset, len(DATA))
        self.assertEqual(self.progress, len(self.ingest.writes))
        self.assertFalse(answer.aborted)

    def test_batches(self) -> None:
        """No write is of more than a batch, however large the pieces that come; nor smaller than it need be."""
        for piece in (1000, 16 << 10, 64 << 10, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 5, len(DATA)):
            self.ingest = SlowIngest()
            answer = FakeAnswer(200, Headers(), DATA, piece=piece)
            running = self.run_of(self.stream(), answer)
            self.write_all()
            self.successResultOf(running)
            self.assertEqual(self.ingest.taken, DATA)
            self.assertLessEqual(max(len(data) for _, data in self.ingest.writes), BATCH)
            self.assertLessEqual(len(self.ingest.writes), 6 + 1, piece)

    def test_bounded(self) -> None:
        """While the disk is slow one batch is written, one more is held, and the upstream is paused; no more comes."""
        stream, answer = self.stream(), self.answer()
        running = self.run_of(stream, answer)
        self.assertTrue(answer.paused)
        self.assertEqual(len(self.ingest.writing), 1)
        self.assertLessEqual(answer.delivered, 2 * BATCH + 65536)
        self.clock.advance(100)
        self.assertEqual(len(self.ingest.writing), 1)
        before = answer.delivered
        self.ingest.end()
        self.assertGreater(answer.delivered, before)
        self.assertEqual(len(self.ingest.writing), 1)
        self.assertLessEqual(answer.delivered, 3 * BATCH + 65536)
        self.write_all()
        self.successResultOf(running)
        self.assertEqual(answer.pauses, 4)

    def test_deaf_upstream(self) -> None:
        """Even an upstream that goes on after being paused has its bytes written in batches, in order."""
        stream = self.stream()
        for at in range(0, len(DATA), 300_000):
            stream.write(DATA[at : at + 300_000])
        self.assertEqual(len(self.ingest.writing), 1)
        self.write_all()
        self.assertEqual(self.ingest.taken, DATA)
        self.assertLessEqual(max(len(data) for _, data in self.ingest.writes), BATCH)

    def test_linger(self) -> None:
        """Less than a batch is kept back for a moment, for more to join it, and no longer: clients wait for it."""
        stream, answer = self.stream(), self.answer(b"abcdef" * 100, stall=300)
        self.run_of(stream, answer)
        self.assertEqual(self.ingest.writes, [])
        self.clock.advance(LINGER / 2)
        self.assertEqual(self.ingest.writes, [])
        self.clock.advance(LINGER / 2)
        self.assertEqual(self.ingest.writes, [(0, b"abcdef" * 50)])
        self.ingest.end()
        self.assertEqual(stream.offset, 300)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_linger_behind_a_write(self) -> None:
        """What comes while a batch is written is not kept back for longer than that, once it is."""
        stream = self.stream()
        stream.write(DATA[:BATCH])
        stream.write(DATA[BATCH : BATCH + 5])
        self.clock.advance(1)
        self.assertEqual(len(self.ingest.writes), 1)
        self.ingest.end()
        self.clock.advance(LINGER)
        self.assertEqual(self.ingest.writes[1:], [(BATCH, DATA[BATCH : BATCH + 5])])

    def test_no_timer_left(self) -> None:
        """A stream that has ended has nothing more to do, at once or later."""
        for cut in (None, 100):
            running = self.run_of(self.stream(), self.answer(DATA[:500], cut=cut))
            self.write_all()
            self.failureResultOf(running) if cut else self.successResultOf(running)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_offset(self) -> None:
        """A run in the middle is written at its offset."""
        running = self.run_of(self.stream(7 * BATCH, 7 * BATCH + 1000), self.answer(DATA[:1000]))
        self.write_all()
        self.successResultOf(running)
        self.assertEqual(self.ingest.writes, [(7 * BATCH, DATA[:1000])])

    def test_skip(self) -> None:
        """Of an answer that ignored the range, what lies before the run is read and dropped."""
        for start in (1, 65536, 65537, BATCH, 2 * BATCH + 77):
            self.ingest = SlowIngest()
            answer = self.answer()
            running = self.run_of(self.stream(start, len(DATA), skip=start), answer)
            self.write_all()
            self.successResultOf(running)
            self.assertEqual(self.ingest.writes[0][0], start)
            self.assertEqual(self.ingest.taken, DATA[start:])
            self.assertFalse(answer.aborted)

    def test_full(self) -> None:
        """An answer that goes on behind its run is written up to the run's end, and then given up."""
        for stop in (1000, BATCH, BATCH + 3):
            self.ingest = SlowIngest()
            stream, answer = self.stream(0, stop), self.answer(stall=stop + 70_000)
            running = self.run_of(stream, answer)
            self.write_all()
            self.clock.advance(0)
            self.assertTrue(answer.aborted)
            self.write_all()
            self.successResultOf(running)
            self.assertEqual(self.ingest.taken, DATA[:stop])
            self.assertEqual(stream.offset, stop)

    def test_exactly_full(self) -> None:
        """An answer that ends with its run keeps its connection."""
        answer = self.answer(DATA[:1000])
        running = self.run_of(self.stream(0, 1000), answer)
        self.write_all()
        self.clock.advance(1)
        self.successResultOf(running)
        self.assertFalse(answer.aborted)

    def test_shortened(self) -> None:
        """A run may be made to end earlier, but not before what has come: that is written, and no more is read."""
        for stop in (None, len(DATA)):
            for end in (70_000, BATCH + 5, 3 * BATCH):
                self.ingest = SlowIngest()
                stream, answer = self.stream(0, stop), self.answer(stall=70_000)
                turn = answer._turn
                running = self.run_of(stream, answer)
                self.assertEqual(stream.position, 70_000)
                stream.shorten(end)
                turn.release()
                self.clock.advance(0)
                self.write_all()
                self.clock.advance(0)
                self.write_all()
                self.successResultOf(running)
                self.assertEqual(self.ingest.taken, DATA[:end])
                self.assertEqual((stream.offset, stream.position), (end, end))

    def test_shortened_at_once(self) -> None:
        """One that is to end where it is gives its answer up, without waiting for more to come."""
        stream, answer = self.stream(0, len(DATA)), self.answer(stall=BATCH + 5)
        running = self.run_of(stream, answer)
        stream.shorten(stream.position)
        self.clock.advance(0)
        self.assertTrue(answer.aborted)
        self.write_all()
        self.successResultOf(running)
        self.assertEqual(self.ingest.taken, DATA[: BATCH + 5])

    def test_shortened_before_it_begins(self) -> None:
        """What an origin that ignored the range sends in front does not count as come."""
        stream, answer = self.stream(BATCH, len(DATA), skip=BATCH), self.answer(stall=1000)
        turn = answer._turn
        running = self.run_of(stream, answer)
        self.assertEqual(stream.position, BATCH)
        stream.shorten(BATCH + 10)
        turn.release()
        self.clock.advance(0)
        self.write_all()
        self.successResultOf(running)
        self.assertEqual(self.ingest.writes, [(BATCH, DATA[BATCH : BATCH + 10])])

    def test_cut(self) -> None:
        """What came before the break is written and marked; then the break is told."""
        for cut in (0, 1, BATCH, BATCH + 5, 3 * BATCH + 5):
            self.ingest = SlowIngest()
            stream, answer = self.stream(0, len(DATA)), self.answer(cut=cut)
            running = self.run_of(stream, answer)
            self.write_all()
            self.failureResultOf(running, BodyCut)
            self.assertEqual(self.ingest.taken, DATA[:cut])
            self.assertEqual(stream.offset, cut)

    def test_write_fails(self) -> None:
        """A disk that fails ends the answer, and nothing more is written."""
        answer = self.answer()
        running = self.run_of(self.stream(), answer)
        self.ingest.writing.pop(0).errback(Failure(StoreError("no space left")))
        self.assertIn("no space left", str(self.failureResultOf(running, StoreError).value))
        self.assertTrue(answer.aborted)
        self.assertEqual(len(self.ingest.writes), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_last_write_fails(self) -> None:
        """So does one that fails after the answer's end."""
        running = self.run_of(self.stream(), self.answer(DATA[:100]))
        self.ingest.writing.pop(0).errback(Failure(StoreError("no space left")))
        self.failureResultOf(running, StoreError)

    def test_cancelled(self) -> None:
        """Cancelling closes the connection; what has come is written first, so that it need not come again."""
        answer = self.answer(stall=BATCH + 100)
        running = self.run_of(self.stream(), answer)
        running.addErrback(lambda failure: failure.trap(CancelledError))
        running.cancel()
        self.assertTrue(answer.aborted)
        self.write_all()
        self.assertIs(self.successResultOf(running), CancelledError)
        self.assertEqual(self.ingest.taken, DATA[: BATCH + 100])

    def test_cancelled_when_full(self) -> None:
        """Being told to stop is never mistaken for the end of a run that is full."""
        running = self.run_of(self.stream(0, 1000), self.answer(stall=70_000))
        running.addErrback(lambda failure: failure.trap(CancelledError))
        running.cancel()
        self.write_all()
        self.assertIs(self.successResultOf(running), CancelledError)
