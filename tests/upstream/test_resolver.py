"""Names of hosts are looked up apart from everything else, and once for all who wait."""

from __future__ import annotations

import socket
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crcache.upstream.resolver import Resolver, install
from tests.upstream.harness import AsyncTestCase, eventually


@implementer(IResolutionReceiver)
class Receiver:
    """Collects addresses."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.resolution: Any = None
        self.done: Deferred[list[Any]] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        self.resolution = resolution

    def addressResolved(self, address: Any) -> None:
        assert self.resolution is not None
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.done.callback(self.addresses)


class Names:
    """A system's resolver that answers when it is told to.

    @ivar calls: what it was asked.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.go = Event()
        self.go.set()

    def __call__(self, name: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        self.calls.append((name, port, family, kind))
        self.go.wait(5)
        if name == "unknown.example.com":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, kind, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, kind, 6, "", ("192.0.2.1", port)),
            (socket.AF_UNIX, kind, 0, "", "elsewhere"),
        ]


class Resolving(AsyncTestCase):
    """A resolver with a pool of its own."""

    def setUp(self) -> None:
        self.names = Names()
        self.pool = ThreadPool(0, 4, "names")
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.names.go.set)
        self.resolver = Resolver(reactor, self.pool, self.names)

    def resolve(self, name: str, port: int = 443, **further: Any) -> Receiver:
        receiver = Receiver()
        resolution = self.resolver.resolveHostName(receiver, name, port, **further)
        verifyObject(IHostResolution, resolution)
        self.assertIs(receiver.resolution, resolution)
        return receiver

    async def test_addresses(self) -> None:
        """All addresses arrive, in the system's order."""
        verifyObject(IHostnameResolver, self.resolver)
        self.assertEqual(
            await self.resolve("a.example.com").done,
            [IPv6Address("TCP", "2001:db8::1", 443), IPv4Address("TCP", "192.0.2.1", 443)],
        )
        self.assertEqual(self.names.calls, [("a.example.com", 443, socket.AF_UNSPEC, socket.SOCK_STREAM)])

    async def test_kinds(self) -> None:
        """One family, or datagrams, may be asked for."""
        await self.resolve("a.example.com", addressTypes=[IPv4Address], transportSemantics="UDP").done
        await self.resolve("a.example.com", addressTypes=[IPv6Address]).done
        families = [(family, kind) for _, _, family, kind in self.names.calls]
        self.assertEqual(families, [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM)])

    async def test_unknown(self) -> None:
        """An unknown name has no addresses."""
        self.assertEqual(await self.resolve("unknown.example.com").done, [])

    def test_literals(self) -> None:
        """An address needs no look-up."""
        for text, address in [
            ("192.0.2.7", IPv4Address("TCP", "192.0.2.7", 443)),
            ("::1", IPv6Address("TCP", "::1", 443)),
        ]:
            self.assertEqual(self.successResultOf(self.resolve(text).done), [address])
        self.assertEqual(self.successResultOf(self.resolve("::1", addressTypes=[IPv4Address]).done), [])
        self.assertEqual(self.names.calls, [])

    async def test_once(self) -> None:
        """However many wait for a name it is looked up once; afterwards anew."""
        self.names.go.clear()
        receivers = [self.resolve("a.example.com") for _ in range(50)]
        other = self.resolve("b.example.com")
        await eventually(lambda: len(self.names.calls) == 2)
        self.names.go.set()
        results = await gatherResults([receiver.done for receiver in receivers])
        self.assertEqual({len(result) for result in results}, {2})
        await other.done
        self.assertEqual(len(self.names.calls), 2)
        await self.resolve("a.example.com").done
        self.assertEqual(len(self.names.calls), 3)

    async def test_cancelled(self) -> None:
        """Who has cancelled hears nothing more; the others do."""
        self.names.go.clear()
        leaving, staying = self.resolve("a.example.com"), self.resolve("a.example.com")
        leaving.resolution.cancel()
        self.names.go.set()
        await staying.done
        self.assertNoResult(leaving.done)
        self.assertEqual(leaving.addresses, [])

    def test_install(self) -> None:
        """It takes the place of the reactor's own resolver."""

        class Reactor:
            installed: Any = None

            def installNameResolver(self, resolver: Any) -> None:
                self.installed = resolver

        fake = Reactor()
        resolver = install(fake, self.pool)
        self.assertIs(fake.installed, resolver)
