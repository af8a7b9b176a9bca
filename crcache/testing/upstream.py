"""An origin in memory, told beforehand how to misbehave: to test whatever asks origins, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import content_range
from crcache.grammar.reference import Tag
from crcache.interfaces import IAnswer, IUpstream

#: Bytes handed over at a time.
PIECE = 64 << 10


@dataclass(eq=False)
class Turn:
    """How one question is answered. The parts may be combined; what is left out stays as it should be.

    @ivar status: this status, and an empty body unless C{body} is given.
    @ivar headers: further header lines; a value of C{None} removes the line.
    @ivar body: these bytes instead of the content.
    @ivar cut: the body breaks off after so many bytes.
    @ivar stall: after so many bytes of the body, wait until L{release}.
    @ivar hold: answer at all only at L{release}.
    @ivar ignore_range: 200 with everything.
    @ivar wrong: as many bytes as there should be, but other ones.
    @ivar unsized: give no length.
    @ivar content_range: this `Content-Range`.
    @ivar error: no answer, but this failure.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    stall: int | None = None
    hold: bool = False
    ignore_range: bool = False
    wrong: bool = False
    unsized: bool = False
    content_range: str | None = None
    error: Exception | None = None
    _released: bool = False
    _waiting: list[Callable[[], object]] = field(default_factory=list)

    def release(self) -> None:
        """Let go on what this turn holds."""
        self._released = True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def wait(self, go_on: Callable[[], object]) -> bool:
        """Have C{go_on} called at L{release}; false if that has been."""
        if not self._released:
            self._waiting.append(go_on)
        return not self._released


@implementer(IAnswer, IPushProducer)
class FakeAnswer:
    """An answer whose body is in memory, delivered piece by piece as the consumer takes it.

    @ivar paused: whether the consumer has paused it.
    @ivar pauses: how often that was.
    @ivar delivered: how many bytes of the body have been handed over.
    @ivar aborted: whether L{abort} was called.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        *,
        length: int | None = None,
        turn: Turn | None = None,
        clock: IReactorTime | None = None,
        piece: int = PIECE,
    ) -> None:
        """
        @param clock: every piece comes in a call of its own; C{None}: all at once, as far as it is taken.
        """
        self.status = status
        self.headers = headers
        self.length = length
        self.paused = False
        self.pauses = 0
        self.delivered = 0
        self.aborted = False
        self._body = body
        self._turn = turn or Turn()
        self._clock = clock
        self._piece = piece
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None
        self._going = False

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IAnswer.deliver}."""
        assert self._done is None, "a body is delivered once"
        done = self._done = Deferred(self._cancel)
        self._consumer = consumer
        consumer.registerProducer(self, True)
        self._later()
        return done

    def abort(self) -> None:
        """As L{IAnswer.abort}."""
        self.aborted = True
        self._end(BodyCut("the body is not wanted any more"))

    def _cancel(self, _: object) -> None:
        self.aborted = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """The consumer has enough for now."""
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        """The consumer takes more."""
        self.paused = False
        self._later()

    def stopProducing(self) -> None:
        """The consumer has gone."""
        self.abort()

    def _later(self) -> None:
        if self._clock is None:
            self._go_on()
        elif not self._going:
            self._going = True
            self._clock.callLater(0, self._step)

    def _go_on(self) -> None:
        if not self._going:
            self._going = True
            while self._hand_over():
                pass
            self._going = False

    def _step(self) -> None:
        self._going = False
        if self._hand_over():
            self._later()

    def _hand_over(self) -> bool:
        """Give the consumer a piece; whether there may be another."""
        consumer, turn = self._consumer, self._turn
        if consumer is None or self.paused:
            return False
        end = len(self._body) if turn.cut is None else min(turn.cut, len(self._body))
        stop = min(self.delivered + self._piece, end)
        if turn.stall is not None and stop >= turn.stall and self.delivered <= turn.stall:
            stop = min(stop, turn.stall)
            if self.delivered == stop and turn.wait(self._later):
                return False
            if self.delivered == stop:
                stop = min(self.delivered + self._piece, end)
        if self.delivered >= end:
            self._end(None if turn.cut is None else BodyCut(f"the body broke off after {end} bytes"))
            return False
        data = self._body[self.delivered : stop]
        self.delivered = stop
        consumer.write(data)
        if stop == len(self._body) and turn.cut is None and turn.stall != stop:
            # Its end comes with the last bytes, also to one who has just paused it.
            self._end(None)
        return True

    def _end(self, problem: BodyCut | None) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None or self._done is None:
            return
        consumer.unregisterProducer()
        if problem is None:
            self._done.callback(None)
        else:
            self._done.errback(Failure(problem))


