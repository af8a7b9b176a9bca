"""Names of hosts, looked up in threads of their own.

Twisted's own resolver shares the reactor's ten threads with everybody else: ten names whose servers do not answer would
stop all work that goes on in threads. Here they stop nobody but other strangers, and even those in turn.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from crcache.upstream.lanes import Lane
from crcache.upstream.shared import Recent

log = Logger()

#: Look-ups at once of names that nobody knows, and of those that had addresses the last time. Names that the
#: administrator has named have all threads, one of which nobody else may use.
UNKNOWN = 4
KNOWN = 3
#: Seconds for which it is remembered that a name has no addresses.
NEGATIVE = 5.0
#: What says that there are none. All else says that nobody could tell just then.
_NONE = frozenset(getattr(socket, name, socket.EAI_NONAME) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY"))
#: Names that are remembered, of either kind.
_KEPT = 4096

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
    """The operating system's resolver; a name that is being looked up is looked up once, however many wait.

    Names that nobody knows, clients' inventions among them, have threads of their own, so that others can be looked up
    whatever becomes of those. That a name has no addresses is remembered for a moment; not so that nobody could tell
    whether a name that is known has any: a transfer that is to be resumed would not outlast its resolver's restart.
    """

    def __init__(
        self,
        reactor: Any,
        pool: ThreadPool,
        getaddrinfo: Any = socket.getaddrinfo,
        named: Callable[[str], bool] = lambda name: False,
        seconds: Callable[[], float] | None = None,
    ) -> None:
        """
        @param pool: where look-ups block; of more threads than L{UNKNOWN} and L{KNOWN} together; started and stopped by
            whoever made it.
        @param getaddrinfo: as in L{socket}.
        @param named: whether the administrator has named a host.
        @param seconds: a clock; the reactor's if left out.
        """
        self._named = named
        self._seconds: Callable[[], float] = reactor.seconds if seconds is None else seconds
        self._unknown = Lane(self._seconds, UNKNOWN)
        self._known = Lane(self._seconds, KNOWN)
        # Whether they had the last time, of names that had addresses ever.
        self._found: Recent[str, bool] = Recent(_KEPT)
        self._nameless: Recent[_Key, float] = Recent(_KEPT)
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
        self._unknown.close()
        self._known.close()
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
            self._queue(key)
        return resolution

    def _queue(self, key: _Key) -> None:
        name = key[0]
        if (self._nameless.get(key) or 0.0) > self._seconds():
            self._complete(key, [])
        elif self._named(name):
            self._look_up(key, lambda: None)
        else:
            lane = self._known if self._found.get(name) else self._unknown

            def begin(goes: bool) -> None:
                if goes:
                    self._look_up(key, lambda: lane.leave(name))
                else:
                    log.debug("{name} is not looked up: too many names are", name=name)
                    self._complete(key, [])

            lane.enter(name, begin)

    def _complete(self, key: _Key, entries: _Entries) -> None:
        for resolution in self._waiting.pop(key):
            resolution.complete(key[3], entries)

    def _look_up(self, key: _Key, over: Callable[[], object]) -> None:
        name, port, family, transport = key

        def done(entries: Any) -> None:
            found, passing = entries, False
            if isinstance(entries, Failure):
                found, passing = [], getattr(entries.value, "errno", None) not in (None, *_NONE)
                log.debug("{name} cannot be resolved: {problem}", name=name, problem=entries.getErrorMessage())
            self._note(key, bool(found), passing)
            over()
            self._complete(key, found)

        looking: Any = deferToThreadPool(
            self._reactor, self._pool, self._getaddrinfo, name, port, family, _SOCKETS[transport]
        )
        looking.addBoth(done)

    def _note(self, key: _Key, found: bool, passing: bool) -> None:
        name = key[0]
        known = self._found.get(name) is not None
        if found or known:
            self._found.put(name, found)
        if not (found or (passing and (known or self._named(name)))):
            self._nameless.put(key, self._seconds() + NEGATIVE)


def install(reactor: Any, pool: ThreadPool, named: Callable[[str], bool] = lambda name: False) -> Resolver:
    """Let the reactor resolve names in that pool, which the caller starts, and stops after it has retired the resolver.

    A look-up cannot be interrupted, so the pool's size is how many dead names can be waited for at once.

    @param named: whether the administrator has named a host.
    """
    resolver = Resolver(reactor, pool, named=named)
    resolver.install()
    return resolver
