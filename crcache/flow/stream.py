"""One upstream answer, written over a run of segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.flow.patience import to_the_end
from crcache.interfaces import IAnswer

#: Bytes handed to a worker at a time; as many again may have come in meanwhile before the upstream is paused.
BATCH = 1 << 20
#: Seconds for which less than a batch is kept back.
LINGER = 0.005


class Target(Protocol):
    """Where a stream writes: a fill, or something that does more with the bytes."""

    def write(self, offset: int, buffers: Sequence[bytes]) -> Deferred[None]:
        """As L{IIngest.write<crcache.interfaces.IIngest>}."""


@implementer(IConsumer)
class Stream:
    """Writes what an answer brings to C{[start, stop)} of a fill, in batches, one at a time.

    @ivar offset: where the next byte to be written belongs; everything of the run before it is marked.
    @ivar position: where the next byte to come belongs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        target: Target,
        start: int,
        stop: int | None,
        progressed: Callable[[], None],
        *,
        skip: int = 0,
    ) -> None:
        """
        @param stop: where the run ends; C{None} if only the answer's end will tell.
        @param progressed: called after each batch that has been written and marked.
        @param skip: bytes at the answer's beginning that are not wanted, since the origin ignored the range.
        """
        self.offset = self.position = start
        self._clock = clock
        self._target = target
        self._stop = stop
        self._progressed = progressed
        self._skip = skip
        self._wanted = None if stop is None else stop - start
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writing = False
        self._producer: IPushProducer | None = None
        self._paused = False
        self._timer: IDelayedCall | None = None
        self._failure: Failure | None = None
        self._answer: IAnswer | None = None
        self._idle: Deferred[None] | None = None
        self._ended = False

    async def run(self, answer: IAnswer) -> None:
        """Take the whole answer, or as much of it as the run has room for.

        @raise crcache.errors.BodyCut: the answer ended too soon; what came is written and marked.
        @raise crcache.errors.StoreError: writing failed.
        """
        self._answer = answer
        try:
            await answer.deliver(self)
        except BodyCut:
            # An answer that was aborted since its run is full, or writing failed, is not cut.
            if self._failure is None and not self._complete:
                raise
        except Exception:
            answer.abort()
            raise
        finally:
            self._answer = None
            await self._drain()
        if self._failure is not None:
            self._failure.raiseException()

    def shorten(self, stop: int) -> None:
        """End there instead, which is no failure: somebody else fetches the rest.

        @param stop: not before L{position}.
        """
        self._stop = stop
        self._wanted = stop - self.position
        if not self._wanted:
            self._end_early()

    @property
    def _complete(self) -> bool:
        return self._wanted == 0

    async def _drain(self) -> None:
        self._ended = True
        self._flush()
        if self._writing:
            self._idle = Deferred()
            await to_the_end(self._idle)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}: the answer's body."""
        self._producer = cast(IPushProducer, producer)

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """As L{IConsumer}: the next bytes of the body."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._wanted is not None:
            if len(data) >= self._wanted:
                data = data[: self._wanted]
                self._end_early()
            self._wanted -= len(data)
        if not data or self._failure is not None:
            return
        self.position += len(data)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= BATCH:
            if self._writing:
                self._pause()
            else:
                self._flush()
        elif self._timer is None and not self._writing:
            self._timer = self._clock.callLater(LINGER, self._lingered)

    def _end_early(self) -> None:
        """The run is full: an answer that goes on, to a later hole's bytes or beyond the end, is not read further."""
        answer, wanted = self._answer, self._wanted
        if answer is not None and wanted is not None:
            self._clock.callLater(0, self._abandon, answer)

    def _abandon(self, answer: IAnswer) -> None:
        if answer is self._answer:
            answer.abort()

    def _lingered(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing or not self._pending or self._failure is not None:
            return
        batch, length = self._take()
        self._writing = True
        self._target.write(self.offset, batch).addCallbacks(self._written, self._failed, callbackArgs=(length,))
        if self._paused and self._producer is not None and self._pending_bytes < BATCH:
            self._paused = False
            self._producer.resumeProducing()

    def _take(self) -> tuple[list[bytes], int]:
        """A batch of what has come, and its length."""
        batch, length = self._pending, self._pending_bytes
        rest: list[bytes] = []
        while length > BATCH:
            last = batch.pop()
            kept = max(BATCH - (length - len(last)), 0)
            rest.insert(0, last[kept:])
            length -= len(last) - kept
            if kept:
                batch.append(last[:kept])
        self._pending, self._pending_bytes = rest, self._pending_bytes - length
        return batch, length

    def _written(self, _: None, length: int) -> None:
        self._writing = False
        self.offset += length
        self._progressed()
        if self._ended or self._pending_bytes >= BATCH:
            self._flush()
        elif self._pending and self._timer is None:
            self._timer = self._clock.callLater(LINGER, self._lingered)
        self._idling()

    def _failed(self, failure: Failure) -> None:
        self._writing = False
        self._failure = failure
        self._pending.clear()
        if self._answer is not None:
            self._answer.abort()
        self._idling()

    def _idling(self) -> None:
        if self._idle is not None and not self._writing:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _pause(self) -> None:
        if not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()
