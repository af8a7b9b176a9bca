"""One client's HTTP/1.1 connection: order, refusals and closing, where Twisted's own channel differs by version."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.web.http import HTTPChannel

from crcache.web.render import malformed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

#: Seconds for a refused client to read its answer before the connection is torn down.
LINGER = 2.0

#: What a request can begin with: a method, or the empty lines that some send before it (RFC 9112, 2.2).
_BEGINNINGS = frozenset(bytes([byte]) for byte in b"\r" + string.ascii_letters.encode())

_NEVER = re.compile(rb"[\0\r\n]")


class Channel(HTTPChannel):
    """An L{HTTPChannel} that reads no bodies and answers nonsense in the registry's own words.

    A request that announces a body is answered at once; the body is dropped unread and the connection closes behind
    the answer. What is not HTTP gets a 400 with the error JSON. In both cases the connection is half-closed first:
    closing a socket with unread bytes in it would reset it, and the answer might be lost.

    Pipelined requests are answered one after another. (Twisted before 24.7 may begin the second while the first is
    still being sent, if both came in one segment.)
    """

    _begun = False
    _lingering = False
    _refused = False
    #: What came last of a line whose end has not come yet, if that is the first half of one.
    _half_end = b""
    _goodbye: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the client."""
        if self._lingering:
            return
        if not self._begun:
            self._begun = True
            # A TLS handshake, for one, may have no end of line to wait for.
            if data[:1] not in _BEGINNINGS:
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

    def lineReceived(self, line: bytes) -> None:
        """A line of a request's head; NUL, CR and LF are invalid in any of them (RFC 9112, 2.2; RFC 9110, 5.5)."""
        if self._lingering:
            return
        if _NEVER.search(line) is not None:
            self._respondToBadRequestAndDisconnect()
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of a request's head is too long."""
        self._respondToBadRequestAndDisconnect()

    def rawDataReceived(self, data: bytes) -> None:
        """Bytes behind a request's head: of the next request, since bodies are not read."""
        if self._lingering:
            return
        self._dataBuffer.append(data)
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize and not self._waitingForTransport:
            self._networkProducer.pauseProducing()

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
        self.setRawMode()
        super().allContentReceived()

    def loseConnection(self) -> None:
        """Close when all has been written; a client that may still be sending gets a moment to read it."""
        if not self._lingering:
            super().loseConnection()
            return
        if self._goodbye is not None:
            return
        transport = cast(ITCPTransport, self.transport)
        self._goodbye = self.callLater(LINGER, transport.abortConnection)
        if not self.isSecure():
            transport.loseWriteConnection()
        else:
            super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self._goodbye is not None and self._goodbye.active():
            self._goodbye.cancel()
        super().connectionLost(reason)

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._refused:
            return
        self._refused = self._lingering = True
        _log.info("{client} sent what is not HTTP: 400", client=getattr(self.getPeer(), "host", "-"))
        cast(ITCPTransport, self.transport).write(malformed())
        self.loseConnection()


_log = Logger()
