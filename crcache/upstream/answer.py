"""An origin's answer, and the way of its body to whoever wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.grammar.length import parse_length
from crcache.interfaces import IAnswer
from crcache.upstream.exchange import Exchange, encoded
from crcache.upstream.urls import origin_of

#: A stall is looked for so many times within its timeout.
_LOOKS = 4
#: Bytes after which the count goes on.
_REPORT = 4 << 20


@implementer(IPushProducer)
class _Delivery(Protocol):
    """Passes a body on, as it comes, to a consumer that may pause it.

    It runs for every piece of every body: all that can wait for the watch does.
    """

    def __init__(
        self, consumer: Any, exchange: Exchange, clock: Any, stall: float, received: Callable[[int], object]
    ) -> None:
        self._consumer = consumer
        self._exchange = exchange
        self._clock = clock
        self._stall = stall
        self._received = received
        self._count = 0
        self._reported = 0
        self._seen = -1
        self._quiet = 0.0
        self._paused = False
        self._watch: Any = None
        self._over = False
        self.done: Deferred[None] = Deferred(self._cancel)

    def begin(self) -> None:
        """Let the body come."""
        self._watch = self._clock.callLater(self._stall / _LOOKS, self._look)
        self._consumer.registerProducer(self, True)
        if not self._over:
            self._exchange.response.deliverBody(self)
        # What had come already was passed on before the pause could hold it, and that ended with a resumption.
        if self._paused and self.transport is not None:
            self.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._count += len(data)
        if self._count - self._reported >= _REPORT:
            self._report()
        try:
            self._consumer.write(data)
        except Exception:
            self.end(Failure())

    def _report(self) -> None:
        self._received(self._count - self._reported)
        self._reported = self._count

    def _look(self) -> None:
        self._watch = None
        if self._paused or self._count != self._seen:
            self._quiet = 0.0
        else:
            self._quiet += self._stall / _LOOKS
        self._seen = self._count
        if self._quiet >= self._stall:
            where = origin_of(self._exchange.url)
            self.end(Failure(BodyCut(f"{where} sent nothing for {self._stall:g} s; try again")))
            return
        self._watch = self._clock.callLater(self._stall / _LOOKS, self._look)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone) or (reason.check(PotentialDataLoss) and self._exchange.lease.clean):
            self.end(None)
        else:
            where = origin_of(self._exchange.url)
            self.end(Failure(BodyCut(f"{where} broke off after {self._count} bytes; try again")))

    def end(self, failure: Failure | None) -> None:
        """The body is complete, or will not be. Idempotent."""
        if self._over:
            return
        self._over = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._report()
        if failure is not None:
            self._exchange.lease.abort()
        try:
            self._consumer.unregisterProducer()
        except Exception:
            failure = failure or Failure()
        if failure is None:
            self.done.callback(None)
        else:
            self.done.errback(failure)

    def _cancel(self, _: Deferred[None]) -> None:
        self.end(Failure(CancelledError()))

    def pauseProducing(self) -> None:
        """The consumer has enough for now."""
        self._paused = True
        if self.transport is not None and not self._over:
            transport: Any = self.transport
            transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The consumer takes more; the stall is counted from now."""
        self._paused = False
        self._quiet = 0.0
        self._seen = -1
        if self.transport is not None and not self._over:
            transport: Any = self.transport
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer wants no more."""
        self.end(Failure(BodyCut("the receiver of the body has gone; nothing to do")))


@implementer(IAnswer)
class Answer:
    """An answer whose body is still at the origin. C{length} of a HEAD's answer is what a GET's would be."""

    def __init__(
        self,
        exchange: Exchange,
        clock: Any,
        stall: float,
        received: Callable[[int], object],
        release: Callable[[], object],
        head: bool = False,
    ) -> None:
        """
        @param stall: seconds.
        @param received: called with numbers of bytes as they come.
        @param release: called once when the connection is not needed any more.
        """
        self._exchange = exchange
        self._clock = clock
        self._stall = stall
        self._received = received
        self._release = release
        self._delivery: _Delivery | None = None
        self.status = exchange.status
        self.headers: Headers = exchange.headers
        self.length = _promised(exchange) if head else _known(exchange.response.length)
        if head and encoded(exchange):
            # It is not of the content, which a GET with identity encoding would give.
            self.headers = exchange.headers.copy()
            self.headers.removeHeader("Content-Length")
            self.length = None

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """See L{IAnswer}."""
        if self._delivery is not None:
            return fail(RuntimeError("a body is delivered once"))
        self._delivery = _Delivery(consumer, self._exchange, self._clock, self._stall, self._received)

        def ended(result: Any) -> Any:
            self._release()
            return result

        done = self._delivery.done.addBoth(ended)
        self._delivery.begin()
        return done

    def abort(self) -> None:
        """See L{IAnswer}."""
        self._exchange.lease.abort()
        if self._delivery is not None:
            self._delivery.end(Failure(BodyCut("the body is not wanted any more; nothing to do")))
        self._release()


def _known(length: Any) -> int | None:
    return None if length is UNKNOWN_LENGTH else int(length)


def _promised(exchange: Exchange) -> int | None:
    return parse_length((exchange.header("Content-Length") or "").strip())


@implementer(IAnswer)
class KeptAnswer:
    """An answer whose small body is here already."""

    def __init__(self, status: int, headers: Headers, body: bytes, received: Callable[[int], object]) -> None:
        self.status = status
        self.headers = headers
        self.length: int | None = len(body)
        self._body = body
        self._received = received

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """See L{IAnswer}."""
        done: Deferred[None] = Deferred()
        feed = _Feed(consumer, self._body, done)
        self._received(len(self._body))
        feed.begin()
        return done

    def abort(self) -> None:
        """See L{IAnswer}. There is no connection."""


class Refusal(KeptAnswer):
    """A 401 of the registry itself.

    @ivar challenges: its `WWW-Authenticate` lines.
    """

    def __init__(
        self, status: int, headers: Headers, body: bytes, received: Callable[[int], object], challenges: list[str]
    ) -> None:
        super().__init__(status, headers, body, received)
        self.challenges = challenges


@implementer(IPushProducer)
class _Feed:
    """Passes on a body in one piece as soon as the consumer takes it."""

    def __init__(self, consumer: Any, body: bytes, done: Deferred[None]) -> None:
        self._consumer = consumer
        self._body = body
        self._done = done
        self._paused = False
        self._over = False

    def begin(self) -> None:
        self._consumer.registerProducer(self, True)
        if not self._paused:
            self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if not self._over:
            self._over = True
            if self._body:
                self._consumer.write(self._body)
            self._consumer.unregisterProducer()
            self._done.callback(None)

    def stopProducing(self) -> None:
        if not self._over:
            self._over = True
            self._consumer.unregisterProducer()
            self._done.errback(BodyCut("the receiver of the body has gone; nothing to do"))
