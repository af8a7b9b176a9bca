"""The bucket's answers: as an origin's, but that one which is too slow ends, so that the origin sends the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.interfaces import IAnswer, INearby
from crcache.tier.problems import Failed

#: What comes more slowly, in all of so many seconds in which it was wanted, is as good as nothing.
SLOWEST = 256 << 10
WINDOW = 5.0


@implementer(IAnswer, INearby)
class BucketAnswer:
    """An answer of the bucket's, watched as it comes."""

    def __init__(
        self,
        answer: IAnswer,
        clock: Any,
        name: str,
        failed: Callable[[Failed], object],
        received: Callable[[int], object],
    ) -> None:
        """
        @param answer: over the connection to the bucket.
        @param name: of the bucket, for people.
        @param failed: told when the body does not come as it should.
        @param received: called with numbers of bytes as they come.
        """
        self.status: int = answer.status
        self.headers: Headers = answer.headers
        self.length: int | None = answer.length
        self._answer = answer
        self._clock = clock
        self._name = name
        self._failed = failed
        self._received = received
        self._wanted = True
        self._slow = False
        self._timer: IDelayedCall | None = None
        self._watched: _Watched | None = None

    def deliver(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IAnswer.deliver}."""
        self._watched = _Watched(consumer)
        self._timer = self._clock.callLater(WINDOW, self._look)
        return self._answer.deliver(self._watched).addBoth(self._ended)

    def abort(self) -> None:
        """As L{IAnswer.abort}."""
        self._wanted = False
        self._answer.abort()

    def _look(self) -> None:
        self._timer = None
        watched = self._watched
        if watched is None:
            return
        count, paused = watched.look()
        if not paused and count < SLOWEST * WINDOW:
            self._slow = True
            self._answer.abort()
            return
        self._timer = self._clock.callLater(WINDOW, self._look)

    def _ended(self, result: Any) -> Any:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        watched, self._watched = self._watched, None
        if watched is not None:
            self._received(watched.total)
        if isinstance(result, Failure) and result.check(BodyCut) and self._wanted:
            if self._slow:
                told = f"{self._name} sends less than {SLOWEST >> 10} KiB/s"
                self._failed(Failed(told, silent=True))
                raise BodyCut(f"{told}; ask the registry itself")
            self._failed(Failed(f"{self._name} broke off: {result.getErrorMessage()}"))
        return result


@implementer(IConsumer, IPushProducer)
class _Watched:
    """Between a body and whoever takes it: counts, and knows whether it was wanted all the time.

    @ivar total: bytes so far.
    """

    def __init__(self, consumer: IConsumer) -> None:
        self.total = 0
        self._consumer = consumer
        self._producer: Any = None
        self._seen = 0
        self._paused = self._was_paused = False

    def look(self) -> tuple[int, bool]:
        """How many bytes have come since the last look, and whether they were not always wanted."""
        count, paused = self.total - self._seen, self._was_paused or self._paused
        self._seen, self._was_paused = self.total, False
        return count, paused

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}."""
        self._producer = producer
        self._consumer.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""
        self._consumer.unregisterProducer()

    def write(self, data: bytes) -> None:
        """As L{IConsumer}."""
        self.total += len(data)
        self._consumer.write(data)

    def pauseProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = self._was_paused = True
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = False
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """As L{IPushProducer}."""
        self._producer.stopProducing()
