"""Tests for L{crcache.tap}: reloads, drains and systemd's sockets, on a whole daemon."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from crcache.config import Loaded
from crcache.errors import ConfigError
from crcache.grammar.reference import Registry
from crcache.host.sockets import Handed
from crcache.settings import ClientLimits, Config, RegistrySettings, UpstreamSettings
from crcache.tap import build
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import request, send
from tests.web.cases import reactor

DATA = noise(3 << 20)
LOOPBACK = "tcp:0:interface=127.0.0.1"


class LiveCase(ClientCase):
    """A daemon that is built with more than its configuration."""

    def live(self, load: Callable[[], Loaded] | None = None, **settings: Any) -> Instance:
        """It runs, and reads its configuration again with C{load}."""
        handed = settings.pop("handed", ())
        made = Instance(
            partial(build, load=load, handed=handed), reactor, self.directory(), {NAME: self.origin.url}, **settings
        )
        made.start()
        self.addCleanup(made.stop)
        self.cache = made
        return made

    def lines(self) -> list[str]:
        """What has been logged."""
        return [formatEvent(event) for event in self.events]


class ReloadTests(LiveCase):
    """C{SIGHUP}."""

    def elsewhere(self, url: str, **changes: Any) -> Loaded:
        """The configuration, but with the registry at another URL."""
        config: Config = self.cache.config
        registry = Registry.parse(NAME)
        return Loaded(replace(config, registries={registry: RegistrySettings(registry, (url,))}, **changes), None)

    async def test_another_origin(self) -> None:
        """Questions go to where the new configuration says; a fill that runs goes on, and ends right."""
        other = self.registry()
        image = other.add_image(REPO, "1.0")
        digest = self.origin.content.add_blob(REPO, DATA)
        stall = self.origin.fault(Fault(stall=1 << 20), "blob")
        self.live(lambda: self.elsewhere(other.url))
        filling = await self.begin(blob_path(digest))
        await filling.until(1 << 19)
        await self.cache.service.reload()
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)
        self.assertEqual(self.origin.asked("manifest", "GET"), [])
        stall.release()
        await filling.end()
        self.assertTrue(filling.body == DATA)
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)
        self.assertIn("the configuration was read again, and is in force", self.lines())

    async def test_broken_off_meanwhile(self) -> None:
        """A fill whose origin breaks off after a reload is resumed where, and as often as, the new one says."""
        other = self.registry()
        digest = self.origin.content.add_blob(REPO, DATA)
        other.content.add_blob(REPO, DATA)
        self.origin.fault(Fault(stall=1 << 20), "blob")
        self.live(lambda: self.elsewhere(other.url, upstream=UpstreamSettings(retries=3)),
                  upstream=UpstreamSettings(retries=0, stall_timeout=1.5))  # fmt: skip
        filling = await self.begin(blob_path(digest))
        await filling.until(1 << 19)
        await self.cache.service.reload()
        await filling.end()
        self.assertTrue(filling.body == DATA)
        self.assertEqual(len(other.asked("blob", "GET")), 1)

    async def test_mistake(self) -> None:
        """A mistake is one line with file, line and key; everything stays as it was."""
        image = self.origin.add_image(REPO, "1.0")

        def load() -> Loaded:
            raise ConfigError("/etc/crcache/crcache.yaml:7: upstream.retries: must be a whole number, 0 or more")

        self.live(load)
        await self.cache.service.reload()
        self.assertIn(
            "/etc/crcache/crcache.yaml:7: upstream.retries: must be a whole number, 0 or more;"
            " what was in force before stays in force",
            self.lines(),
        )
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)

    async def test_named_registries(self) -> None:
        """Metrics, the status and a docker client's default registry follow."""
        other = self.registry()
        other.add_image(REPO, "1.0")
        registry = Registry.parse("other.test")
        self.live(
            lambda: Loaded(
                replace(
                    self.cache.config,
                    registries={registry: RegistrySettings(registry, (other.url,))},
                    default_registry=registry,
                ),
                None,
            )
        )
        await self.cache.service.reload()
        docker = ("User-Agent", "docker/24.0.7")
        self.assertEqual((await self.ask(f"/v2/{REPO}/manifests/1.0", docker)).status, 200)
        self.assertEqual(await self.metric("crcache_requests_total", registry="other.test"), 1)
        self.assertEqual(json.loads((await self.admin("/api/status")).body)["registries"], ["other.test"])

    async def test_rules(self) -> None:
        """What is cached, and for how long, is as the new configuration says."""
        self.origin.add_image(REPO, "1.0")
        self.live(lambda: self.elsewhere(self.origin.url, cache_manifests=False))
        for expected in (1, 1):
            await self.ask(manifest_path("1.0"))
            self.assertEqual(len(self.origin.asked("manifest")), expected)
        await self.cache.service.reload()
        for expected in (2, 3):
            self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
            self.assertEqual(len(self.origin.asked("manifest")), expected)

    async def test_limits(self) -> None:
        """Limits of clients are those of the new configuration, at once."""
        self.live(
            lambda: self.elsewhere(self.origin.url, limits=ClientLimits(connections_per_peer=2)),
            limits=ClientLimits(connections_per_peer=1),
        )
        open_ended = request("/v2/").replace(b"Connection: close\r\n", b"")
        for expected in (1, 2):
            held = await send(self.cache.port, open_ended)
            self.addCleanup(held.leave)
            await held.until(2)
            self.assertEqual((await self.ask("/v2/")).raw, b"")
            self.assertEqual(await self.metric("crcache_connections"), expected)
            await self.cache.service.reload()

    async def test_what_stays(self) -> None:
        """What only a restart can change is said so, each thing by its key."""
        self.live(lambda: self.elsewhere(self.origin.url, cache_directory=self.directory(), listen=("tcp:1",)))
        await self.cache.service.reload()
        self.assertEqual(
            [line for line in self.lines() if "needs a restart" in line],
            ["cache.directory has changed, which needs a restart", "listen has changed, which needs a restart"],
        )

    async def test_while_waiting(self) -> None:
        """A reload before the cache directory is there makes nobody ready, and is in force once it is."""
        image = self.origin.add_image(REPO, "1.0")
        parent = self.directory() / "mount"
        made = Instance(
            partial(build, load=lambda: self.elsewhere(self.origin.url)),
            reactor,
            parent / "cache",
            {NAME: "http://127.0.0.1:9"},
        )
        made.start()
        self.addCleanup(made.stop)
        self.cache = made
        await self.cache.service.reload()
        refused = await self.ask(manifest_path("1.0"))
        self.assertEqual(refused.status, 503)
        self.assertIn(f"{parent} is not there", refused.body.decode())
        self.assertIn("is not there", json.loads((await self.admin("/readyz")).body)["reasons"][0])
        parent.mkdir()
        await eventually(lambda: self.cache.service.waiting is None)
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)
        self.assertEqual((await self.admin("/readyz")).status, 200)


