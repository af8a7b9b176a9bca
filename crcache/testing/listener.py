"""A web listener on a free port of the loopback interface, for tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import IResource
from twisted.web.server import Site


class _QuietSite(Site):
    noisy = False

    def log(self, request: Any) -> None:
        """Nothing: the tests look at the records."""


class _Connections(WrappingFactory):
    """Knows the open connections, so that they can be ended."""

    noisy = False

    def __init__(self, wrapped: Site) -> None:
        super().__init__(wrapped)
        self._empty: list[Deferred[None]] = []
        self.accepted = 0

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        self.accepted += 1
        super().registerProtocol(p)

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        if not self.protocols:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def end(self) -> Deferred[None]:
        """Abort every connection. Fires when the last is gone."""
        if not self.protocols:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._empty.append(gone)
        for protocol in list(self.protocols):
            protocol.abortConnection()
        return gone


class Listener:
    """Serves a resource from C{127.0.0.1}.

    @ivar url: without a trailing slash.
    """

    def __init__(self, reactor: Any, resource: IResource, tls: Any = None, port: int = 0) -> None:
        """
        @param tls: C{None} for plain HTTP, or a context factory, as C{CertificateOptions} is.
        """
        self._connections = _Connections(_QuietSite(resource))
        if tls is None:
            self._port: IListeningPort = reactor.listenTCP(port, self._connections, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(port, self._connections, tls, interface="127.0.0.1")
        host: Any = self._port.getHost()
        self.port: int = host.port
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._connections.accepted

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections.protocols)

    def hang_up(self) -> Deferred[None]:
        """Abort all connections, and go on listening."""
        return self._connections.end()

    def freeze(self) -> None:
        """Read nothing from any connection: a peer that hangs."""
        for protocol in self._connections.protocols:
            protocol.pauseProducing()

    def thaw(self) -> None:
        """Undo L{freeze}."""
        for protocol in self._connections.protocols:
            protocol.resumeProducing()

    def stop(self) -> Deferred[None]:
        """Stop listening and abort all connections."""
        port = self._port.stopListening()
        stopped = gatherResults([port or succeed(None), self._connections.end()])
        return stopped.addCallback(lambda _: None)
