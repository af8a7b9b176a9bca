"""One client being sent a file where sendfile cannot be used: over TLS, or in chunks."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from crcache.errors import CrcacheError
from crcache.flow.carry import Carry, Means
from crcache.flow.ending import reset
from crcache.flow.letting_go import LetGo
from crcache.flow.window import Window
from crcache.interfaces import IWatcher

#: Bytes read from the file at a time.
CHUNK = 128 << 10


@implementer(IPushProducer, IWatcher)
class PushSend:
    """Reads a window of a body in a worker thread and writes it to the request, as fast as the client takes it."""

    def __init__(self, request: Request, window: Window, means: Means, carry: Carry) -> None:
        """
        @param carry: goes on when the file gives no more.
        """
        self._request = request
        self._window = window
        self._reading = means.reading
        self._clock = means.clock
        self._carry = carry
        self._let_go: LetGo | None = None
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
        self._let_go = LetGo(self._clock, self._request, lambda: self._window.offset if self._paused else None)
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
            self._over_now()
            window.close()
            self._request.finish()
            self._done.callback(window.sent)
        elif window.wrong:
            reset(self._request)
            self._end()
        elif window.torn:
            self._leave_file(self._carry.cut_short("a cached file was cut while it was sent"))
        elif (end := min(window.limit(), window.offset + CHUNK)) > window.offset:
            self._reads = True
            self._reading.run(window.read, end).addCallbacks(self._read, self._unreadable)
        elif window.failed:
            self._leave_file(window.problem)

    def _read(self, data: bytes) -> None:
        self._reads = False
        if self._over:
            self._window.close()
        elif not data:
            self._leave_file(
                self._carry.cut_short(f"a cached file ends at byte {self._window.offset}, before its time")
            )
        elif self._window.wrong or self._window.torn:
            # Since when nobody knows: what was just read is not sent.
            self._go_on()
        else:
            self._window.offset += len(data)
            self._request.write(data)
            self._go_on()

    def _unreadable(self, failure: Failure) -> None:
        self._reads = False
        if self._over:
            self._window.close()
        else:
            self._leave_file(self._carry.unreadable(failure.value, failure.value))

    def _leave_file(self, problem: CrcacheError | None) -> None:
        """The file gives no more, for this reason."""
        if problem is None or not self._carry.can(problem):
            self._carry.end(problem)
            self._end()
            return
        self._request.unregisterProducer()
        sent = self._window.sent
        self._over = True
        self._carry.start(problem, self._paused).addCallback(lambda more: sent + more).chainDeferred(self._done)
        self._over_now()

    def _end(self) -> None:
        if not self._over:
            self._over_now()
            if not self._reads:
                self._window.close()
            self._done.callback(self._window.sent)

    def _over_now(self) -> None:
        self._over = True
        self._window.body.unwatch(self)
        if self._let_go is not None:
            self._let_go.stop()
