"""An origin's body that is asked for again where it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache import events
from crcache.errors import Astray, BodyCut, OriginError, wanted
from crcache.interfaces import IAnswer
from crcache.policy.retry import Tries
from crcache.sending import IRest

log = Logger()

T = TypeVar("T")


@implementer(IAnswer, IConsumer, IPushProducer)
class Lasting:
    """Bytes C{[start, stop)} of a body, of as many answers as it takes.

    @ivar at: the next byte.
    """

    def __init__(
        self,
        rest: IRest,
        start: int,
        stop: int | None,
        clock: IReactorTime,
        retry: Callable[[int], float | None],
        request_id: str,
        answer: IAnswer | None = None,
    ) -> None:
        """
        @param stop: C{None} if only an answer's own end tells.
        @param retry: how many seconds to wait after so many failures in a row without progress; C{None} to give up.
        @param answer: the first one; C{None} has it asked for.
        """
        self.at = start
        self.status = 200 if answer is None else answer.status
        self.headers = Headers() if answer is None else answer.headers
        self.length = None if stop is None else stop - start
        self._rest = rest
        self._stop = stop
        self._clock = clock
        self._retry = retry
        self._request_id = request_id
        self._answer = answer
        self._skip = 0
        self._consumer: IConsumer | None = None
        self._producer: IPushProducer | None = None
        self._waiting: Deferred[object] | None = None
        self._paused = False
        self._aborted = False

    # IAnswer

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IAnswer.deliver}; given up after some tries without progress."""
        self._consumer = consumer
        consumer.registerProducer(self, True)

        def ended(result: T) -> T:
            self._consumer = None
            consumer.unregisterProducer()
            return result

        return Deferred.fromCoroutine(self._deliver()).addBoth(ended)

    def abort(self) -> None:
        """As L{IAnswer.abort}."""
        self._aborted = True
        if self._answer is not None:
            self._answer.abort()
        if self._waiting is not None:
            self._waiting.cancel()

    # IConsumer, towards the origin

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}: one answer's body."""
        self._producer = cast(IPushProducer, producer)
        if self._paused:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """As L{IConsumer}: the next bytes of an answer's body."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._stop is not None and len(data) > self._stop - self.at:
            data = data[: self._stop - self.at]
            # There is more of it than anybody wants.
            self._clock.callLater(0, self._abandon, self._answer)
        if data and self._consumer is not None and not self._aborted:
            self.at += len(data)
            self._consumer.write(data)

    # IPushProducer, towards whoever wants the body

    def pauseProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = False
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """As L{IPushProducer}."""
        self.abort()

    async def _deliver(self) -> None:
        tries, before = Tries(self._retry), self.at
        while True:
            try:
                if self._answer is None:
                    self._answer = await self._until(self._rest.ask(self.at, self._stop))
                await self._take(self._answer)
                return
            except OriginError as problem:
                if self._aborted or isinstance(problem, Astray):
                    raise
                if self.at > before:
                    tries.progressed()
                before = self.at
                pause = tries.failed(wanted(problem))
                if pause is None:
                    raise
                log.info(
                    "relaying {digest} broke off at byte {at} ({problem}); resuming (request {request_id})",
                    event=events.FETCH_RESUMED,
                    digest=str(self._rest.digest),
                    at=self.at,
                    problem=problem.message,
                    request_id=self._request_id,
                )
                # A traceback would keep the descriptors of whatever it passed through.
                problem.__traceback__ = None
                await self._until(deferLater(self._clock, pause, lambda: None))

    async def _until(self, waiting: Deferred[T]) -> T:
        """What is waited for, which L{abort} cancels."""
        if self._aborted:
            waiting.cancel()
        self._waiting = cast("Deferred[object]", waiting)
        try:
            return await waiting
        finally:
            self._waiting = None

    async def _take(self, answer: IAnswer) -> None:
        # What was asked for as a part, and came whole.
        self._skip = self.at if answer.status == 200 else 0
        try:
            await answer.deliver(self)
        except BodyCut:
            if self._aborted or self.at != self._stop:
                raise
        finally:
            self._answer = None
        if self._skip:
            raise BodyCut(f"the origin ended its answer before byte {self.at}, where it was to go on")
        if self._stop is not None and self.at < self._stop:
            raise BodyCut(f"the origin ended its answer at byte {self.at} of {self._stop}")

    def _abandon(self, answer: IAnswer | None) -> None:
        if answer is not None and answer is self._answer:
            answer.abort()
