"""A tunnel through an HTTP proxy (CONNECT; RFC 9110, 9.3.6)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.errors import OriginUnreachable
from crcache.upstream.proxy import Proxy
from crcache.upstream.urls import Origin

_LONGEST_HEAD = 16 * 1024


class _Tunnel(Protocol):
    """Asks for the tunnel, then is nothing but a passage for the protocol inside."""

    def __init__(self, proxy: Proxy, origin: Origin) -> None:
        self._proxy = proxy
        self._origin = origin
        self._head = b""
        self._inside: Any = None
        self.opened: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        lines = [f"CONNECT {self._origin} HTTP/1.1", f"Host: {self._origin}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization.reveal()}")
        transport: Any = self.transport
        transport.write("\r\n".join([*lines, "", ""]).encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        if self._inside is not None:
            self._inside.dataReceived(data)
        elif not self.opened.called:
            self._head += data
            self._parse()

    def _parse(self) -> None:
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > _LONGEST_HEAD:
            self._refuse(f"{self._proxy} answered CONNECT with a head of more than {_LONGEST_HEAD} bytes; check it")
        elif end:
            words = head.split(b"\r\n", 1)[0].split(b" ", 2)
            status = words[1].decode("latin-1") if len(words) > 1 and words[0].startswith(b"HTTP/1.") else ""
            if len(status) == 3 and status.startswith("2"):
                self.opened.callback(rest)
            elif status == "407":
                self._refuse(f"{self._proxy} wants credentials (407); put them into its url")
            elif status.isdigit():
                self._refuse(f"{self._proxy} refused a tunnel to {self._origin} with {status}; check its rules")
            else:
                self._refuse(f"{self._proxy} answered something that is not HTTP; check its url")

    def _refuse(self, message: str) -> None:
        self.opened.errback(OriginUnreachable(message))

    def enter(self, inside: Any, rest: bytes) -> None:
        """From now on everything is for the protocol inside."""
        self._inside = inside
        self._head = b""
        inside.makeConnection(self.transport)
        if rest:
            inside.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inside is not None:
            self._inside.connectionLost(reason)
        elif not self.opened.called:
            self._refuse(f"{self._proxy} closed the connection instead of opening a tunnel to {self._origin}; check it")


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to an origin through a proxy that is reached by another endpoint."""

    def __init__(self, endpoint: Any, proxy: Proxy, origin: Origin) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._origin = origin

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """The protocol inside, once the tunnel is there.

        Fails with L{OriginUnreachable} if the proxy refuses it, or as the endpoint of the proxy does.
        """
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        tunnel = await self._endpoint.connect(Factory.forProtocol(lambda: _Tunnel(self._proxy, self._origin)))
        try:
            rest = await tunnel.opened
            inside = factory.buildProtocol(tunnel.transport.getPeer())
            tunnel.enter(inside, rest)
        except BaseException:
            tunnel.transport.abortConnection()
            raise
        return inside
