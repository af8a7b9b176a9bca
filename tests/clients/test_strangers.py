"""What one client does to another: registries that are dead, crowds, and more connections than anybody needs."""

from __future__ import annotations

import socket
import time
from functools import partial
from threading import Event
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint

from crcache.host import descriptors
from crcache.settings import ClientLimits, UpstreamSettings
from crcache.testing.content import noise
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from crcache.upstream import limits, resolver
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer, request, send
from tests.web.cases import reactor

#: Addresses of three clients.
GREEDY, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
DATA = noise(200_000)
#: Seconds that a pull may take, of which it needs but a few hundredths.
PROMPT = 3.0


class StrangersCase(ClientCase):
    """Clients with addresses of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.origin.add_image(REPO, "1.0", [DATA])

    async def begin_from(self, host: str, target: str) -> Answer:
        """Ask from that address."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.cache.port, bindAddress=(host, 0))
        answer = await send(0, request(target), endpoint)
        self.addCleanup(answer.leave)
        return answer

    async def pulls(self, host: str, *targets: str) -> None:
        """That client gets all these, one after another, without a wait."""
        began = time.monotonic()
        for target in targets:
            answer = await (await self.begin_from(host, target)).end()
            self.assertEqual((answer.status, answer.complete), (200, True), target)
        self.assertLess(time.monotonic() - began, PROMPT)

    def of(self, registry: FakeRegistry, name: str) -> tuple[str, ...]:
        """An image of 1.0 in that registry."""
        image = registry.add_image(REPO, "1.0", [DATA])
        return manifest_path("1.0", ns=name), blob_path(image.layers[0], ns=name)


