"""containerd pulls through a crcache whose disk is full, read-only, taken away, or out of descriptors; as root."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.real.containerd import Containerd
from tests.real.daemon import Daemon
from tests.real.images import MIB, Image, make_image
from tests.real.originlog import fetches
from tests.real.processes import run, until
from tests.real.scene import Scene
from tests.real.statics import StaticOrigin

_NAME = "registry.test"
_REPOSITORY = "team/app"
#: Nobody listens there: a pull that crcache fails, fails.
_NOWHERE = "http://127.0.0.1:9"
_ROOM = 16 * MIB
#: Descriptors of a process, most of which others take.
_DESCRIPTORS = 96


class _DiskScene(Scene):
    """A small file system for the cache, an image that does not fit into it, and one that does."""

    #: Bytes a second that the origin gives to a connection.
    rate = 0

    def setUp(self) -> None:
        """Mount, and begin origin and containerd."""
        super().setUp()
        self.disk = self.place("disk")
        run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(self.disk)])
        self.addCleanup(run, ["umount", "--lazy", str(self.disk)])
        self.cache = self.disk / "cache"
        layout = self.directory / "layout"
        self.large, self.small = (make_image(layout, tag, [size]) for tag, size in (("l", 40 * MIB), ("s", 4 * MIB)))
        self.origin = self.ending(StaticOrigin(self.directory / "origin", rate=self.rate))
        for image in (self.large, self.small):
            self.origin.publish(image, _REPOSITORY)
        self.origin.start()
        self.containerd = self.ending(Containerd(self.place("containerd")))

    def daemon(self, fall_back: str = _NOWHERE, **settings: object) -> Daemon:
        """A crcache, and containerd told of it."""
        daemon = self.crcache(
            self.directory / "crcache", {_NAME: {"url": self.origin.url}}, cache=self.cache, **settings
        )
        self.containerd.mirror(_NAME, fall_back, daemon.url)
        return daemon

    def remount(self, options: str) -> None:
        """Change the file system."""
        run(["mount", "-o", f"remount,{options}", str(self.disk)])

    def pull(self, image: Image) -> None:
        """Have containerd pull it, and see that it holds it whole."""
        self.containerd.pull(f"{_NAME}/{_REPOSITORY}:{image.tag}")
        self.assertLessEqual(image.digests, self.containerd.digests())
        self.assertEqual(self.containerd.damaged(), [])

    def file(self, image: Image) -> Path:
        """Where its layer is kept."""
        return self.cache / "blobs" / "sha256" / image.largest.removeprefix("sha256:")

    def kept(self, image: Image) -> None:
        """It is pulled again, and kept; then once more, without the origin."""
        self.containerd.forget()
        self.pull(image)
        until("the layer is in its place", self.file(image).exists)
        before = fetches(self.origin.served())[image.largest]
        self.containerd.forget()
        self.pull(image)
        self.assertEqual(fetches(self.origin.served())[image.largest], before)

    def warnings(self, daemon: Daemon, words: str) -> int:
        """Lines of the log with these words in them, beside the requests' own."""
        return sum(words in line for line in daemon.said().splitlines())


