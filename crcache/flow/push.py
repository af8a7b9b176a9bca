"""One client being sent a file where sendfile cannot be used: over TLS, or in chunks."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from crcache import events
from crcache.flow.relay import request_id_of
from crcache.flow.window import Window, abort
from crcache.interfaces import IWatcher
from crcache.workers import Workers

log = Logger()

#: Bytes read from the file at a time.
CHUNK = 128 << 10


@implementer(IPushProducer, IWatcher)
class PushSend:
    """Reads a window of a body in a worker thread and writes it to the request, as fast as the client takes it."""

    def __init__(self, request: Request, window: Window, reading: Workers) -> None:
        """
        @param reading: threads that read files.
        """
        self._request = request
        self._window = window
        self._reading = reading
        self._paused = False
        self._reads = False
        self._over = False
        self._done: Deferred[int] = Deferred()

    def start(self) -> Deferred[int]:
        """Write the head, then the body; fires with the number of body bytes written once it is over."""
        self._window.body.watch(self, self._window.span)
        self._request.notifyFinish().addErrback(lambda _: self._end())
        self._request.write(b"")
        self._request.registerProducer(self, True)
        self._go_on()
        return self._done

    # IPushProducer

    def resumeProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = False
        self._go_on()

    def pauseProducing(self) -> None:
        """As L{IPushProducer}."""
        self._paused = True

    def stopProducing(self) -> None:
        """As L{IPushProducer}: the connection is gone."""
        self._end()

    # IWatcher

    def moved(self) -> None:
        """As L{IWatcher}."""
        self._go_on()

    def _go_on(self) -> None:
        if self._paused or self._reads or self._over:
            return
        window = self._window
        if window.finished:
            self._request.unregisterProducer()
            self._let_go()
            self._request.finish()
            self._done.callback(window.sent)
        elif window.failed:
            self._abort()
        elif (end := min(window.limit(), window.offset + CHUNK)) > window.offset:
            self._reads = True
            self._reading.run(window.read, end).addCallbacks(self._read, self._unreadable)

    def _read(self, data: bytes) -> None:
        self._reads = False
        if self._over:
            self._window.close()
        elif not data:
            log.error(
                "a cached file ends at byte {offset}, before its time (request {request_id})",
                event=events.CONTENT_DAMAGED,
                request_id=request_id_of(self._request),
                offset=self._window.offset,
            )
            self._abort()
        else:
            self._window.offset += len(data)
            self._request.write(data)
            self._go_on()

    def _unreadable(self, failure: Failure) -> None:
        self._reads = False
        if self._over:
            self._window.close()
        else:
            log.error(
                "a cached file cannot be read: {problem} (request {request_id})",
                event=events.CACHE_FAILED,
                request_id=request_id_of(self._request),
                problem=failure.value,
            )
            self._abort()

    def _abort(self) -> None:
        abort(self._request)
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._let_go()
            self._done.callback(self._window.sent)

    def _let_go(self) -> None:
        self._over = True
        self._window.body.unwatch(self)
        if not self._reads:
            self._window.close()
