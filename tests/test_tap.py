"""Tests for L{crcache.tap}: the whole daemon, from its options to its last thread."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionRefusedError
from zope.interface.verify import verifyObject

from crcache import tap
from crcache.settings import Config
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import request, send
from tests.web.cases import pause, reactor

PLAIN = "tcp:0:interface=127.0.0.1"
DATA = noise(3 << 20)


def descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{each} {os.readlink(f'/proc/self/fd/{each}')}")
        except FileNotFoundError:
            continue
    return found


def threads() -> set[str]:
    """Threads of crcache's own."""
    return {thread.name for thread in threading.enumerate() if "crcache" in thread.name}


class BuildTests(ClientCase):
    """L{tap.makeService} and L{tap.build}."""

    def options(self, *flags: str) -> tap.Options:
        """Options as twistd parses them."""
        options = tap.Options({}, reactor, Path("/nonexistent/crcache.yaml"))
        options.parseOptions(["--port", "0", "--admin", "off", *flags])
        return options

    def test_service(self) -> None:
        """What twistd gets is a service, under a name."""
        directory = self.directory() / "cache"
        service = tap.makeService(self.options("--cache-dir", str(directory)))
        verifyObject(IService, service)
        self.assertEqual(service.name, "crcache")

    def test_nothing_opened(self) -> None:
        """Nothing is opened or written, and no thread started, before the service is: twistd forks in between."""
        directory = self.directory() / "cache"
        before = descriptors(), threads(), len(reactor.getDelayedCalls())
        service = tap.build(Config(directory, listen=(PLAIN,), admin=PLAIN), reactor)
        self.assertEqual((descriptors(), threads(), len(reactor.getDelayedCalls())), before)
        self.assertFalse(directory.exists())
        self.assertEqual(service.ports, ())

    async def test_warnings(self) -> None:
        """What the configuration gives reason to warn of is logged at the start."""
        config = Config(self.directory(), listen=(PLAIN,), admin=None)
        service = tap.build(config, reactor, warnings=("x.yaml: anyone can read the passwords",), environ={})
        resolver = reactor.nameResolver
        service.privilegedStartService()
        service.startService()
        reactor.installNameResolver(resolver)
        await service.stopService()
        self.assertIn("x.yaml: anyone can read the passwords", [event.get("line") for event in self.events])

    async def test_no_admin(self) -> None:
        """C{admin: off} opens no second port."""
        self.cache = self.instance(admin=None)
        self.assertEqual(len(self.cache.service.ports), 1)
        self.assertEqual((await self.ask("/v2/")).status, 200)
        self.assertEqual((await self.ask("/metrics")).status, 404)

    async def test_name_resolver(self) -> None:
        """Names are looked up in threads of crcache's own, not in the reactor's."""
        self.cache = self.instance(origins={"registry.test": self.origin.url.replace("127.0.0.1", "localhost")})
        image = self.origin.add_image(REPO, "1.0")
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)
        self.assertTrue(any("crcache-names" in name for name in threads()), threads())


