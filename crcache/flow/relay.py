"""An origin's body passed on to one client, without a file in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from crcache import events
from crcache.flow.ending import end_short, reset
from crcache.flow.letting_go import LetGo, request_id_of
from crcache.flow.window import HELD
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer
from crcache.workers import Workers

log = Logger()

#: Bytes hashed at a time; as many again may have come in meanwhile before the upstream is paused.
BATCH = 256 << 10


@implementer(IConsumer, IPushProducer)
class Relay:
    """Takes an answer's body at the client's pace. With a digest its last bytes wait until all are verified."""

    def __init__(
        self,
        request: Request,
        answer: IAnswer,
        digest: Digest | None,
        hashing: Workers,
        clock: IReactorTime,
        skip: int = 0,
        proved: Callable[[int], None] | None = None,
    ) -> None:
        """
        @param skip: how many of the first bytes are hashed only: the client asked for what follows them.
        @param proved: called with the size, once all of the body has been found to be what the digest says.
        """
        self._request = request
        self._answer = answer
        self._digest = digest
        self._hasher: Any = None if digest is None else digest.hasher()
        self._hashing = hashing
        self._clock = clock
        self._skip = skip
        self._proved = proved
        self._size = 0
        self._let_go: LetGo | None = None
        self._producer: IPushProducer | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._kept = b""
        self._busy = False
        self._slow = False
        self._paused = False
        self._ended = False
        self._broken = False
        self._over = False
        self._sent = 0
        self._done: Deferred[int] = Deferred()

    def start(self) -> Deferred[int]:
        """Write the head, then the body; fires with the number of body bytes written once it is over."""
        if self._digest is None or self._answer.length != 0:
            # The head of an empty body is all of the answer, and waits for the verdict.
            self._request.write(b"")
        return self._begin()

    def go_on(self, hasher: Any, slow: bool) -> Deferred[int]:
        """As L{start}, behind a head and the first part of a body that have been written.

        @param hasher: has seen all of the body before the answer's; C{None} without a digest.
        @param slow: whether the client takes nothing just now.
        """
        self._hasher = hasher
        self._slow = slow
        return self._begin()

    def _begin(self) -> Deferred[int]:
        self._request.notifyFinish().addErrback(lambda _: self._gone())
        self._request.registerProducer(self, True)
        self._let_go = LetGo(self._clock, self._request, lambda: self._sent if self._slow else None)
        self._answer.deliver(self).addCallbacks(self._complete, self._cut)
        return self._done

    # IConsumer, towards the origin

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As L{IConsumer}: the answer's body."""
        self._producer = cast(IPushProducer, producer)
        self._throttle()

    def unregisterProducer(self) -> None:
        """As L{IConsumer}."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """As L{IConsumer}: the next bytes of the body."""
        if self._over:
            return
        if self._hasher is None:
            self._pass_on(data)
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._hash()
        self._throttle()

    # IPushProducer, towards the client

    def pauseProducing(self) -> None:
        """As L{IPushProducer}: the client is slower than the origin."""
        self._slow = True
        self._throttle()

    def resumeProducing(self) -> None:
        """As L{IPushProducer}."""
        self._slow = False
        self._hash()
        self._throttle()

    def stopProducing(self) -> None:
        """As L{IPushProducer}: the connection is gone."""
        self._gone()

    def _throttle(self) -> None:
        wanted = self._slow or self._pending_bytes >= BATCH
        if wanted == self._paused or self._producer is None:
            return
        self._paused = wanted
        if wanted:
            self._producer.pauseProducing()
        else:
            self._producer.resumeProducing()

    def _hash(self) -> None:
        if self._busy or self._slow or self._over:
            return
        if not self._pending:
            if self._ended:
                self._judge()
            elif self._broken:
                self._end_short()
            return
        batch, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        self._busy = True
        self._hashing.run(self._hasher.update, batch).addCallbacks(self._hashed, self._failed, callbackArgs=(batch,))

    def _hashed(self, _: None, batch: bytes) -> None:
        self._busy = False
        self._size += len(batch)
        if self._over:
            return
        data = self._kept + batch
        free = max(len(data) - HELD, 0)
        self._kept = data[free:]
        if free:
            self._pass_on(data[:free])
        self._hash()
        self._throttle()

    def _judge(self) -> None:
        assert self._digest is not None
        if self._hasher.hexdigest() == self._digest.hex:
            if self._proved is not None:
                self._proved(self._size)
            self._pass_on(self._kept)
            self._finish()
        else:
            log.warn(
                "the origin sent bytes that are not {digest} (request {request_id})",
                event=events.CONTENT_WRONG,
                request_id=request_id_of(self._request),
                digest=str(self._digest),
            )
            reset(self._request)
            self._gone()

    def _pass_on(self, data: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if data:
            self._sent += len(data)
            self._request.write(data)

    def _complete(self, _: None) -> None:
        self._ended = True
        if self._over:
            return
        if self._hasher is None:
            self._finish()
        else:
            self._hash()

    def _cut(self, failure: Failure) -> None:
        if not self._over:
            log.info(
                "a relayed body broke off: {problem} (request {request_id})",
                event=events.RELAY_BROKEN,
                request_id=request_id_of(self._request),
                problem=failure.value,
            )
            if self._hasher is None:
                self._end_short()
            else:
                # Behind what has come and is still to be hashed.
                self._broken = True
                self._hash()

    def _failed(self, failure: Failure) -> None:
        log.failure(
            "hashing a relayed body failed (request {request_id})",
            failure,
            event=events.INTERNAL_ERROR,
            request_id=request_id_of(self._request),
        )
        self._end_short()

    def _finish(self) -> None:
        self._request.unregisterProducer()
        self._end()
        self._request.finish()
        self._done.callback(self._sent)

    def _end_short(self) -> None:
        end_short(self._request)
        self._gone()

    def _gone(self) -> None:
        if not self._over:
            # First: an answer that is given up breaks off, which is no news then.
            self._end()
            self._answer.abort()
            self._pending.clear()
            self._done.callback(self._sent)

    def _end(self) -> None:
        self._over = True
        if self._let_go is not None:
            self._let_go.stop()
