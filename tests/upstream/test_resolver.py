"""Names of hosts are looked up apart from everything else, and once for all who wait."""

from __future__ import annotations

import socket
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crcache.upstream.lanes import PER_DOMAIN, QUEUE, STALE, domain_of
from crcache.upstream.resolver import KNOWN, NEGATIVE, UNKNOWN, Resolver, install
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
    @ivar problem: what it answers to everything, if it is not well.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.problem: int | None = None
        self.go = Event()
        self.go.set()

    def __call__(self, name: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        self.calls.append((name, port, family, kind))
        self.go.wait(5)
        return self.answer(name, port, kind)

    def answer(self, name: str, port: int, kind: int) -> list[tuple[Any, ...]]:
        if self.problem is not None:
            raise socket.gaierror(self.problem, "Temporary failure in name resolution")
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
            seconds = reactor.seconds

            def installNameResolver(self, resolver: Any) -> None:
                self.installed = resolver

        fake = Reactor()
        resolver = install(fake, self.pool)
        self.assertIs(fake.installed, resolver)


class Dead(Names):
    """A system's resolver for which the names of some domains are never answered, until all is over."""

    def __init__(self, *domains: str) -> None:
        super().__init__()
        self.dead = domains
        self.go.clear()

    def __call__(self, name: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        if name.endswith(self.dead):
            return super().__call__(name, port, family, kind)
        self.calls.append((name, port, family, kind))
        return self.answer(name, port, kind)

    def asked(self) -> list[str]:
        """The names in the order of their look-ups."""
        return [call[0] for call in self.calls]


class Strangers(AsyncTestCase):
    """Clients name hosts whose name servers do not answer, by the hundred."""

    def setUp(self) -> None:
        self.names = Dead(".evil.test", ".worse.test", ".worst.test")
        self.pool = ThreadPool(0, 8, "names")
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.names.go.set)
        self.clock = Clock()
        self.resolver = Resolver(
            reactor, self.pool, self.names, lambda name: name.startswith("named."), self.clock.seconds
        )

    def resolve(self, name: str, port: int = 443) -> Receiver:
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, name, port)
        return receiver

    async def are_asked(self, count: int) -> None:
        """So many names that are not answered are looked up, and no more."""

        def dead() -> int:
            return len([each for each in self.names.asked() if each.endswith(self.names.dead)])

        await eventually(lambda: dead() >= count)
        self.assertEqual(dead(), count)

    async def test_one_domain(self) -> None:
        """The names of one domain have so many threads, and a name of any other is looked up at once."""
        dead = [self.resolve(f"{count}.evil.test") for count in range(200)]
        await self.resolve("first.well.test").done
        await self.resolve("second.well.test").done
        await self.are_asked(PER_DOMAIN)
        self.assertNoResult(dead[-1].done)

    async def test_many_domains(self) -> None:
        """Those of many domains have more, but neither a name that had addresses before nor one that the administrator
        has named waits for them."""
        await self.resolve("known.well.test").done
        for count in range(50):
            for domain in ("evil", "worse", "worst"):
                self.resolve(f"{count}.{domain}.test")
        await self.resolve("known.well.test").done
        await self.resolve("named.evil.org").done
        await self.are_asked(UNKNOWN)

    async def test_known_that_dies(self) -> None:
        """Nor does one that the administrator has named wait for names that had addresses before."""
        self.names.go.set()
        names = [f"{count}.{domain}.test" for count in range(4) for domain in ("evil", "worse", "worst")]
        await gatherResults([self.resolve(name).done for name in names])
        self.names.go.clear()
        self.names.calls.clear()
        for name in names:
            self.resolve(name)
        for count in range(50):
            for domain in ("evil", "worse", "worst"):
                self.resolve(f"new{count}.{domain}.test")
        await self.resolve("named.well.test").done
        await self.are_asked(KNOWN + UNKNOWN)

    async def test_turns(self) -> None:
        """When a thread is free, each domain has its turn."""
        self.names.dead = (".evil.test", "second.worse.test")
        for name in ("a.evil.test", "b.evil.test", "c.evil.test", "second.worse.test", "last.worse.test"):
            self.resolve(name)
        await self.resolve("x.well.test").done
        await eventually(lambda: "last.worse.test" in self.names.asked())
        self.assertNotIn("c.evil.test", self.names.asked())

    def test_bounded(self) -> None:
        """So many may wait; beyond that the last of the domain with the most has no addresses, at once."""
        crowd = [self.resolve(f"{count}.evil.test") for count in range(QUEUE + PER_DOMAIN)]
        late = self.resolve("late.evil.test")
        self.assertEqual(self.successResultOf(late.done), [])
        other = self.resolve("x.worse.test")
        self.assertEqual([each for each in crowd if each.done.called], [])
        more = [self.resolve(f"{count}.worse.test") for count in range(8)]
        self.assertEqual([each for each in crowd if each.done.called], crowd[-7:])
        for each in (other, *more):
            self.assertNoResult(each.done)

    async def test_nobody_waits_any_more(self) -> None:
        """What has waited for too long is not looked up at all."""
        waiting = [self.resolve(f"{count}.evil.test") for count in range(PER_DOMAIN + 1)]
        self.clock.advance(STALE + 1)
        self.names.go.set()
        *found, last = await gatherResults([each.done for each in waiting])
        self.assertEqual(([len(each) for each in found], last), ([2] * PER_DOMAIN, []))
        self.assertEqual(len(self.names.calls), PER_DOMAIN)

    async def test_negative(self) -> None:
        """That a name has no addresses is remembered for some seconds."""
        for expected in (1, 1, 2):
            self.assertEqual(await self.resolve("unknown.example.com").done, [])
            self.assertEqual(len(self.names.calls), expected)
            self.clock.advance(NEGATIVE / 2)

    async def test_nobody_can_tell(self) -> None:
        """Where that cannot be found out just now, it is only of names that nobody knows: of one that had addresses
        before, or that the administrator has named, the next question may find out."""
        await self.resolve("known.well.test").done
        self.names.calls.clear()
        self.names.problem = socket.EAI_AGAIN
        for name, count in (("known.well.test", 3), ("named.well.test", 3), ("new.well.test", 1)):
            for _ in range(3):
                self.assertEqual(await self.resolve(name).done, [])
            self.assertEqual(self.names.asked().count(name), count)
        self.names.problem = None
        self.assertEqual(len(await self.resolve("known.well.test").done), 2)

    def test_retired(self) -> None:
        """When it all ends nobody waits for ever."""

        class Reactor:
            nameResolver = None

            def __getattr__(self, name: str) -> Any:
                return getattr(reactor, name)

        self.resolver = Resolver(Reactor(), self.pool, self.names)
        waiting = [self.resolve(f"{count}.evil.test") for count in range(PER_DOMAIN + 3)]
        self.resolver.retire()
        for each in waiting[PER_DOMAIN:]:
            self.assertEqual(self.successResultOf(each.done), [])

    def test_domains(self) -> None:
        """What is a domain: two labels, however they are written."""
        for name, expected in (("a.b.Example.COM.", "example.com"), ("example.com", "example.com"), ("x", "x")):
            self.assertEqual(domain_of(name), expected)
