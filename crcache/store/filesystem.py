"""The store in a directory: content, memberships, tags, and fills in progress."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from zope.interface import implementer

from crcache.errors import StoreAway, StoreError
from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IBody, IIngest, IStore
from crcache.store.content import Content
from crcache.store.fileingest import FileIngest, Place
from crcache.store.files import probe, read_small, size_of, touch, write_atomically
from crcache.store.layout import VERSION, Layout
from crcache.store.marks import boot_id
from crcache.store.records import membership_from, membership_record, merged, tag_from, tag_record
from crcache.workers import Workers

#: Those that stay until somebody changes something. All else may pass: a mount that is late, a disk that is full.
_MISTAKES = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
)


@implementer(IStore)
class Filesystem:
    """Everything below one directory, which other processes and an administrator's own tools may change at any time.

    Each operation is one job for a worker thread; nothing is remembered in memory.
    """

    def __init__(
        self,
        root: Path,
        workers: Workers,
        clock: Callable[[], float],
        syncing: Workers | None = None,
        *,
        parents: bool = False,
        changed: Callable[[Digest, int, int], None] = lambda digest, before, after: None,
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param syncing: do what waits for the disk, so that nothing else waits for it; by default C{workers} do.
        @param parents: make the directories above it as well, instead of waiting for what is mounted there.
        @param changed: told, in any thread, how many bytes of a digest's content there were before, and are now.
        """
        self._layout = Layout(root)
        self._parents = parents
        self._changed = changed
        self._workers = workers
        self._syncing = workers if syncing is None else syncing
        self._clock = clock
        self._boot = b""

    def start(self) -> None:
        """As L{IStore.start}."""
        layout = self._layout
        try:
            self._boot = boot_id()
            self._check_version()
            self._make()
            self._probe()
            if not layout.version.exists():
                write_atomically(layout.version, f"{VERSION}\n".encode(), durable=True)
        except OSError as error:
            kind = StoreError if error.errno in _MISTAKES else StoreAway
            raise kind(
                f"cache directory {layout.root}: cannot be written: {error.strerror} ({error.filename})"
            ) from error

    def _make(self) -> None:
        """The cache directory itself. What is above it may be a mount that is late: made here, it would hide below."""
        root = self._layout.root
        if self._parents:
            root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            root.mkdir(exist_ok=True, mode=0o750)
        except FileNotFoundError as error:
            if not root.parent.exists():
                raise StoreAway(f"cache directory {root}: {root.parent} is not there") from error
            raise

    def _check_version(self) -> None:
        """Before anything is touched: another release's directory is left as it is."""
        try:
            fd = os.open(self._layout.version, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        try:
            version = os.read(fd, 64).decode(errors="replace").strip()
        finally:
            os.close(fd)
        if version != VERSION:
            raise StoreError(
                f"cache directory {self._layout.root}: its layout is {version[:20]!r}, this release knows {VERSION!r}"
            )

    def stop(self) -> None:
        """As L{IStore.stop}."""

    def ready(self) -> Deferred[None]:
        """As L{IStore.ready}."""
        return self._workers.run(self._ready)

    def _ready(self) -> None:
        try:
            self._probe()
        except OSError as error:
            raise StoreError(
                f"cache directory {self._layout.root}: cannot be written: {error.strerror} ({error.filename})"
            ) from error

    def _probe(self) -> None:
        """Write to each directory: someone may have made one of them for another user.

        @raise OSError: whose C{filename} is the directory.
        """
        layout = self._layout
        for path in (layout.ingest, layout.blobs, layout.registries):
            # Without the cache directory itself there is nothing to write to; what is below it can be made again.
            path.mkdir(exist_ok=True, mode=0o750)
            probe(path)
        for path in layout.algorithms():
            if os.path.lexists(path):
                probe(path)

    # Content

    def find(self, digest: Digest) -> Deferred[IBody | None]:
        """As L{IStore.find}."""
        return self._workers.run(self._find, digest)

    def _find(self, digest: Digest) -> IBody | None:
        path = self._layout.content(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise StoreError(f"{path}: {error.strerror}") from error
        content = None
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                content = Content(fd, found.st_size, touch(fd, self._clock()))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        finally:
            if content is None:
                os.close(fd)
        return content

    def read(self, digest: Digest, limit: int) -> Deferred[bytes | None]:
        """As L{IStore.read}."""
        return self._workers.run(self._read, digest, limit)

    def _read(self, digest: Digest, limit: int) -> bytes | None:
        content = self._find(digest)
        if content is None or content.size is None or content.size > limit:
            return None
        fd = content.open()
        try:
            with os.fdopen(fd, "rb", buffering=0) as source:
                data = source.read(limit + 1) or b""
        except OSError as error:
            raise StoreError(f"{self._layout.content(digest)}: {error.strerror}") from error
        hasher = digest.hasher()
        hasher.update(data)
        if hasher.hexdigest() != digest.hex:
            self._drop(digest)
            return None
        return data

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        """As L{IStore.put}."""
        return self._syncing.run(self._put, digest, data)

    def _put(self, digest: Digest, data: bytes) -> None:
        path = self._layout.content(digest)
        before = size_of(path)
        try:
            write_atomically(path, data, mode=0o440, durable=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        self._changed(digest, before, len(data))

    def drop(self, digest: Digest) -> Deferred[None]:
        """As L{IStore.drop}."""
        return self._workers.run(self._drop, digest)

    def _drop(self, digest: Digest) -> None:
        path = self._layout.content(digest)
        before = size_of(path)
        self._unlink(path)
        self._changed(digest, before, 0)

    # Fills

    def ingest(self, registry: Registry, digest: Digest) -> Deferred[IIngest | IBody]:
        """As L{IStore.ingest}."""
        return self._workers.run(self._ingest, registry, digest)

    def _ingest(self, registry: Registry, digest: Digest) -> IIngest | IBody:
        layout = self._layout
        place = Place(digest, layout.data(registry, digest), layout.marks(registry, digest), layout.content(digest))

        def enrol(before: int, members: Sequence[tuple[Repository, Membership]]) -> None:
            self._changed(digest, before, size_of(place.target))
            for repository, membership in members:
                self._enrol(registry, repository, [membership])

        for _ in range(3):
            found = FileIngest.begin(self._workers, self._syncing, place, self._boot, enrol)
            if found is not None:
                return found
            content = self._find(digest)
            if content is not None:
                return content
        raise StoreError(f"{place.target}: is there, but cannot be opened as a file")

    # What repositories hold

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Membership | None]:
        """As L{IStore.member}."""
        return self._workers.run(self._member, registry, repository, digest)

    def _member(self, registry: Registry, repository: Repository, digest: Digest) -> Membership | None:
        path = self._layout.member(registry, repository, digest)
        return membership_from(read_small(path, self._clock()), digest)

    def enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> Deferred[None]:
        """As L{IStore.enrol}."""
        return self._workers.run(self._enrol, registry, repository, memberships)

    def _enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> None:
        for new in memberships:
            old = self._member(registry, repository, new.digest)
            known = merged(old, new, self._clock())
            if known != old:
                self._record(self._layout.member(registry, repository, new.digest), membership_record(known))

    # Tags

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[TagEntry | None]:
        """As L{IStore.tag}."""
        return self._workers.run(self._tag, self._layout.tag(registry, repository, tag))

    def _tag(self, path: Path) -> TagEntry | None:
        return tag_from(read_small(path, self._clock()))

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """As L{IStore.set_tag}."""
        return self._workers.run(self._record, self._layout.tag(registry, repository, tag), tag_record(entry))

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """As L{IStore.forget_tag}."""
        return self._workers.run(self._unlink, self._layout.tag(registry, repository, tag))

    def _record(self, path: Path, record: dict[str, object]) -> None:
        try:
            write_atomically(path, json.dumps(record).encode())
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error

    def _unlink(self, path: Path) -> None:
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
