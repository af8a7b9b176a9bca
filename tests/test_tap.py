"""Tests for L{crcache.tap}: the whole daemon, from its options to its last thread."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crcache import tap
from crcache.ending import CannotStart, tell_why
from crcache.grammar.digest import Digest
from crcache.settings import Config
from crcache.store import contents, fileingest, files, ingest
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import request, send
from tests.web.cases import pause, reactor

PLAIN = "tcp:0:interface=127.0.0.1"
DATA = noise(3 << 20)


@implementer(IResolutionReceiver)
class Addresses:
    """What a name is resolved to."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """As L{IResolutionReceiver}."""

    def addressResolved(self, address: Any) -> None:
        """As L{IResolutionReceiver}."""
        self.found.append(address.host)

    def resolutionComplete(self) -> None:
        """As L{IResolutionReceiver}."""
        self.done.callback(self.found)


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
        self.patch(sys, "excepthook", sys.excepthook)
        directory = self.directory() / "cache"
        service = tap.makeService(self.options("--cache-dir", str(directory)))
        verifyObject(IService, service)
        self.assertEqual(service.name, "crcache")
        self.assertIs(sys.excepthook, tell_why)

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
        service.privilegedStartService()
        service.startService()
        await service.stopService()
        self.assertIn("x.yaml: anyone can read the passwords", [event.get("line") for event in self.events])

    def test_proxy_of_the_environment(self) -> None:
        """A proxy in the environment that is none keeps the daemon from starting, with one line that names it."""
        environ = {**os.environ, "HTTPS_PROXY": "socks5://127.0.0.1:1"}
        self.patch(tap.build, "__kwdefaults__", {**(tap.build.__kwdefaults__ or {}), "environ": environ})
        self.patch(sys, "excepthook", sys.excepthook)
        options = self.options("--cache-dir", str(self.directory()))
        problem = self.assertRaises(CannotStart, tap.makeService, options)
        self.assertIn("HTTPS_PROXY", str(problem))

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

    async def test_name_resolver_given_back(self) -> None:
        """Once it has stopped, names are looked up as before, by whoever still holds its resolver too."""
        before = reactor.nameResolver
        first = tap.build(Config(self.directory(), listen=(PLAIN,), admin=None), reactor, environ={})
        second = tap.build(Config(self.directory(), listen=(PLAIN,), admin=None), reactor, environ={})
        for service in (first, second):
            service.privilegedStartService()
            service.startService()
        held = reactor.nameResolver
        for service in (first, second):
            await service.stopService()
        for resolver in (held, reactor.nameResolver):
            receiver = Addresses()
            resolver.resolveHostName(receiver, "localhost")
            self.assertIn("127.0.0.1", await receiver.done)
        reactor.installNameResolver(before)

    async def test_syncing(self) -> None:
        """What waits for the disk has threads of its own, so that look-ups do not wait with it."""
        seen: set[str] = set()

        class Noting:
            def __getattr__(self, name: str) -> Any:
                if name in ("fdatasync", "fsync"):
                    seen.add(threading.current_thread().name.rsplit("-", 1)[0])
                return getattr(os, name)

        image = self.origin.add_image(REPO, "1.0")
        # Starting syncs as well, before there is anybody who might wait.
        self.assertTrue(self.cache.port)
        for module in (fileingest, files, ingest):
            self.patch(module, "os", Noting())
        for target in (manifest_path("1.0"), blob_path(image.layers[0])):
            self.assertEqual((await self.ask(target)).status, 200)
        await self.cache.stop()
        self.assertEqual({name.split("-Thread")[0].split("PoolThread-")[-1] for name in seen}, {"crcache-syncing"})

    async def test_unsealed(self) -> None:
        """Manifests do not wait for big files that somebody has touched, or whose size nobody knows, to be hashed."""
        image = self.origin.add_image(REPO, "1.0")
        blobs = [self.origin.content.add_blob(REPO, bytes([number])) for number in range(8)]
        root = self.cache.config.cache_directory
        for digest in blobs:
            self.assertEqual((await self.ask(blob_path(digest))).status, 200)
        await self.settled()
        go, began = threading.Event(), threading.Event()
        in_time: list[bool] = []
        self.addCleanup(go.set)
        before = contents._sum

        def long(fd: int, digest: Digest) -> str:
            began.set()
            in_time.append(go.wait(5))
            return before(fd, digest)

        self.patch(contents, "_sum", long)
        for digest in blobs:
            os.utime(root / "blobs" / "sha256" / digest[7:], (0, 0))
        answers = [ensureDeferred(self.ask(blob_path(digest))) for digest in blobs]
        await eventually(began.is_set)
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)
        self.assertEqual((await self.ask(blob_path(image.layers[0]))).status, 200)
        go.set()
        for number, answer in enumerate(answers):
            self.assertEqual((await answer).body, bytes([number]))
        self.assertEqual(in_time, [True] * len(blobs))


class RefusalTests(ClientCase):
    """What keeps it from starting: one line."""

    def line(self, directory: Path | None = None, **settings: Any) -> str:
        """The line that starting ends with."""
        with self.assertRaises(CannotStart) as caught:
            self.instance(directory, admin=None, **settings)
        line = str(caught.exception)
        self.assertEqual(len(line.splitlines()), 1)
        return line

    async def test_taken_port(self) -> None:
        """A port that another process has."""
        self.assertEqual(
            self.line(listen=(f"tcp:{self.cache.port}:interface=127.0.0.1",)),
            f"tcp:{self.cache.port}:interface=127.0.0.1: cannot listen: Address already in use",
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
        with self.assertRaises(CannotStart) as caught:
            service.startService()
        line = str(caught.exception)
        self.assertEqual(len(line.splitlines()), 1)
        self.assertTrue(line.startswith(f"cache directory {directory}: "), line)
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
        self.assertFalse(filling.complete)
        self.assertEqual(asking.raw, b"")
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
