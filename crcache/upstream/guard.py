"""Connections to public addresses only, judged on what is dialled, not on what a name has meant a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache import events
from crcache.errors import Astray
from crcache.facts import Query
from crcache.policy.reach import address_public

log = Logger()


@implementer(IStreamClientEndpoint)
class PublicEndpoint:
    """Connects to a host, at those of its addresses that are public."""

    def __init__(self, reactor: Any, host: str, port: int, timeout: float, otherwise: str) -> None:
        """
        @param otherwise: what to say if none of them is.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._otherwise = otherwise

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """As L{HostnameEndpoint}'s; fails with L{Astray} if the host has addresses, but no public one."""
        view = _PublicPart(self._reactor)

        def judge(failure: Failure) -> Failure:
            # That is what no addresses at all are for Twisted.
            if view.refused and failure.check(DNSLookupError):
                raise Astray(self._otherwise)
            return failure

        connecting = HostnameEndpoint(view, self._host, self._port, timeout=self._timeout).connect(protocolFactory)
        return connecting.addErrback(judge)


@implementer(IReactorPluggableNameResolver, IHostnameResolver, IReactorTCP)
class _PublicPart:
    """The reactor as an endpoint sees it, in whose world there are public addresses only.

    @ivar refused: whether there were others.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    @property
    def nameResolver(self) -> _PublicPart:
        """As L{IReactorPluggableNameResolver}."""
        return self

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """As L{IHostnameResolver}."""
        found: IHostResolution = self._reactor.nameResolver.resolveHostName(
            _Sieve(resolutionReceiver, self), hostName, portNumber, addressTypes, transportSemantics
        )
        return found

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> Any:
        """As L{IReactorTCP}: here, at the last moment, it is a literal address that is dialled, or nothing."""
        if not address_public(host):
            raise ValueError("not a public address")
        return self._reactor.connectTCP(host, port, factory, timeout, bindAddress)


@implementer(IResolutionReceiver)
class _Sieve:
    """Lets public addresses through."""

    def __init__(self, receiver: Any, view: _PublicPart) -> None:
        self._receiver = receiver
        self._view = view

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: Any) -> None:
        if address_public(address.host):
            self._receiver.addressResolved(address)
        else:
            self._view.refused = True

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


def tell(problem: Astray, query: Query) -> None:
    """Operators hear of it: clients go elsewhere, and nobody else would say why."""
    log.warn(
        "{problem} (request {request_id})",
        event=events.LED_ASTRAY,
        problem=problem.message,
        **events.about(query),
    )