class DrainTests(LiveCase):
    """C{stopService}, with time to end."""

    async def test_finishes(self) -> None:
        """What is being sent is sent to its end; meanwhile nobody new gets in, and operators see why."""
        digest = self.origin.content.add_blob(REPO, DATA)
        stall = self.origin.fault(Fault(stall=1 << 20), "blob")
        self.live(drain_timeout=10.0)
        filling = await self.begin(blob_path(digest))
        await filling.until(1 << 19)
        admin = self.cache.admin_port
        stopped: Deferred[None] = self.cache.stop()
        ready = await (await send(admin, request("/readyz"))).end()
        self.assertEqual((ready.status, json.loads(ready.body)["reasons"]), (503, ["draining"]))
        stall.release()
        await filling.end()
        self.assertTrue(filling.body == DATA)
        await stopped

    async def test_no_longer_than_that(self) -> None:
        """What does not end in time is broken off, and its fill can be resumed."""
        digest = self.origin.content.add_blob(REPO, DATA)
        self.origin.fault(Fault(stall=2 << 20), "blob")
        self.live(drain_timeout=0.3)
        filling = await self.begin(blob_path(digest))
        await filling.until(1 << 20)
        await self.cache.stop()
        await filling.end()
        self.assertFalse(filling.complete)
        self.cache.start()
        self.assertTrue((await self.ask(blob_path(digest))).body == DATA)
        self.assertTrue(self.origin.asked("blob", "GET")[-1].headers.hasHeader("Range"))


class HandedTests(LiveCase):
    """Sockets that systemd has opened."""

    def handed(self) -> tuple[int, Handed]:
        """The port of one, and what the daemon is told of it."""
        opened = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(opened.close)
        return opened.getsockname()[1], Handed(os.dup(opened.fileno()), socket.AF_INET, "crcache")

    async def test_instead(self) -> None:
        """If nothing says where to listen, they are all that is listened on, with the admin listener."""
        port, handed = self.handed()
        self.live(handed=[handed], handed_over="instead", listen=("tcp:3000",))
        self.assertEqual([each.getHost().port for each in self.cache.service.ports], [port, self.cache.admin_port])
        self.assertEqual((await self.ask("/v2/")).status, 200)

    async def test_beside(self) -> None:
        """If the file says where, they are listened on as well."""
        port, handed = self.handed()
        self.live(handed=[handed], handed_over="beside")
        ports = [each.getHost().port for each in self.cache.service.ports]
        self.assertEqual((ports[0], len(ports)), (port, 3))
        for each in ports[:2]:
            self.assertEqual((await (await send(each, request("/v2/"))).end()).status, 200)

    async def test_the_same(self) -> None:
        """C{tcp:PORT} in the file, and systemd's socket on that port, are one and the same."""
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as opened:
            port = opened.getsockname()[1]
            handed = Handed(os.dup(opened.fileno()), socket.AF_INET6, "crcache", port)
            self.live(handed=[handed], handed_over="beside", listen=(f"tcp:{port}",))
            self.assertEqual((await (await send(port, request("/v2/"))).end()).status, 200)
            self.assertEqual(len(self.cache.service.ports), 2)

    async def test_not(self) -> None:
        """If flags say where, they are not, which is warned of."""
        _, handed = self.handed()
        self.addCleanup(os.close, handed.fd)
        self.live(handed=[handed], handed_over="no")
        self.assertEqual(len(self.cache.service.ports), 2)
        self.assertTrue([line for line in self.lines() if "sockets that systemd opened are not served" in line])
