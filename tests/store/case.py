"""A cache directory for a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store.filesystem import Filesystem
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.workers import Inline, Workers
from tests.store.other import Other
from tests.store.stores import DATA, DIGEST, StoreCase


def logged_by(case: TestCase) -> list[LogEvent]:
    """What is logged from now on, for as long as the test lasts."""
    logged: list[LogEvent] = []
    observer = cast(ILogObserver, logged.append)
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return logged


class DirectoryCase(StoreCase):
    """A store in a temporary directory, whose work is done at once.

    @ivar root: the cache directory.
    """

    root: Path

    def workers(self) -> Workers:
        """Who does the work."""
        return Inline()

    def make(self) -> Filesystem:
        """A store in a directory of its own."""
        # Not below trial's own directory: its name is in no file's name here, however long.
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-")) / "cache"
        self.addCleanup(shutil.rmtree, self.root.parent, ignore_errors=True)
        return self.another()

    def another(self) -> Filesystem:
        """Another store on the same directory: as good as another process."""
        return Filesystem(self.root, self.workers(), self.clock)

    def vanish(self, *parts: str) -> None:
        """Remove files; whole directories, where there are any."""
        for part in parts:
            directory = {"content": "blobs", "fills": "ingest", "given": "openly"}.get(part)
            if directory is not None:
                shutil.rmtree(self.root / directory, ignore_errors=True)
            elif part == "privacies":
                for path in self.root.glob("registries/**/_private"):
                    path.unlink()
            else:
                for found in self.root.glob("registries/**/" + {"members": "_digests", "tags": "_tags"}[part]):
                    shutil.rmtree(found)

    def pin(self, registry: Registry, repository: Repository, tag: Tag, pinned: bool = True) -> None:
        """As L{StoreCase.pin}."""
        pins = Pins(Layout(self.root))
        if pinned:
            pins.add(registry, repository, tag, DIGEST)
        else:
            pins.remove(registry, repository, tag)

    def damage(self, digest: Digest) -> None:
        """Change a byte."""
        path = self.root / "blobs" / digest.algorithm / digest.hex
        data = bytearray(path.read_bytes())
        data[7] ^= 1
        os.chmod(path, 0o640)
        path.write_bytes(data)

    def files(self) -> set[str]:
        """Everything below the cache directory that is not a directory."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}


class ThreadedCase(DirectoryCase):
    """The same with a pool of threads."""

    def workers(self) -> Workers:
        """A pool that ends with the test."""
        pool = Workers(cast(IReactorFromThreads, reactor), 4, "test")
        pool.start()
        self.addCleanup(pool.stop)
        return pool


class ProcessCase(DirectoryCase):
    """A store here, and others in processes of their own."""

    def setUp(self) -> None:
        """Have the data where the others find it."""
        super().setUp()
        self.data = self.root.parent / "data"
        self.data.write_bytes(DATA)

    def other(self) -> Other:
        """Another process."""
        other = Other(self.root, self.data, self.repository)
        self.addCleanup(other.end)
        return other

    def paths(self) -> tuple[Path, Path]:
        """The fill's data and marks."""
        (marks,) = self.root.glob("ingest/*.marks")
        return marks.with_suffix(""), marks
