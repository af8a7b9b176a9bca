"""Puts a body on the wire, in full or as a fault says."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from crcache.testing.records import Record
from crcache.testing.script import Rule

_PIECE = 64 * 1024
#: Until what has been written has reached the peer's socket, on a loopback interface.
_FLUSH = 0.05


@implementer(IPushProducer)
class BodySender:
    """Writes one body, at the transport's pace, and ends the request."""

    def __init__(self, reactor: Any, request: Request, record: Record, body: bytes, rule: Rule, close: bool) -> None:
        """
        @param close: close the connection after the body, as HTTP/1.0 does.
        """
        self._reactor = reactor
        self._request = request
        self._transport: Any = request.channel.transport
        self._record = record
        self._body = memoryview(body)
        self._rule = rule
        self._fault = rule.fault
        self._close = close
        self._stop = len(body) if self._fault.cut is None else min(self._fault.cut, len(body))
        self._position = 0
        self._paused = False
        self._waiting = False
        self._stalled = False
        self._gone = False
        self._timer: Any = None

    def start(self) -> None:
        """Send what there is to send."""
        self._request.notifyFinish().addBoth(self._left)
        self._request.registerProducer(self, True)
        # The head comes even if nothing of the body does.
        self._request.write(b"")
        self._write()

    def _left(self, reason: object) -> None:
        self._gone = True
        self._record.done = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _write(self) -> None:
        while not (self._paused or self._waiting or self._gone):
            end = min(self._stop, self._position + _PIECE)
            stall = self._fault.stall
            if stall is not None and not self._stalled:
                if self._position >= stall:
                    self._stalled = self._waiting = True
                    self._rule.wait(self._go_on)
                    continue
                end = min(end, stall)
            if self._position >= self._stop:
                self._end()
                return
            piece = bytes(self._body[self._position : end])
            self._position = end
            self._record.sent = end
            self._request.write(piece)
            if self._fault.rate is not None:
                self._waiting = True
                self._timer = self._reactor.callLater(len(piece) / self._fault.rate, self._go_on)

    def _go_on(self) -> None:
        self._waiting = False
        self._write()

    def _end(self) -> None:
        self._gone = True
        self._request.unregisterProducer()
        if self._fault.cut is not None and self._fault.reset:
            self._timer = self._reactor.callLater(_FLUSH, self._transport.abortConnection)
        elif self._fault.cut is not None:
            self._hang_up()
        else:
            self._request.finish()
            if self._close:
                self._hang_up()

    def _hang_up(self) -> None:
        # The channel is the transport's producer; TLS says farewell only when there is none.
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def pauseProducing(self) -> None:
        """The socket is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._write()

    def stopProducing(self) -> None:
        """The client has gone."""
        self._left(None)