class OriginTests(StrangersCase):
    """Registries that do not answer, or not soon, and clients that want much of them."""

    async def test_dead_registry(self) -> None:
        """Hundreds of asks of a registry that accepts and never answers: another one's pulls are prompt, from the same
        client and from others."""
        dead = self.registry()
        dead.fault(Fault(hold=True), times=None)
        self.cache = self.instance(origins={NAME: self.origin.url, "dead.test": dead.url, "dead2.test": dead.url})
        crowd = []
        for count in range(150):
            crowd.append(await self.begin_from(GREEDY, manifest_path(f"t{count}", ns="dead.test")))
            crowd.append(await self.begin_from(GREEDY, blob_path(self.image.layers[0], f"r/{count}", "dead2.test")))
        await eventually(lambda: len(dead.requests) >= 8)
        targets = manifest_path("1.0"), blob_path(self.image.layers[0])
        await self.pulls(SECOND, *targets)
        await self.pulls(GREEDY, manifest_path("1.0"))
        self.assertLess(len(dead.requests), 2 * (8 + 64) + 1)
        dead.script.clear()
        for each in crowd:
            await each.end()

    async def test_slow_registry(self) -> None:
        """A client that keeps a registry's connections busy for long has another client, which asks the same one, wait
        for none of them; its own further asks have their turn after that."""
        slow = self.registry()
        targets = self.of(slow, "slow.test")
        digests = [slow.content.add_blob("greedy/app", noise(100_000 + count)) for count in range(40)]
        rule = slow.fault(Fault(stall=1000), "blob", path="greedy/", times=None)
        settings = UpstreamSettings(max_connections=16)
        self.cache = self.instance(origins={NAME: self.origin.url, "slow.test": slow.url}, upstream=settings)
        crowd = [await self.begin_from(GREEDY, blob_path(each, "greedy/app", "slow.test")) for each in digests]
        await eventually(lambda: len(slow.asked("blob")) == 14)
        await self.pulls(THIRD, *targets)
        await self.pulls(SECOND, manifest_path("1.0"), blob_path(self.image.layers[0]))
        self.assertEqual(len([each for each in slow.asked("blob") if "greedy/" in each.path]), 14)
        rule.release()
        for each in crowd:
            await each.end()
            self.assertTrue(each.complete)

    async def test_wanted_by_others_too(self) -> None:
        """What waits as the last thing that one client has asked for need not wait for all of that once another client
        wants it as well."""
        slow = self.registry()
        digests = [slow.content.add_blob("greedy/app", noise(100_000 + count)) for count in range(40)]
        rule = slow.fault(Fault(stall=1000), "blob", times=14)
        settings = UpstreamSettings(max_connections=16)
        self.cache = self.instance(origins={NAME: self.origin.url, "slow.test": slow.url}, upstream=settings)
        targets = [blob_path(each, "greedy/app", "slow.test") for each in digests]
        crowd = [await self.begin_from(GREEDY, target) for target in targets]
        await eventually(lambda: len(slow.asked("blob")) == 14)
        await self.metric_becomes(40, "crcache_fills")
        await self.pulls(THIRD, targets[-1])
        rule.release()
        for each in crowd:
            await each.end()
            self.assertTrue(each.complete)

    async def test_manifest_wanted_by_others_too(self) -> None:
        """So it is with manifests."""
        slow = self.registry()
        for count in range(20):
            slow.add_image(REPO, f"t{count}", [noise(1000 + count)])
        rule = slow.fault(Fault(hold=True), "manifest", times=limits.SMALL - 1)
        self.cache = self.instance(origins={NAME: self.origin.url, "slow.test": slow.url})
        targets = [manifest_path(f"t{count}", ns="slow.test") for count in range(20)]
        crowd = [await self.begin_from(GREEDY, target) for target in targets]
        await eventually(lambda: len(slow.asked("manifest")) == limits.SMALL - 1)
        await self.metric_becomes(20, "crcache_requests_in_flight")
        await self.pulls(THIRD, targets[-1])
        rule.release()
        for each in crowd:
            await each.end()
            self.assertTrue(each.complete)

    async def test_full_queue(self) -> None:
        """When too many wait for a registry, a client is told so at once: 503, with the seconds, for blobs and for
        manifests. What waits has its turn."""
        self.patch(limits, "QUEUE", 1)
        self.patch(limits, "SMALL", 1)
        for tag in ("2.0", "3.0"):
            self.origin.add_image(REPO, tag, [noise(1000)])
        digests = [self.origin.content.add_blob(REPO, noise(100_000 + count)) for count in range(3)]
        rules = [
            self.origin.fault(Fault(stall=1000), "blob", times=1),
            self.origin.fault(Fault(hold=True), "manifest", times=1),
        ]
        self.cache = self.instance(upstream=UpstreamSettings(max_connections=1))
        begun = []
        for kind, first, *others in (
            ("blob", *map(blob_path, digests)),
            ("manifest", *map(manifest_path, ("1.0", "2.0", "3.0"))),
        ):
            begun.append(await self.begin_from(GREEDY, first))
            await eventually(partial(self.origin.asked, kind))
            both = [await self.begin_from(GREEDY, target) for target in others]
            await eventually(lambda both=both: any(each.clean is not None for each in both))  # type: ignore[misc]
            for answer in both:
                if answer.clean is None:
                    begun.append(answer)
                else:
                    self.assertEqual((answer.status, answer.code, answer.one("Retry-After")), (503, "UNAVAILABLE", "5"))
        self.assertEqual(len(begun), 4)
        for rule in rules:
            rule.release()
        self.assertEqual([(await each.end()).status for each in begun], [200] * 4)

    async def test_resolver(self) -> None:
        """Names whose servers never answer, by the hundred: a registry that the administrator has named is resolved,
        and pulled from, promptly."""
        never = Event()
        self.addCleanup(never.set)

        def getaddrinfo(name: str, port: int, family: int, kind: int) -> list[Any]:
            if name == "named.test":
                return [(socket.AF_INET, kind, 6, "", ("127.0.0.1", port))]
            never.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        def install(reactor: Any, pool: Any, named: Any) -> resolver.Resolver:
            made = resolver.Resolver(reactor, pool, getaddrinfo, named)
            made.install()
            return made

        self.patch(resolver, "install", install)
        url = self.origin.url.replace("127.0.0.1", "named.test")
        self.cache = self.instance(origins={NAME: url}, upstream=UpstreamSettings(connect_timeout=2.0))
        crowd = [
            await self.begin_from(GREEDY, manifest_path("1.0", ns=f"n{count}.d{count % 20}.test"))
            for count in range(300)
        ]
        await self.pulls(SECOND, manifest_path("1.0"), blob_path(self.image.layers[0]))
        await self.pulls(GREEDY, manifest_path("1.0"))
        never.set()
        for each in crowd:
            await each.end()


