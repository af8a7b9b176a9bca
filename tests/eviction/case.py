"""A cache directory within bounds, for a test."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import NoRoom
from crcache.eviction.plan import Plan
from crcache.evictor import Evictor
from crcache.facts import Fetched, Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag
from crcache.settings import Bounds
from crcache.store.filesystem import Filesystem
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.workers import Inline
from tests.store.other import now

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 1_700_000_000.0
ALPINE = Repository("library/alpine")
LATEST = Tag("latest")
#: Bytes of the file system, as far as anybody is told.
TOTAL = 1 << 40


class EvictionCase(SynchronousTestCase):
    """A store and its evictor; work is done at once, and the time of day is C{self.now}.

    @ivar bounds: those in force.
    @ivar free: bytes that the file system has left.
    """

    #: Where the directory is made; C{None} is where temporary ones are.
    where: str | None = None

    def setUp(self) -> None:
        """Begin with nothing."""
        self.root = Path(tempfile.mkdtemp(prefix="crcache-test-", dir=self.where)) / "cache"
        self.addCleanup(shutil.rmtree, self.root.parent, ignore_errors=True)
        self.now = NOW
        self.bounds = Bounds(TOTAL, 0)
        self.free = TOTAL
        self.clock = Clock()
        self.layout = Layout(self.root)
        self.evictor, self.store = self.another()

    def another(self) -> tuple[Evictor, Filesystem]:
        """Another evictor and store on the same directory: as good as another process."""
        evicted: list[int] = []
        self.evicted = evicted
        evictor = Evictor(
            self.root,
            lambda: self.bounds,
            Inline(),
            self.clock,
            lambda: self.now,
            evicted=evicted.append,
            statvfs=lambda path: self.statvfs(),
        )
        evictor._stopped.clear()
        self.addCleanup(evictor.stop)
        store = Filesystem(self.root, Inline(), lambda: self.now, changed=evictor.tally.changed, space=evictor.space)
        store.start()
        return evictor, store

    def statvfs(self) -> os.statvfs_result:
        """What the file system says of itself."""
        found = Mock(f_blocks=TOTAL >> 12, f_frsize=1 << 12, f_bavail=self.free >> 12)
        return cast(os.statvfs_result, found)

    # Content

    def path(self, digest: Digest) -> Path:
        """Where it is."""
        return self.layout.content(digest)

    def holds(self, digest: Digest) -> bool:
        """Whether it is there."""
        return self.path(digest).exists()

    def held(self) -> int:
        """The bytes of all content."""
        return sum(path.stat().st_size for path in self.root.glob("blobs/*/*") if not path.name.startswith("."))

    def put(self, data: bytes, age: float = 0.0) -> Digest:
        """Content that was last used so many seconds ago; nobody has counted it."""
        digest = Digest.of(data)
        path = self.path(digest)
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as file:
            # Not by way of the store, which waits for the disk.
            file.write(data)
            file.flush()
            self.store.contents.seals.set(file.fileno(), digest)
        self.used(digest, age)
        return digest

    def used(self, digest: Digest, age: float) -> None:
        """It was last used so many seconds ago; its seal stays."""
        found = self.path(digest).stat()
        seconds = int(self.now - age)
        os.utime(self.path(digest), ns=(found.st_atime_ns, seconds * 10**9 + found.st_mtime_ns % 10**9))

    def blob(self, number: int, size: int = 1000, age: float = 0.0) -> Digest:
        """A blob like no other."""
        return self.put(number.to_bytes(8, "big").ljust(size, b"."), age)

    def manifest(self, children: Iterable[Digest], age: float = 0.0, note: str = "") -> Digest:
        """An image of these."""
        return self.put(manifest_of(children, note), age)

    def index(self, children: Iterable[Digest], age: float = 0.0) -> Digest:
        """An index of these."""
        return self.put(index_of(children), age)

    def tag(self, digest: Digest, tag: Tag = LATEST, checked: float = 0.0, repository: Repository = ALPINE) -> None:
        """What a tag means, as was found out so many seconds ago."""
        entry = TagEntry(digest, OCI_MANIFEST, 10, self.now - checked)
        now(self.store.set_tag(DOCKER_IO, repository, tag, entry))

    def pin(self, digest: Digest, reference: Tag | Digest | None = None) -> None:
        """Pin it."""
        Pins(self.layout).add(DOCKER_IO, ALPINE, digest if reference is None else reference, digest)

    def member(self, digest: Digest, repository: Repository = ALPINE, registry: Registry = DOCKER_IO) -> Path:
        """Note that a repository has given it to everyone; where that is noted."""
        now(self.store.enrol(registry, repository, [Membership(digest, fetched=Fetched.OPENLY)]))
        return self.layout.member(registry, repository, digest)

    # What is done

    def walk(self) -> None:
        """Count everything, and plan."""
        self.evictor._walked_over(self.pace())

    def pace(self) -> Any:
        """One that never rests."""
        from crcache.eviction.pace import Pace

        return Pace(self.evictor._stopped, lambda: 0.0)

    def plan(self) -> list[Digest]:
        """What goes, in this order."""
        return [step.digest for step in Plan(self.layout).steps()]

    def content(self) -> int | None:
        """How many bytes of content there are, as the tally says."""
        with self.evictor.tally.open() as book:
            return book.content

    def refused(self, size: int) -> str:
        """Why there is no room for so many bytes."""
        hold = self.evictor.space.hold()
        self.addCleanup(hold.release)
        return str(self.assertRaises(NoRoom, hold.take, size))


def manifest_of(children: Iterable[Digest], note: str = "") -> bytes:
    """An image manifest with these layers."""
    layers = [{"mediaType": "application/octet-stream", "digest": str(each), "size": 1} for each in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers, "note": note}).encode()


def index_of(children: Sequence[Digest] | Iterable[Digest]) -> bytes:
    """An index of these manifests."""
    manifests = [{"mediaType": OCI_MANIFEST, "digest": str(each), "size": 1} for each in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