@implementer(IUpstream)
class FakeUpstream:
    """Has some content, and answers as it is told, one L{Turn} a question; as it should when there is none left.

    @ivar content: bodies by digest or tag, the same in every repository; what is not there is a 404.
    @ivar types: media types, by digest or tag.
    @ivar turns: how the next questions are answered.
    @ivar rule: answers instead of C{turns}, unless it says C{None}.
    @ivar queries: what was asked.
    @ivar answers: what was answered.
    """

    def __init__(
        self, *bodies: bytes, turns: tuple[Turn, ...] = (), clock: IReactorTime | None = None, piece: int = PIECE
    ) -> None:
        """
        @param bodies: content, by its sha256.
        @param clock: answers and bodies come in calls of their own; C{None}: all at once.
        """
        self.content: dict[Digest | Tag, bytes] = {Digest.of(body): body for body in bodies}
        self.types: dict[Digest | Tag, str] = {}
        self.turns = list(turns)
        self.rule: Callable[[Query], Turn | None] = lambda _: None
        self.queries: list[Query] = []
        self.answers: list[FakeAnswer] = []
        self._clock = clock
        self._piece = piece

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""
        self.queries.append(query)
        turn = self.rule(query)
        if turn is None:
            turn = self.turns.pop(0) if self.turns else Turn()
        if turn.hold:
            held: Deferred[None] = Deferred()

            def go_on() -> None:
                if not held.called:
                    held.callback(None)

            if turn.wait(go_on):
                return held.addCallback(lambda _: self._answer(query, turn))
        return self._answer(query, turn)

    def _answer(self, query: Query, turn: Turn) -> Deferred[IAnswer]:
        if turn.error is not None:
            return fail(turn.error)
        status, headers, body = self._content(query, turn)
        for name, value in turn.headers.items():
            headers.removeHeader(name)
            if value is not None:
                headers.addRawHeader(name, value)
        length = None if turn.unsized else len(body)
        if length is not None:
            headers.setRawHeaders("Content-Length", [str(length)])
        if query.method == "HEAD":
            body = b""
        answer = FakeAnswer(status, headers, body, length=length, turn=turn, clock=self._clock, piece=self._piece)
        self.answers.append(answer)
        return succeed(answer)

    def _content(self, query: Query, turn: Turn) -> tuple[int, Headers, bytes]:
        headers = Headers()
        reference = query.reference
        body = None if reference is None else self.content.get(reference)
        if turn.status is not None:
            return turn.status, headers, turn.body or b""
        if turn.body is not None:
            return 200, headers, turn.body
        if reference is None or body is None:
            return 404, headers, b""
        whole = len(body)
        if turn.wrong:
            body = bytes(byte ^ 0xFF for byte in body)
        headers.setRawHeaders("Content-Type", [self.types.get(reference, "application/octet-stream")])
        headers.setRawHeaders("Docker-Content-Digest", [str(Digest.of(self.content[reference]))])
        if query.span is None or turn.ignore_range:
            return 200, headers, body
        start, stop = query.span[0], whole if query.span[1] is None else min(query.span[1], whole)
        if start >= stop:
            headers.setRawHeaders("Content-Range", [f"bytes */{whole}"])
            return 416, headers, b""
        headers.setRawHeaders("Content-Range", [turn.content_range or content_range(start, stop, whole)])
        return 206, headers, body[start:stop]
