"""L{crcache.flow.lasting}: bodies that break off, on a clock that the test turns."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache.errors import Astray, BodyCut, OriginBusy, OriginFailed
from crcache.flow.lasting import Lasting
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer, IBody
from crcache.sending import IRest
from crcache.testing.upstream import FakeAnswer, Turn

DATA = os.urandom(300_000)
DIGEST = Digest.of(DATA)
PAUSE, RETRIES = 1.0, 2


@implementer(IRest)
class FakeRest:
    """An origin that has L{DATA}, and answers as it is told, one L{Turn} a question; as it should when none is left.

    @ivar asked: the ranges that it was asked for.
    @ivar answers: those it gave.
    @ivar dropped: how often it was told that a file is damaged.
    """

    def __init__(self, *turns: Turn, data: bytes = DATA, clock: Clock | None = None) -> None:
        self.digest = Digest.of(data)
        self.turns = list(turns)
        self.asked: list[tuple[int, int | None]] = []
        self.answers: list[FakeAnswer] = []
        self.dropped = 0
        self._data = data
        self._clock = clock

    def ask(self, start: int, stop: int | None) -> Deferred[IAnswer]:
        """As L{IRest.ask}."""
        self.asked.append((start, stop))
        turn = self.turns.pop(0) if self.turns else Turn()
        if turn.error is not None:
            return fail(turn.error)
        data = self._data if turn.body is None else turn.body
        body = data if turn.ignore_range else data[start:stop]
        answer = FakeAnswer(
            200 if turn.ignore_range else 206, Headers(), body, length=len(body), turn=turn, clock=self._clock
        )
        self.answers.append(answer)
        if not turn.hold:
            return succeed(answer)
        waiting: Deferred[IAnswer] = Deferred()
        turn.wait(lambda: waiting.callback(answer))
        return waiting

    def damaged(self, body: IBody) -> None:
        """As L{IRest.damaged}."""
        self.dropped += 1


@implementer(IConsumer)
class Consumer:
    """Takes a body.

    @ivar wrote: called at each piece.
    """

    def __init__(self) -> None:
        self.data = b""
        self.producers: list[IProducer | None] = []
        self.wrote: Callable[[], object] = lambda: None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}."""
        assert streaming
        self.producers.append(producer)

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""
        self.producers.append(None)

    def write(self, data: bytes) -> None:
        """As L{IConsumer}."""
        self.data += data
        self.wrote()


