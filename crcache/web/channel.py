"""One client's HTTP/1.1 connection: order, refusals and closing, where Twisted's own channel differs by version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from crcache import events
from crcache.web.framing import BEGINNINGS, NAME, NEVER, measured
from crcache.web.render import malformed
from crcache.web.slow import HeadWatch

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.web.http import Request

    from crcache.web.drain import Connections
    from crcache.web.site import Site

#: Seconds for a refused client to read its answer before the connection is torn down.
LINGER = 2.0

#: Seconds for a client to notice that its connection ends, before our side of it is closed as well.
PARTING = 1.0


class Channel(HTTPChannel):
    """An L{HTTPChannel} that reads no bodies and answers nonsense in the registry's own words.

    A request that announces a body is answered at once; the body is dropped unread and the connection closes behind
    the answer. What is not HTTP gets a 400 with the error JSON. In both cases the connection is half-closed first:
    closing a socket with unread bytes in it would reset it, and the answer might be lost.

    While its site is drained, a connection ends behind the answer at hand, half-closed first as well: the client may
    just be sending its next request, and a reset could cost it the end of this answer, or the chance to send that
    again. Of pipelined requests those behind the one at hand are not begun.

    Pipelined requests are answered one after another. (Twisted before 24.7 may begin the second while the first is
    still being sent, if both came in one segment.) None is begun before the client has taken most of what it has been
    answered, so that a client who takes nothing fills no memory but its own.

    @ivar peer: what its client is counted under.
    """

    maxHeaders = 100

    peer = ""
    _begun = False
    _lingering = False
    _refused = False
    _last = False
    #: Whether the end of the latest answer can be told from its head.
    _measured = True
    #: What came last of a line whose end has not come yet, if that is the first half of one.
    _half_end = b""
    _goodbye: IDelayedCall | None = None
    #: Whether the next request waits until the client has taken more of the answers before it.
    _postponed = False
    #: Whether a request's head has been complete.
    _asked = False
    _head: HeadWatch

    def connectionMade(self) -> None:
        """A client is there."""
        super().connectionMade()
        self._connections.add(self)
        self._head = HeadWatch(self)
        self._head.look(True)

    @property
    def _connections(self) -> Connections:
        return cast("Site", self.site).connected  # type: ignore[attr-defined]

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return bool(self._handlingRequest and self.requests)

    @property
    def silent(self) -> bool:
        """Whether nothing has come from the client so far."""
        return not self._begun

    @property
    def idle(self) -> bool:
        """Whether a request has been answered, and nothing of the next has come."""
        return self._begun and not (self.requests or self._buffer or self._half_end)

    def last_answer(self) -> None:
        """The connection ends behind the answer at hand, or else the next; its head says so if it still can."""
        self._last = True
        if self.busy:
            self.persistent = False

    def leave(self) -> None:
        """End it, unless a request is being answered: then that comes first."""
        if not self.busy:
            self.loseConnection()

    def give_up(self) -> None:
        """Close it without waiting for the client, in mid-answer too.

        What has been answered in full still leaves the process, as fast as the client takes it.
        """
        if self.busy:
            self._measured = measured(self.requests[0])
            self.cut()
        else:
            self._close()

    def end_short(self) -> None:
        """End the answer at hand behind what has been written of it, short of what its head announced.

        What ends so, containerd resumes; a reset would fail its pull. Without length and chunks, only a reset says
        that it is not the end.
        """
        if measured(self.requests[0]):
            self._close()
            # For a client that does not take what has been written either.
            self.setTimeout(self.timeOut)
        else:
            cast(ITCPTransport, self.transport).abortConnection()

    def cut(self) -> None:
        """End it now, whatever there is still to be sent.

        What ends short of what its head announced, containerd resumes; a reset would fail its pull. Without length and
        chunks, only a reset says that it is not the end.
        """
        if not self._measured:
            cast(ITCPTransport, self.transport).abortConnection()
            return
        raw = self._let_go()
        raw.stopReading()
        raw.stopWriting()
        # Not loseConnection, which waits for the client to take what is buffered.
        raw.connectionLost(Failure(ConnectionDone()))

    def _close(self) -> None:
        self._let_go().loseConnection()

    def _let_go(self) -> Any:
        # Of TLS the socket below it: its own farewell would wait for the client's.
        transport: Any = self.transport
        raw: Any = getattr(transport, "transport", transport)
        producer = raw.producer
        transport.unregisterProducer()
        if producer is not None:
            # As when the connection is lost: it is not the transport's any more, which would tell it then.
            producer.stopProducing()
        return raw

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether another request may follow."""
        return bool(super().checkPersistence(request, version)) and not self._last

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the client."""
        if self._lingering:
            return
        if not self._begun:
            self._begun = True
            # A TLS handshake, for one, may have no end of line to wait for.
            if data[:1] not in BEGINNINGS:
                self._respondToBadRequestAndDisconnect()
                return
        data, known = self._half_end + data, len(self._half_end)
        self._half_end = b""
        super().dataReceived(data[known:])
        if self.line_mode and not self._lingering:
            # The delimiter is CR LF: lines that end in LF alone would be waited on until the connection is idle.
            if b"\n" in data.rpartition(b"\r\n")[2]:
                self._respondToBadRequestAndDisconnect()
            elif data.endswith(b"\r"):
                self._half_end = b"\r"
        self._head.look(bool(self.line_mode) and not self._lingering and not (self._asked and self.idle))

    def lineReceived(self, line: bytes) -> None:
        """A line of a request's head; controls but the tab are invalid in any (RFC 9112, 2.2; RFC 9110, 5.5)."""
        if self._lingering:
            return
        if NEVER.search(line) is not None:
            self._respondToBadRequestAndDisconnect()
            return
        super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """A header of a request is complete, with all its lines; C{False} if it is malformed."""
        if NAME.match(line) is None:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of a request's head is too long."""
        self._respondToBadRequestAndDisconnect()

    def rawDataReceived(self, data: bytes) -> None:
        """Bytes behind a request's head: of the next request, since bodies are not read."""
        if self._lingering:
            return
        self._dataBuffer.append(data)
        # Also while the answer waits for the client: it could as well send for ever.
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def setLineMode(self, extra: bytes = b"") -> None:
        """The next request may begin, if the client has taken most of the answers so far."""
        if not self._waitingForTransport:
            super().setLineMode(extra)
            return
        self._postponed = True
        self._dataBuffer.append(extra)

    def resumeProducing(self) -> None:
        """The client has taken what there was for it."""
        super().resumeProducing()
        if self._postponed:
            self._postponed = False
            data, self._dataBuffer = b"".join(self._dataBuffer), []
            self.setLineMode(data)

    def allHeadersReceived(self) -> None:
        """A request's head is complete."""
        if self.length == 0:
            super().allHeadersReceived()
            return
        request = self.requests[-1]
        request.requestHeaders.removeHeader(b"Expect")
        super().allHeadersReceived()
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self.persistent = False
        self.length = 0
        self._lingering = True

    def allContentReceived(self) -> None:
        """A request is complete."""
        self._asked = True
        self.setRawMode()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """An answer has been written."""
        self._measured = measured(request)
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Close when all has been written; a client that may still be sending gets a moment to read it."""
        if not (self._lingering or self._last):
            super().loseConnection()
            return
        if self._goodbye is not None:
            return
        transport: Any = self.transport
        if self._last and not self._lingering:
            # Not an abort: what the client is slow to take, the system still delivers once we are gone.
            self._goodbye = self.callLater(PARTING, self._close)
        else:
            self._goodbye = self.callLater(LINGER, transport.abortConnection)
        self._lingering = True
        self.setTimeout(None)
        if self.isSecure():
            super().loseConnection()
            return
        # A producer that was paused would be asked for more, and the closing be forgotten.
        transport.unregisterProducer()
        transport.loseWriteConnection()
        # It may have been told to wait, and the client's own end must be seen.
        transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self._goodbye is not None and self._goodbye.active():
            self._goodbye.cancel()
        self._head.stop()
        try:
            super().connectionLost(reason)
        finally:
            self._connections.remove(self)

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._refused:
            return
        self._refused = self._lingering = True
        peer = getattr(self.getPeer(), "host", "-")
        _log.info("{client} sent what is not HTTP: 400", event=events.NOT_HTTP, client=peer)
        cast(ITCPTransport, self.transport).write(malformed())
        self.loseConnection()


_log = Logger()
