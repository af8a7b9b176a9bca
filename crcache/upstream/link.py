"""One connection to an origin: from the TCP socket to the HTTP client that Twisted's pool keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.x509 import ExtensionNotFound, SubjectAlternativeName
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.upstream.dates import outdated
from crcache.upstream.records import WORTHWHILE, take_records

#: Bytes asked of the kernel at once. 500 MiB through TLS take a third less CPU with this than with Twisted's own
#: 64 KiB; with a mebibyte the copies no longer fit into the processor's cache. Without TLS it makes little difference.
RECEIVE_BUFFER = 512 * 1024
#: An answer's head that is longer than this, or has more lines, is not waited for; those of real registries have some
#: kilobytes, and thirty lines. They are read in the reactor's thread, and Twisted 22.4 takes a time that grows with the
#: square of how many lines there are: for 11,000, which fit into 64 KiB, twenty seconds.
_LONGEST_HEAD = 64 * 1024
_MOST_LINES = 256
#: As long as there is no head so much is handed on at once: the lines of a body do not count.
_PIECE = 512


@implementer(IHandshakeListener)
class Link(Protocol):
    """Stands between the transport (TCP or TLS) and L{HTTP11ClientProtocol<twisted.web.client>}.

    It notes how the connection ends, aborts it on demand, hands on what TLS takes apart into records in one piece,
    and ends a connection that talks while nothing has been asked.

    @ivar http: the HTTP client on top.
    @ivar opened: fires when a request can be sent (TLS: after the handshake). Fails with the reason otherwise.
    @ivar uses: how many requests have been put on it.
    @ivar user: whoever put the latest one.
    @ivar last: whether the connection ends with the request that is on it, whatever the peer would like.
    @ivar lost: why the connection has ended; C{None} while it is open.
    """

    def __init__(self, http: Any, secure: bool, gone: Callable[[Link], object], named: bool = False) -> None:
        """
        @param secure: wait for the TLS handshake.
        @param gone: called when the connection has ended.
        """
        self.http = http
        self.opened: Deferred[None] = Deferred()
        self.uses = 0
        self.user: object = None
        self.last = False
        self.lost: Failure | None = None
        self._secure = secure
        self._named = named
        self._gone = gone
        self._closed: list[Deferred[None]] = []
        self._head: int | None = None
        self._lines = 0
        self._gathering = False
        self._pieces: list[bytes] = []

    def connectionMade(self) -> None:
        """The TCP connection is there."""
        socket: Any = self.transport
        while isinstance(socket, ProtocolWrapper):
            socket = socket.transport
        socket.bufferSize = RECEIVE_BUFFER
        self.http.makeConnection(self.transport)
        if not self._secure:
            self._open()

    def handshakeCompleted(self) -> None:
        """TLS is there too. A certificate that names nobody is refused here: with a recent service-identity Twisted
        takes one for any host."""
        if self._named and not _names_somebody(self.transport):
            self.opened.errback(SSL.Error([("", "", "the certificate names no host")]))
            self.abort()
        else:
            self._open()

    def _open(self) -> None:
        if not self.opened.called:
            self.opened.callback(None)

    def use(self, user: object) -> None:
        """A request is about to be put on it."""
        self.uses += 1
        self.user = user
        self._head = self._lines = 0

    def answered(self) -> None:
        """The head of the answer has come."""
        self._head = None

    @property
    def idle(self) -> bool:
        """Whether no request is on it."""
        return bool(self.http.state == "QUIESCENT")

    def abort(self) -> None:
        """Close the connection without waiting for the peer."""
        transport: Any = self.transport
        if transport is not None and self.lost is None:
            transport.abortConnection()

    def closed(self) -> Deferred[None]:
        """Fires when the connection has ended."""
        ended: Deferred[None] = Deferred()
        self._closed.append(ended)
        return ended

    def gather(self) -> None:
        """Keep what comes until L{flush}."""
        self._gathering = True

    def flush(self) -> None:
        """Hand on what has been kept."""
        self._gathering = False
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self._receive(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the origin."""
        if self._gathering:
            if data:
                self._pieces.append(data)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        done = 0
        while self._head is not None and done < len(data):
            piece = data[done : done + _PIECE]
            done += len(piece)
            self._head += len(piece)
            self._lines += piece.count(b"\n")
            self._hand_on(piece)
            if self._head is not None and (self._head > _LONGEST_HEAD or self._lines > _MOST_LINES):
                self.abort()
                return
        if done < len(data):
            self._hand_on(data[done:] if done else data)

    def _hand_on(self, data: bytes) -> None:
        if self.idle:
            self.abort()
        elif self.lost is None:
            self.http.dataReceived(data)
            if self.last and self.idle:
                # Not politely: through TLS that would wait for the peer to be polite as well.
                self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.flush()
        self.lost = reason
        self._gone(self)
        self.http.connectionLost(reason)
        if not self.opened.called:
            problem = outdated(self.transport) if self._named and reason.check(SSL.Error) else None
            self.opened.errback(reason if problem is None else Failure(problem))
        for ended in self._closed:
            ended.callback(None)


def _names_somebody(transport: Any) -> bool:
    """Whether the peer's certificate has a subjectAltName (RFC 6125, 6.4.4: nothing else counts)."""
    try:
        transport.getPeerCertificate().to_cryptography().extensions.get_extension_for_class(SubjectAlternativeName)
    except (ExtensionNotFound, ValueError):
        return False
    return True


_TLS: Any = TLSMemoryBIOFactory.protocol


class _GatheringTLS(_TLS):  # type: ignore[misc]
    """TLS that lets a link have all records of one read at once."""

    def dataReceived(self, data: bytes) -> None:
        link = self.wrappedProtocol
        link.gather()
        try:
            if len(data) >= WORTHWHILE and link.opened.called:
                connection = self.getHandle()
                connection.bio_write(memoryview(data)[:-1])
                link.dataReceived(take_records(connection))
                # The last byte goes Twisted's way, which sees to all that is not data: alerts, errors, the end.
                data = data[-1:]
            super().dataReceived(data)
        finally:
            link.flush()


class SecureFactory(TLSMemoryBIOFactory):
    """Client TLS around a L{LinkFactory}."""

    protocol: Any = _GatheringTLS


class LinkFactory:
    """Builds links around the protocols of L{HTTPConnectionPool}'s own factory, and knows the open ones."""

    noisy = False

    def __init__(self, inner: IProtocolFactory, secure: bool, links: dict[Any, Link], named: bool = False) -> None:
        """
        @param named: whether the peer's certificate has to say whose it is.
        """
        self._inner = inner
        self._secure = secure
        self._named = named
        self._links = links

    def doStart(self) -> None:
        """Required of a factory."""

    def doStop(self) -> None:
        """Required of a factory."""

    def buildProtocol(self, addr: Any) -> Link:
        """A link for a new connection."""
        http = self._inner.buildProtocol(addr)
        link = Link(http, self._secure, lambda _: self._links.pop(http, None), self._named)
        self._links[http] = link
        return link
