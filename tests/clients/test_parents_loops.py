"""Caches that are each other's parents, or their own: requests are answered all the same, and at once."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogLevel

from crcache import events
from crcache.grammar.via import entry
from crcache.settings import ParentSettings, UpstreamSettings
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import NAME, blob_path, manifest_path
from tests.clients.http import Answer
from tests.clients.parents_case import HierarchyCase
from tests.web.cases import pause

#: Who waits for himself waits for seconds.
PATIENT = UpstreamSettings(connect_timeout=5.0, first_byte_timeout=16.0, stall_timeout=5.0, retries=2)
#: What is answered within so many has not waited for any of that.
AT_ONCE = 2.5


class LoopTests(HierarchyCase):
    """Real caches, on real ports."""

    def at(self, port: int, *parents: int, **settings: Any) -> Instance:
        """A cache at a port, and those of its parents."""
        return self.instance(
            listen=(f"tcp:{port}:interface=127.0.0.1",),
            parents=tuple(ParentSettings(f"http://127.0.0.1:{parent}") for parent in parents),
            upstream=PATIENT,
            **settings,
        )

    def told(self) -> list[object]:
        """Of which parents it was said that they form a loop."""
        return [each["origin"] for each in self.events if each.get("event") is events.PARENTS_LOOP]

    async def timed(self, *asking: Deferred[Answer]) -> None:
        """These are answered at once, each with what it should be."""
        began = time.monotonic()
        for answer in await gatherResults(asking):
            self.assertEqual((answer.status, answer.complete), (200, True))
        self.assertLess(time.monotonic() - began, AT_ONCE)

    def asking(self, target: str, to: Instance) -> Deferred[Answer]:
        """Ask for it."""
        return Deferred.fromCoroutine(self.ask(target, to=to))

    async def test_itself(self) -> None:
        """A cache that is its own parent asks the origin; that it is so is told of once."""
        port = self.port()
        cache = self.at(port, port)
        for target in self.targets:
            await self.timed(self.asking(target, cache))
        self.assertEqual(self.told(), [f"127.0.0.1:{port}"])
        self.assertEqual(len(self.origin.asked("blob", "GET")), 3)

    async def test_each_other(self) -> None:
        """Two that are each other's parents fetch what neither has once, whomever it is asked of; a parent that says
        that this is a loop is not taken for one that fails."""
        ports = self.port(), self.port()
        one = self.at(ports[0], ports[1])
        other = self.at(ports[1], ports[0])
        for target in self.targets:
            await self.timed(self.asking(target, one))
        for each in (one, other):
            await self.settled(each)
            for target in self.targets:
                self.assertHit(await self.ask(target, to=each))
        self.assertEqual(len(self.origin.asked("blob", "GET")), 3)
        self.assertEqual(self.told(), [f"127.0.0.1:{ports[0]}"])
        self.assertFalse([each for each in self.events if each.get("event") is events.PARENT_FAILING])

    async def test_crossing(self) -> None:
        """Two that are asked for the same at the same time, and so ask each other, do not wait for each other."""
        ports = self.port(), self.port()
        one = self.at(ports[0], ports[1])
        other = self.at(ports[1], ports[0])
        targets = [blob_path(each) for each in self.image.layers]
        for target in (manifest_path("1.0"), manifest_path(self.image.digest), *targets):
            await self.timed(*(self.asking(target, each) for each in (one, other, one, other)))

    async def test_crossing_late(self) -> None:
        """Nor when one of them has waited for the origin already."""
        ports = self.port(), self.port()
        one = self.at(ports[0], ports[1])
        other = self.at(ports[1], ports[0])
        self.origin.fault(Fault(rate=1_000_000), "blob", times=None)
        digest = self.image.layers[0]
        first = self.asking(blob_path(digest), one)
        await pause(0.05)
        await self.timed(first, self.asking(blob_path(digest), other))

    async def test_three_around(self) -> None:
        """Three in a ring fetch what none of them has once."""
        ports = [self.port() for _ in range(3)]
        ring = [self.at(port, ports[(number + 1) % 3]) for number, port in enumerate(ports)]
        for target in self.targets:
            await self.timed(self.asking(target, ring[0]))
        self.assertEqual(len(self.origin.asked("blob", "GET")), 3)

    async def test_refused(self) -> None:
        """A request that has come through this cache, or through too many, is refused with an error that clients go
        elsewhere for; so is one for what it has. One that says something malformed is served."""
        mirror = self.registry(self.origin.content)
        cache = self.below(mirror)
        await self.ask(manifest_path("1.0"), to=cache)
        (_, line) = (mirror.asked("manifest")[0].header("Via") or "").split(" ")
        far = ", ".join(entry(f"crcache-{number:016x}") for number in range(9))
        for via in (entry(line), f"1.0 a, 1.1 {line} (here), HTTP/1.1 b:80", far):
            for target in (
                "/v2/",
                manifest_path("1.0"),
                blob_path(self.image.layers[0]),
                f"/v2/a/b/tags/list?ns={NAME}",
            ):
                answer = await self.ask(target, ("Via", via), to=cache)
                self.assertEqual((answer.status, answer.code), (508, "UNAVAILABLE"), (via, target))
        refused = [each for each in self.events if each.get("event") is events.REQUEST and each["status"] == 508]
        self.assertEqual({each["log_level"] for each in refused}, {LogLevel.info})
        asked = len(mirror.requests)
        near = ", ".join(entry(f"crcache-{number:016x}") for number in range(8))
        for via in (near, f"{line}", f"1.1 {line} 1.1", "1.1 " + "a" * 5000, ", ".join(50 * ["1.1 a"])):
            answer = await self.ask(manifest_path("1.0"), ("Via", via), to=cache)
            self.assertHit(answer)
        self.assertEqual(len(mirror.requests), asked)

    async def test_says_who_it_is(self) -> None:
        """Other caches are told who answers, also with an error; clients, and what is no crcache, are not."""
        cache = self.below()
        await self.named(cache)
        via = "Via", "1.1 crcache-0123456789abcdef"
        for target in ("/v2/", manifest_path("1.0"), manifest_path("none"), blob_path(self.image.layers[0])):
            answer = await self.ask(target, via, to=cache)
            self.assertRegex(answer.one("Via") or "", r"\A1\.1 crcache-[0-9a-f]{16}\Z")
            for headers in ((), (("Via", "1.1 varnish"),)):
                self.assertIsNone((await self.ask(target, *headers, to=cache)).one("Via"))

    async def named(self, cache: Instance) -> None:
        """Wait until it knows by what name it is called, which is a moment after it has begun."""
        for _ in range(200):
            answer = await self.ask("/v2/", ("Via", "1.1 crcache-0123456789abcdef"), to=cache)
            if answer.one("Via") is not None:
                return
            await pause(0.01)

    async def test_one_name(self) -> None:
        """Processes on one cache directory are one cache: what has come through one of them is refused by the other."""
        shared = self.directory()
        mirror = self.registry(self.origin.content)
        one = self.below(mirror, directory=shared)
        other = self.below(mirror, directory=shared)
        await self.ask(manifest_path("1.0"), to=one)
        via = mirror.asked("manifest")[0].header("Via") or ""
        self.assertEqual((await self.ask(manifest_path("1.0"), ("Via", via), to=other)).status, 508)
        self.assertEqual((await self.ask(manifest_path("1.0"), ("Via", via), to=self.below(mirror))).status, 200)