class ListenerTests(StrangersCase):
    """How much a client may have of the listeners."""

    async def test_connections(self) -> None:
        """A client has so many connections, another one has its own; operators see it, whose own listener clients
        cannot starve."""
        self.cache = self.instance(limits=ClientLimits(connections=6, connections_per_peer=4))
        held = [await self.hold(GREEDY) for _ in range(4)]
        self.assertEqual((await (await self.begin_from(GREEDY, "/v2/")).end()).raw, b"")
        await self.pulls(SECOND, manifest_path("1.0"))
        held += [await self.hold(SECOND) for _ in range(2)]
        self.assertEqual((await (await self.begin_from(THIRD, "/v2/")).end()).raw, b"")
        for reason, expected in (("connections-per-peer", 1), ("connections", 1)):
            self.assertEqual(await self.metric("crcache_refused_connections_total", reason=reason), expected)
        self.assertEqual(await self.metric("crcache_connections"), 6)
        for each in held:
            each.leave()
        await self.metric_becomes(0, "crcache_connections")
        await self.pulls(THIRD, manifest_path("1.0"))

    async def test_descriptors(self) -> None:
        """However many connections are allowed, half of the descriptors are left to files and origins."""
        self.patch(descriptors, "allowed", lambda: 10)
        self.cache = self.instance()
        held = [await self.hold(GREEDY) for _ in range(5)]
        self.assertEqual((await (await self.begin_from(SECOND, "/v2/")).end()).raw, b"")
        held[0].leave()
        await self.metric_becomes(4, "crcache_connections")
        await self.pulls(SECOND, manifest_path("1.0"))

    async def test_operators(self) -> None:
        """A stranger at the admin listener takes nothing from clients, and leaves room for no more than some."""
        held = [await send(self.cache.admin_port, b"GET /healthz HT") for _ in range(64)]
        for each in held:
            self.addCleanup(each.leave)
        answer = await (await send(self.cache.admin_port, request("/healthz"))).end()
        self.assertEqual(answer.raw, b"")
        await self.pulls(SECOND, manifest_path("1.0"))

    async def test_requests(self) -> None:
        """A client has so many requests at once: one more is told 503, and goes to the registry itself."""
        rule = self.origin.fault(Fault(hold=True), "manifest", path="held", times=None)
        self.cache = self.instance(limits=ClientLimits(requests_per_peer=3))
        held = [await self.begin_from(GREEDY, manifest_path(f"held{count}")) for count in range(3)]
        await eventually(lambda: len(self.origin.asked("manifest")) == 3)
        answer = await (await self.begin_from(GREEDY, manifest_path("1.0"))).end()
        self.assertEqual((answer.status, answer.code, answer.one("Retry-After")), (503, "UNAVAILABLE", "1"))
        await self.pulls(SECOND, manifest_path("1.0"))
        rule.release()
        for each in held:
            await each.end()
        await self.pulls(GREEDY, manifest_path("1.0"))

    async def hold(self, host: str) -> Answer:
        """A connection that does nothing, but has been taken."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.cache.port, bindAddress=(host, 0))
        answer = await send(0, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", endpoint)
        self.addCleanup(answer.leave)
        await answer.until(2)
        return answer
