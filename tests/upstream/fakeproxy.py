"""An HTTP proxy for tests: tunnels, and answers plain requests itself."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

BODY = b"from the proxy"


class _Far(Protocol):
    """The tunnel's other end."""

    def __init__(self, near: Any) -> None:
        self.near = near

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.near.transport.loseConnection()


class _Near(Protocol):
    """A client of the proxy."""

    def __init__(self, proxy: FakeProxy) -> None:
        self.proxy = proxy
        self.buffer = b""
        self.far: Any = None
        self.tunnel = False

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.far.transport.write(data)
            return
        self.buffer += data
        while b"\r\n\r\n" in self.buffer and not self.tunnel:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.asked(head.decode().split("\r\n"))

    def asked(self, lines: list[str]) -> None:
        self.proxy.heads.append(lines)
        transport: Any = self.transport
        method, target, _ = lines[0].split(" ")
        if self.proxy.answer is not None:
            transport.write(self.proxy.answer)
        elif method != "CONNECT":
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
        else:
            self.tunnel = True
            host, _, port = target.rpartition(":")
            endpoint = TCP4ClientEndpoint(reactor, host, int(port))
            connectProtocol(endpoint, _Far(self)).addCallbacks(self.joined, lambda _: transport.loseConnection())

    def joined(self, far: Any) -> None:
        self.far = far
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 200 Connection established\r\nVia: fake\r\n\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.far is not None:
            self.far.transport.loseConnection()


class FakeProxy:
    """Listens on a free port.

    @ivar heads: the lines of every request's head.
    @ivar answer: what to answer instead, as bytes on the wire.
    """

    def __init__(self, tls: Any = None) -> None:
        self.heads: list[list[str]] = []
        self.answer: bytes | None = None
        near = self

        class Factory(ServerFactory):
            noisy = False

            def buildProtocol(self, addr: Any) -> _Near:
                return _Near(near)

        self._factory: Any = WrappingFactory(Factory())
        self._factory.noisy = False
        net: Any = reactor
        if tls is None:
            self._port = net.listenTCP(0, self._factory, interface="127.0.0.1")
        else:
            self._port = net.listenSSL(0, self._factory, tls, interface="127.0.0.1")
        self.port: int = self._port.getHost().port

    def stop(self) -> Deferred[Any]:
        """Stop listening, and end all connections."""
        for protocol in list(self._factory.protocols):
            protocol.abortConnection()
        stopped: Deferred[Any] = self._port.stopListening()
        return stopped
