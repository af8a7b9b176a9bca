"""Names of hosts, looked up in threads of their own.

Twisted's own resolver shares the reactor's ten threads with everybody else: ten names whose servers do not answer would
stop all work that goes on in threads.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

log = Logger()

_FAMILIES: dict[frozenset[Any], int] = {
    frozenset([IPv4Address]): socket.AF_INET,
    frozenset([IPv6Address]): socket.AF_INET6,
}
_ADDRESSES: dict[int, Any] = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}
_SOCKETS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_Entries = list[tuple[Any, ...]]
_Key = tuple[str, int, int, str]


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str, receiver: Any) -> None:
        self.name = name
        self._receiver: Any = receiver

    def cancel(self) -> None:
        """Tell the receiver nothing more. The look-up goes on for the others."""
        self._receiver = None

    def complete(self, transport: str, entries: _Entries) -> None:
        for family, _, _, _, address in entries:
            if self._receiver is not None and family in _ADDRESSES:
                self._receiver.addressResolved(_ADDRESSES[family](transport, address[0], address[1]))
        if self._receiver is not None:
            self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class Resolver:
    """The operating system's resolver; a name that is being looked up is looked up once, however many wait."""

    def __init__(self, reactor: Any, pool: ThreadPool, getaddrinfo: Any = socket.getaddrinfo) -> None:
        """
        @param pool: where look-ups block; started and stopped by whoever made it.
        @param getaddrinfo: as in L{socket}.
        """
        self._reactor = reactor
        self._pool = pool
        self._getaddrinfo = getaddrinfo
        self._waiting: dict[_Key, list[_Resolution]] = {}
        self._before: Any = None
        self._retired = False

    def install(self) -> None:
        """Have the reactor ask this one from now on."""
        self._before = self._reactor.installNameResolver(self)

    def retire(self) -> None:
        """Begin no more look-ups: the one that was there before is asked again, also by who still asks this one."""
        self._retired = True
        if self._reactor.nameResolver is self:
            self._reactor.installNameResolver(self._before)

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """As L{IHostnameResolver}. A name that cannot be looked up has no addresses."""
        if self._retired:
            before: IHostResolution = self._before.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
            return before
        receiver: Any = resolutionReceiver
        resolution = _Resolution(hostName, receiver)
        receiver.resolutionBegan(resolution)
        family = _FAMILIES.get(frozenset(addressTypes or ()), socket.AF_UNSPEC)
        if isIPAddress(hostName) or isIPv6Address(hostName):
            literal = socket.AF_INET6 if isIPv6Address(hostName) else socket.AF_INET
            fits = family in (socket.AF_UNSPEC, literal)
            resolution.complete(transportSemantics, [(literal, 0, 0, "", (hostName, portNumber))] if fits else [])
            return resolution
        key = hostName, portNumber, family, transportSemantics
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(resolution)
        else:
            self._waiting[key] = [resolution]
            self._look_up(key)
        return resolution

    def _look_up(self, key: _Key) -> None:
        name, port, family, transport = key

        def failed(failure: Failure) -> _Entries:
            failure.trap(OSError, UnicodeError)
            log.debug("{name} cannot be resolved: {problem}", name=name, problem=failure.getErrorMessage())
            return []

        def done(entries: Any) -> None:
            for resolution in self._waiting.pop(key):
                resolution.complete(transport, [] if isinstance(entries, Failure) else entries)

        looking: Any = deferToThreadPool(
            self._reactor, self._pool, self._getaddrinfo, name, port, family, _SOCKETS[transport]
        )
        looking.addErrback(failed).addBoth(done)


def install(reactor: Any, pool: ThreadPool) -> Resolver:
    """Let the reactor resolve names in that pool, which the caller starts, and stops after it has retired the resolver.

    A look-up cannot be interrupted, so the pool's size is how many dead names can be waited for at once.
    """
    resolver = Resolver(reactor, pool)
    resolver.install()
    return resolver