class FullTests(_DiskScene):
    """16 MiB of disk, 40 MiB of layer."""

    def test_full(self) -> None:
        """The pull succeeds, what is small is kept, few lines say why the large is not; with more room it is kept."""
        daemon = self.daemon()
        for _ in range(4):
            self.pull(self.large)
            self.containerd.forget()
        self.assertFalse(self.file(self.large).exists())
        self.assertIn("no room for", daemon.said())
        self.assertLess(self.warnings(daemon, "no room for"), 5)
        self.kept(self.small)
        self.remount(f"size={8 * _ROOM}")
        self.kept(self.large)

    def test_evicted(self) -> None:
        """With room for one of two layers, whichever is pulled has the other go, and no pull fails; nor after the
        daemon was killed, and has started again."""
        daemon = self.daemon(settings={"cache": {"max-size": "6MiB", "min-free": "0", "high-watermark": "100%"}})
        other = make_image(self.directory / "layout", "o", [4 * MIB])
        self.origin.publish(other, _REPOSITORY)
        for image, gone in ((self.small, other), (other, self.small)):
            self.pull(image)
            until("the layer is in its place", self.file(image).exists)
            self.assertFalse(self.file(gone).exists())
            self.containerd.forget()
        self.assertEqual(self.warnings(daemon, "no room for"), 0)
        self.assertGreater(daemon.metrics("crcache_evicted_bytes_total"), 4 * MIB)
        daemon.kill()
        daemon.restart()
        self.kept(self.small)
        self.assertFalse(self.file(other).exists())

    def test_killed_when_full(self) -> None:
        """Killed, and begun again on a disk that others have filled up to its last byte: what is there is served, and
        gives way to what is asked for next, which is kept."""
        other = make_image(self.directory / "layout", "o", [2 * MIB])
        self.origin.publish(other, _REPOSITORY)
        daemon = self.daemon()
        self.pull(self.small)
        until("all is counted", lambda: daemon.metrics("crcache_cache_bytes") > 4 * MIB)
        daemon.kill()
        with contextlib.suppress(OSError), open(self.disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        self.assertEqual(os.statvfs(self.disk).f_bavail, 0)
        daemon.restart()
        before = fetches(self.origin.served())[self.small.largest]
        self.containerd.forget()
        self.pull(self.small)
        self.assertEqual(fetches(self.origin.served())[self.small.largest], before)
        self.containerd.forget()
        self.pull(other)
        until("the layer is in its place", self.file(other).exists)
        self.assertFalse(self.file(self.small).exists())

    def test_read_only(self) -> None:
        """What is kept is served, what is not is passed through; once the disk can be written it is kept."""
        self.remount(f"size={8 * _ROOM}")
        self.daemon()
        self.pull(self.small)
        until("the layer is in its place", self.file(self.small).exists)
        until("nothing is being fetched", lambda: not list((self.cache / "ingest").iterdir()))
        before = fetches(self.origin.served())[self.small.largest]
        self.remount("ro")
        self.containerd.forget()
        for image in (self.small, self.large):
            self.pull(image)
        self.assertEqual(fetches(self.origin.served())[self.small.largest], before)
        self.remount("rw")
        self.kept(self.large)


class AwayTests(_DiskScene):
    """An origin that takes three seconds over the large layer."""

    rate = 14 * MIB

    @contextlib.contextmanager
    def pulling(self, image: Image) -> Iterator[None]:
        """While it is pulled; the pull must succeed."""
        problems: list[BaseException] = []

        def pull() -> None:
            try:
                self.pull(image)
            except BaseException as problem:
                problems.append(problem)

        thread = threading.Thread(target=pull)
        thread.start()
        yield
        thread.join()
        self.assertEqual(problems, [])

    def test_removed(self) -> None:
        """The cache directory is removed in the middle of a pull, which succeeds; it is made again, and used."""
        self.remount(f"size={8 * _ROOM}")
        self.daemon()
        with self.pulling(self.large):
            until("a third is there", lambda: any(each.stat().st_blocks * 512 > 12 * MIB for each in self._ingest()))
            shutil.rmtree(self.cache)
        self.kept(self.small)

    def test_filled_by_others(self) -> None:
        """Somebody else fills the disk in the middle of a pull, which succeeds; with room again all is kept."""
        self.remount(f"size={8 * _ROOM}")
        daemon = self.daemon(settings={"cache": {"max-size": "100%", "min-free": "0", "high-watermark": "100%"}})
        with self.pulling(self.large):
            until("a third is there", lambda: any(each.stat().st_blocks * 512 > 12 * MIB for each in self._ingest()))
            filler = self.disk / "filler"
            with contextlib.suppress(OSError), open(filler, "wb") as file:
                while True:
                    file.write(bytes(MIB))
        self.assertIn("goes on without the cache", daemon.said())
        self.assertIn("No space left on device", daemon.said())
        filler.unlink()
        self.kept(self.large)

    def _ingest(self) -> list[Path]:
        return list((self.cache / "ingest").glob("*")) if self.cache.exists() else []


class DescriptorTests(_DiskScene):
    """A process that may have few descriptors."""

    def test_descriptors(self) -> None:
        """Without any to spare, or with a few, it serves what it can: no pull fails, as containerd goes past it to the
        origin. As soon as there are enough it serves all by itself, and keeps it.
        """
        self.remount(f"size={8 * _ROOM}")
        daemon = self.daemon(self.origin.url)
        open_now = Path(f"/proc/{daemon.pid}/fd")

        def allow(more: int) -> None:
            most = max(map(int, os.listdir(open_now))) + 1 + more
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (most, _DESCRIPTORS))

        for more in (0, 2, 4, 8):
            allow(more)
            self.pull(self.large)
            self.containerd.forget()
        self.assertIn("Too many open files", daemon.said())
        allow(_DESCRIPTORS // 2)
        # What it had no descriptors for it may have taken for the registry's failing, which it remembers for seconds.
        until("it serves all by itself", lambda: self.served(daemon, self.large))
        self.kept(self.large)
        self.kept(self.small)

    def test_strangers(self) -> None:
        """Clients that take all they can get leave it half of its descriptors; others' pulls go past it, and do not
        fail. When they have left it serves all by itself.
        """
        self.remount(f"size={8 * _ROOM}")
        limit = f"--nofile={_DESCRIPTORS}:{_DESCRIPTORS}"
        daemon = self.daemon(self.origin.url, prefix=("prlimit", limit))
        idle = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(_DESCRIPTORS)]
        refused = "crcache_refused_connections_total"
        until("no more are taken", lambda: daemon.metrics(refused) >= _DESCRIPTORS // 2)
        self.pull(self.small)
        self.assertEqual(daemon.metrics("crcache_requests_total"), 0)
        self.assertLess(len(os.listdir(f"/proc/{daemon.pid}/fd")), _DESCRIPTORS - _DESCRIPTORS // 4)
        for each in idle:
            each.close()
        until("it serves all by itself", lambda: self.served(daemon, self.small))

    def served(self, daemon: Daemon, image: Image) -> bool:
        """Pull it; whether all of its blobs came from crcache."""

        def blobs() -> float:
            return daemon.metrics("crcache_requests_total", kind="blob", status="200")

        before = blobs()
        self.containerd.forget()
        self.pull(image)
        return blobs() - before == len(image.blobs)