class RefusalTests(ClientCase):
    """What keeps it from starting: one line, and exit status 1."""

    def line(self, directory: Path | None = None, **settings: Any) -> str:
        """The line that starting ends with."""
        with self.assertRaises(SystemExit) as caught:
            self.instance(directory, admin=None, **settings)
        line = caught.exception.code
        assert isinstance(line, str)
        self.assertEqual(len(line.splitlines()), 1)
        return line

    async def test_taken_port(self) -> None:
        """A port that another process has."""
        self.assertEqual(
            self.line(listen=(f"tcp:{self.cache.port}:interface=127.0.0.1",)),
            f"crcache: tcp:{self.cache.port}:interface=127.0.0.1: cannot listen: Address already in use",
        )

    async def test_unusable_directory(self) -> None:
        """A cache directory that cannot be made, or written; its ports are closed with the process."""
        file = self.directory() / "file"
        file.touch()
        for directory, why in ((file / "cache", "Not a directory"), (file, "Not a directory"), (Path("/proc/x"), "")):
            await self.refused(directory, why)

    async def refused(self, directory: Path, why: str) -> None:
        """Starting with this cache directory ends with a line that names it."""
        service = tap.build(Config(directory, listen=(PLAIN,), admin=None), reactor, environ={})
        service.privilegedStartService()
        with self.assertRaises(SystemExit) as caught:
            service.startService()
        line = str(caught.exception.code)
        self.assertEqual(len(line.splitlines()), 1)
        self.assertTrue(line.startswith(f"crcache: cache directory {directory}: "), line)
        self.assertIn(why, line)
        await service.stopService()

    async def test_another_layout(self) -> None:
        """A directory of another release's is left as it is."""
        directory = self.directory()
        (directory / "VERSION").write_text("99\n")
        await self.refused(directory, "99")
        self.assertEqual([path.name for path in directory.iterdir()], ["VERSION"])


class StopTests(ClientCase):
    """C{stopService}."""

    async def test_lets_go(self) -> None:
        """When it has stopped there is no thread, no descriptor, no timer and no port of its left, whatever it did."""
        image = self.origin.add_image(REPO, "1.0")
        digest = self.origin.content.add_blob(REPO, DATA)
        held = self.origin.content.add_blob(REPO, DATA[::-1])
        reactor.callLater(0, lambda: None)
        await pause(0.01)
        before = threads(), len(reactor.getDelayedCalls())
        gc.collect()
        listening = descriptors()
        cache = self.instance()
        self.cache = cache
        for target in (manifest_path("1.0"), blob_path(image.layers[0]), blob_path(digest)):
            await self.ask(target)
        stall = self.origin.fault(Fault(stall=1 << 20), "blob", times=None)
        filling = await self.begin(blob_path(held))
        await filling.until(1 << 19)
        waiting = self.origin.fault(Fault(hold=True), "manifest", times=None)
        asking = await self.begin(manifest_path("2.0"))
        await eventually(lambda: waiting.used)
        self.assertTrue(threads())
        await cache.stop()
        await filling.end()
        await asking.end()
        self.assertIs(filling.clean, False)
        self.assertIn(asking.status, (502, 503))
        stall.release()
        waiting.release()
        await eventually(lambda: not self.origin.listener or not self.origin.listener.connections)
        await pause(0.05)
        # A fill's files are closed when nobody holds them, and some are held by a cycle.
        gc.collect()
        self.assertEqual((threads(), len(reactor.getDelayedCalls())), before)
        self.assertLessEqual(descriptors(), listening)

    async def test_twice(self) -> None:
        """It can be started again after it has stopped, on the same directory."""
        digest = self.origin.content.add_blob(REPO, DATA)
        for _ in range(3):
            self.assertTrue((await self.ask(blob_path(digest))).body == DATA)
            await self.cache.stop()
            self.cache.start()
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)

    async def test_refuses_meanwhile(self) -> None:
        """From the moment it is told to stop no new client gets in."""
        digest = self.origin.content.add_blob(REPO, DATA)
        self.origin.fault(Fault(stall=1 << 20), "blob")
        filling = await self.begin(blob_path(digest))
        await filling.until(1)
        port = self.cache.port
        stopped = self.cache.stop()
        with self.assertRaises(ConnectionRefusedError):
            await send(port, request("/v2/"))
        await stopped
        await filling.end()

    async def test_unix_socket(self) -> None:
        """The file of a UNIX socket is gone with it."""
        path = Path(self.mktemp()).name
        self.cache = self.instance(listen=(f"unix:{path}",))
        self.assertEqual(self.cache.service.ports[0].getHost(), UNIXAddress(path.encode()))
        self.assertTrue(Path(path).exists())
        await self.cache.stop()
        self.assertFalse(Path(path).exists())
