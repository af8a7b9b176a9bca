"""An internet in which names mean what a test says, and public addresses lead to listeners of this host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from zope.interface import implementer

#: One that is public, of nobody whom the tests could disturb: nothing is ever sent there.
PUBLIC = "44.0.0.1"
ANOTHER = "44.0.0.2"


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """It is over already."""


@implementer(IReactorPluggableNameResolver, IHostnameResolver, IReactorTCP, IReactorTime)
class Internet:
    """The reactor, but for names and outgoing connections.

    @ivar names: what each name means the first time, the second, and so on; the last stays.
    @ivar places: the port of this host where what is at a public address and port listens; 127.0.0.0/8 is itself.
    @ivar resolved: the names that were asked for, in order.
    @ivar dialled: the addresses and ports that somebody has begun to connect to, in order.
    """

    def __init__(self, world: Any = reactor) -> None:
        self._world = world
        self.names: dict[str, list[Sequence[str]]] = {}
        self.places: dict[tuple[str, int], int] = {}
        self.resolved: list[str] = []
        self.dialled: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def put(self, name: str, port: int, *addresses: str, at: int = 443) -> None:
        """There is a host of that name, at the public ones of these addresses, whose port C{at} is a port here."""
        self.names[name] = [addresses or (PUBLIC,)]
        for address in addresses or (PUBLIC,):
            self.places[address, at] = port

    @property
    def nameResolver(self) -> Internet:
        return self

    def installNameResolver(self, resolver: Any) -> Internet:
        """Nobody may replace this one."""
        return self

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        resolution = _Resolution(hostName)
        self.resolved.append(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        answers = self.names.get(hostName.rstrip("."), [(hostName,) if hostName.startswith("127.") else ()])
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> Any:
        self.dialled.append((host, port))
        place = self.places.get((host, port))
        if place is not None:
            host, port = "127.0.0.1", place
        elif not host.startswith("127."):
            # Where nobody listens: no packet of a test leaves this host.
            host, port = "127.0.0.1", 1
        return self._world.connectTCP(host, port, factory, timeout, bindAddress)