class LastingTests(SynchronousTestCase):
    """One body."""

    def setUp(self) -> None:
        """Have a clock and a consumer."""
        self.clock = Clock()
        self.consumer = Consumer()

    def deliver(
        self, *turns: Turn, start: int = 0, stop: int | None = len(DATA), answer: IAnswer | None = None
    ) -> Deferred[None]:
        """Begin with it."""
        self.rest = FakeRest(*turns)

        def retry(failures: int) -> float | None:
            return PAUSE if failures <= RETRIES else None

        self.lasting = Lasting(self.rest, start, stop, self.clock, retry, "request-1", answer)
        return self.lasting.deliver(self.consumer)

    def ended(self, delivered: Deferred[None], data: bytes = DATA) -> None:
        """All of it has come; whoever took it is told so; nothing is left to do."""
        self.successResultOf(delivered)
        self.assertTrue(self.consumer.data == data)
        self.assertEqual(self.consumer.producers, [self.lasting, None])
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """What is not there yet is asked for; what comes is passed on."""
        self.ended(self.deliver())
        self.assertEqual(self.rest.asked, [(0, len(DATA))])

    def test_first_answer(self) -> None:
        """An answer that is there already is not asked for; when it breaks off, the rest is, after a pause."""
        first = FakeAnswer(200, Headers(), DATA, turn=Turn(cut=1000))
        delivered = self.deliver(answer=first)
        self.assertEqual((self.consumer.data, self.rest.asked), (DATA[:1000], []))
        self.clock.advance(PAUSE)
        self.ended(delivered)
        self.assertEqual(self.rest.asked, [(1000, len(DATA))])

    def test_part(self) -> None:
        """Of a part each answer brings what is still missing of it."""
        delivered = self.deliver(Turn(cut=7), Turn(cut=100_000), start=5, stop=200_000)
        self.clock.pump([PAUSE] * 2)
        self.ended(delivered, DATA[5:200_000])
        self.assertEqual(self.rest.asked, [(5, 200_000), (12, 200_000), (100_012, 200_000)])

    def test_whole_for_a_part(self) -> None:
        """A whole body in place of a part is cut to it, at both ends."""
        delivered = self.deliver(Turn(cut=50), Turn(ignore_range=True), start=1000, stop=100_000)
        self.clock.advance(PAUSE)
        self.clock.advance(0)
        self.ended(delivered, DATA[1000:100_000])

    def test_given_up(self) -> None:
        """What is left of an answer behind the part is not waited for."""
        rest = FakeRest(Turn(ignore_range=True), clock=self.clock)
        self.lasting = Lasting(rest, 1000, 100_000, self.clock, lambda _: None, "request-1")
        delivered = self.lasting.deliver(self.consumer)
        self.clock.pump([0] * 20)
        self.ended(delivered, DATA[1000:100_000])
        self.assertTrue(rest.answers[0].aborted)
        self.assertLess(rest.answers[0].delivered, len(DATA))

    def test_without_an_end(self) -> None:
        """If nobody knows the length, an answer's own end is the body's."""
        delivered = self.deliver(Turn(cut=10), stop=None)
        self.clock.advance(PAUSE)
        self.ended(delivered)
        self.assertEqual(self.rest.asked, [(0, None), (10, None)])

    def test_ends_too_soon(self) -> None:
        """An answer that ends well but too soon has broken off."""
        delivered = self.deliver(Turn(body=DATA[:5000]))
        self.clock.advance(PAUSE)
        self.ended(delivered)
        self.assertEqual(self.rest.asked, [(0, len(DATA)), (5000, len(DATA))])

    def test_whole_that_is_too_short(self) -> None:
        """A whole body that ends before the byte where it was to go on has not gone on, whoever knows the length."""
        for stop in (None, 200_000):
            self.consumer = Consumer()
            page = Turn(ignore_range=True, body=b"<html>log in</html>")
            delivered = self.deliver(Turn(cut=50), page, start=1000, stop=stop)
            self.clock.advance(PAUSE)
            self.assertNoResult(delivered)
            self.clock.advance(PAUSE)
            self.ended(delivered, DATA[1000:stop])
            self.assertEqual(self.rest.asked, [(1000, stop), (1050, stop), (1050, stop)])

    def test_led_astray(self) -> None:
        """An origin that leads where it must not is not asked again: it would lead there each time."""
        delivered = self.deliver(Turn(cut=10), Turn(error=Astray("not there")))
        self.clock.advance(PAUSE)
        self.failureResultOf(delivered, Astray)
        self.assertEqual(len(self.rest.asked), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gives_up(self) -> None:
        """Without progress there are so many tries; with it, so many more."""
        turns = [Turn(cut=10), *[Turn(error=OriginFailed("503"))] * (RETRIES - 1), Turn(cut=10)]
        delivered = self.deliver(*turns, *[Turn(cut=0) for _ in range(RETRIES)])
        self.clock.pump([PAUSE] * (2 * RETRIES))
        self.failureResultOf(delivered, BodyCut)
        self.assertEqual(len(self.rest.asked), 2 * RETRIES + 1)
        self.assertEqual(self.consumer.data, DATA[:20])
        self.assertEqual(self.consumer.producers, [self.lasting, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_left_alone(self) -> None:
        """An origin that says for how long it wants to be left alone is; no try is lost to it."""
        busy = Turn(error=OriginBusy("busy", seconds=30.0))
        delivered = self.deliver(Turn(cut=10), *[Turn(cut=0)] * (RETRIES - 1), busy, busy)
        self.clock.pump([PAUSE] * RETRIES)
        self.assertEqual(len(self.rest.asked), RETRIES + 1)
        for seconds, asked in ((29.9, 0), (0.2, 1), (30.0, 2)):
            self.clock.advance(seconds)
            self.assertEqual(len(self.rest.asked), RETRIES + 1 + asked)
        self.ended(delivered)

    def test_pausing(self) -> None:
        """A consumer that has enough pauses whichever answer brings it more, also one that has not come yet."""
        stalled = Turn(stall=100)
        delivered = self.deliver(stalled, Turn(cut=10))
        self.lasting.pauseProducing()
        (first,) = self.rest.answers
        self.assertTrue(first.paused)
        stalled.release()
        self.assertEqual(len(self.consumer.data), 100)
        first.abort()
        self.clock.advance(PAUSE)
        self.assertTrue(self.rest.answers[1].paused)
        self.assertEqual(len(self.consumer.data), 100)
        self.lasting.resumeProducing()
        self.clock.advance(PAUSE)
        self.ended(delivered)

    def test_aborted(self) -> None:
        """Whoever wants no more ends it: while bytes come, while it waits for an answer, while it pauses."""
        delivered = self.deliver(Turn(stall=100))
        self.lasting.abort()
        self.failureResultOf(delivered, BodyCut)
        self.assertTrue(self.rest.answers[0].aborted)
        for turn in (Turn(hold=True), Turn(cut=10)):
            delivered = self.deliver(turn)
            self.lasting.stopProducing()
            self.failureResultOf(delivered, CancelledError)
            self.assertEqual(len(self.rest.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aborted_in_mid_piece(self) -> None:
        """Also from within a write; then no more is written."""

        def abort() -> None:
            self.lasting.abort()

        self.consumer.wrote = abort
        delivered = self.deliver()
        self.failureResultOf(delivered, BodyCut)
        self.assertLess(len(self.consumer.data), len(DATA))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aborted_before(self) -> None:
        """And before anybody takes it: its first answer is given up."""
        first = FakeAnswer(200, Headers(), DATA)
        self.lasting = Lasting(FakeRest(), 0, len(DATA), self.clock, lambda _: None, "request-1", first)
        self.lasting.abort()
        self.assertTrue(first.aborted)
