"""How connections to origins are opened: directly or through a proxy, plain or with TLS."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from crcache.errors import OriginUnreachable
from crcache.upstream.deadline import within
from crcache.upstream.guard import PublicEndpoint
from crcache.upstream.link import Link, LinkFactory, SecureFactory
from crcache.upstream.proxy import Proxy
from crcache.upstream.trust import Creators, Trust, verifies
from crcache.upstream.tunnel import TunnelEndpoint
from crcache.upstream.urls import Origin


class Connector:
    """Makes endpoints whose connections are L{links<Link>}.

    @ivar links: the open ones, by the HTTP client on top.
    """

    def __init__(self, reactor: Any, clock: Any, timeout: float) -> None:
        """
        @param timeout: seconds for all of it: name, TCP, the proxy's answer, TLS.
        """
        self._reactor = reactor
        self._clock = clock
        self._timeout = timeout
        self._creators = Creators()
        self.links: dict[Any, Link] = {}

    def endpoint(self, origin: Origin, trust: Trust, proxy: Proxy | None, astray: str | None = None) -> LinkEndpoint:
        """The endpoint for requests to an origin.

        With a proxy, plain HTTP goes to the proxy itself (as absolute-form requests), https through a tunnel.

        @param astray: the sentence to refuse an origin with that is at no public address; C{None}: it may be anywhere.
            Where a proxy is, and where that finds the origin, is its administrator's business.
        """
        if proxy is None and astray is not None:
            endpoint: Any = PublicEndpoint(self._reactor, origin.host, origin.port, self._timeout, astray)
        elif proxy is None:
            endpoint = self._host(origin.host, origin.port)
        else:
            endpoint = self._host(proxy.host, proxy.port)
            if proxy.secure:
                endpoint = wrapClientTLS(self._creators.creator(Trust(), proxy.host), endpoint)
            if origin.scheme == "https":
                endpoint = TunnelEndpoint(endpoint, proxy, origin)
        creator = self._creators.creator(trust, origin.host) if origin.scheme == "https" else None
        return LinkEndpoint(self._clock, endpoint, creator, self._timeout, self.links, str(proxy or origin))

    def _host(self, host: str, port: int) -> HostnameEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=self._timeout)


@implementer(IStreamClientEndpoint)
class LinkEndpoint:
    """Opens links, in time."""

    def __init__(
        self, clock: Any, endpoint: Any, creator: Any, timeout: float, links: dict[Any, Link], where: str
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._creator = creator
        self._timeout = timeout
        self._links = links
        self._where = where

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """The HTTP client on a new connection, ready for a request.

        Fails as the endpoint beneath does, with what TLS says, with L{OriginUnreachable} if it takes too long, and
        with C{CancelledError} if it is cancelled.
        """

        opening: Deferred[Any] = Deferred.fromCoroutine(self._connect(protocolFactory))
        return within(opening, self._timeout, self._clock, self._late)

    def _late(self) -> OriginUnreachable:
        return OriginUnreachable(
            f"no connection to {self._where} within {self._timeout:g} s; check that it is up and reachable from here"
        )

    async def _connect(self, protocol_factory: IProtocolFactory) -> Any:
        factory: Any = LinkFactory(protocol_factory, self._creator is not None, self._links, verifies(self._creator))
        if self._creator is None:
            link = await _cancellable(self._endpoint.connect(factory))
        else:
            outer = await _cancellable(self._endpoint.connect(SecureFactory(self._creator, True, factory)))
            link = outer.wrappedProtocol
        try:
            await link.opened
        except BaseException:
            link.abort()
            raise
        return link.http


def _cancellable(connecting: Deferred[Any]) -> Deferred[Any]:
    """The same, but once cancelled it fails with C{CancelledError}: endpoints call it an unknown name or otherwise."""

    def cancel(outer: Deferred[Any]) -> None:
        outer.errback(CancelledError())
        connecting.cancel()

    def forward(result: Any) -> None:
        if not outer.called:
            outer.callback(result)

    outer: Deferred[Any] = Deferred(cancel)
    connecting.addBoth(forward)
    return outer
