"""The store in a directory: content, memberships, tags, and fills in progress."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from crcache.errors import StoreAway, StoreError
from crcache.facts import Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IBody, IIngest, IStore
from crcache.store import version
from crcache.store.content import Content
from crcache.store.contents import Contents
from crcache.store.fileingest import FileIngest, Finish
from crcache.store.files import probe
from crcache.store.layout import Layout
from crcache.store.marks import boot_id
from crcache.store.repositories import Repositories
from crcache.store.space import Boundless, Space, released
from crcache.workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

#: Those that stay until somebody changes something. All else may pass: a mount that is late, a disk that is full.
_MISTAKES = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

#: Seconds after which a disk that has not answered is as good as one that fails.
LOOKING = 5.0
WRITING = 15.0

#: Times that something which others change meanwhile is tried.
_TRIES = 3


@implementer(IStore)
class Filesystem:
    """Everything below one directory, which other processes and an administrator's own tools may change at any time.

    Each operation is a job or two for worker threads; what it finds out is on disk, not in memory.

    @ivar contents: the committed content.
    """

    def __init__(
        self,
        root: Path,
        workers: Workers,
        clock: Callable[[], float],
        syncing: Workers | None = None,
        *,
        hashing: Workers | None = None,
        noting: Workers | None = None,
        making: Workers | None = None,
        parents: bool = False,
        changed: Callable[[Digest, int, int], None] = lambda digest, before, after: None,
        space: Space | None = None,
        noted: Callable[[Registry, Repository, Membership], None] = lambda registry, repository, member: None,
        timer: IReactorTime | None = None,
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param syncing: do what waits for the disk, so that nothing else waits for it; by default C{workers} do.
        @param hashing: hash content that somebody may have written to; by default C{workers} do.
        @param noting: note who may read, which takes the longer the more a repository names; by default C{workers} do.
        @param making: wait until there is room; by default C{workers} do.
        @param parents: make the directories above it as well, instead of waiting for what is mounted there.
        @param changed: told, in any thread, how many bytes of a digest's content there were before, and are now.
        @param space: what there is room in; C{None} is as much as the disk has.
        @param noted: told, in any thread, of each membership as it is known once it has been noted.
        @param timer: what is waited for the disk by, but in fills; C{None} is for ever.
        """
        self._layout = Layout(root)
        self._parents = parents
        self.contents = Contents(self._layout, clock, changed)
        self._known = Repositories(self._layout, clock, noted)
        self._checking: dict[Digest, list[Deferred[None]]] = {}
        self._hashing = workers if hashing is None else hashing
        self._noting = workers if noting is None else noting
        self._workers = workers
        self._syncing = workers if syncing is None else syncing
        self._making = workers if making is None else making
        self._space = Boundless() if space is None else space
        self._timer = timer
        self._boot = b""

    def start(self) -> None:
        """As L{IStore.start}."""
        layout = self._layout
        try:
            self._boot = boot_id()
            told = version.check(layout)
            version.make(layout, parents=self._parents)
            try:
                self._probe()
            except OSError as error:
                # There is content, which can be served on a full disk, and makes room.
                if not told or error.errno not in _FULL:
                    raise
            if not told:
                version.write(layout)
        except OSError as error:
            kind = StoreError if error.errno in _MISTAKES else StoreAway
            raise kind(
                f"cache directory {layout.root}: cannot be written: {error.strerror} ({error.filename})"
            ) from error

    def stop(self) -> None:
        """As L{IStore.stop}."""

    def ready(self) -> Deferred[None]:
        """As L{IStore.ready}."""
        return self._within(LOOKING, self._workers.run(self._ready))

    def _ready(self) -> None:
        try:
            self._probe()
        except OSError as error:
            raise StoreError(
                f"cache directory {self._layout.root}: cannot be written: {error.strerror} ({error.filename})"
            ) from error

    def _within(self, seconds: float, done: Deferred[T]) -> Deferred[T]:
        """The same, which fails with L{StoreError} if it takes longer. The thread cannot be called off."""

        def late(_: object, seconds: float) -> NoReturn:
            raise StoreError(f"cache directory {self._layout.root}: no answer for {seconds:g} s")

        return done if self._timer is None else done.addTimeout(seconds, self._timer, late)

    def _probe(self) -> None:
        """Write to each directory: someone may have made one of them for another user.

        @raise OSError: whose C{filename} is the directory.
        """
        layout = self._layout
        for path in (layout.ingest, layout.blobs, layout.openly, layout.registries):
            # Without the cache directory itself there is nothing to write to; what is below it can be made again.
            path.mkdir(exist_ok=True, mode=0o750)
            probe(path)
        for path in layout.algorithms():
            if os.path.lexists(path):
                probe(path)

    # Content

    def find(self, digest: Digest) -> Deferred[IBody | None]:
        """As L{IStore.find}."""
        return self._find(digest, _TRIES)

    # Without coroutines: older releases of Twisted keep what one returns, a descriptor here, until garbage collection.
    def _find(self, digest: Digest, tries: int) -> Deferred[Any]:
        found = self._within(LOOKING, self._workers.run(self.contents.find, digest))
        return found.addCallback(self._checked, digest, tries)

    def _checked(self, content: Content | None, digest: Digest, tries: int) -> Content | Deferred[Any] | None:
        if content is None or content.sealed:
            return content
        if not tries:
            raise StoreError(f"{self._layout.content(digest)}: changes faster than it can be checked")
        return self._check(digest).addCallback(lambda _: self._find(digest, tries - 1))

    def _check(self, digest: Digest) -> Deferred[None]:
        """Have content with a broken seal hashed, once however many wait for it."""
        waiting: Deferred[None] = Deferred()
        waiters = self._checking.get(digest)
        if waiters is not None:
            waiters.append(waiting)
            return waiting
        waiters = self._checking[digest] = [waiting]

        def ended(result: Any) -> None:
            del self._checking[digest]
            for each in waiters:
                each.callback(result)

        self._hashing.run(self.contents.check, digest).addBoth(ended)
        return waiting

    def read(self, digest: Digest, limit: int) -> Deferred[bytes | None]:
        """As L{IStore.read}."""
        return self._within(LOOKING, self._workers.run(self.contents.read, digest, limit))

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        """As L{IStore.put}."""
        hold = self._space.hold()
        put = partial(self._syncing.run, self._put, digest, data)
        room = None if hold.covers(len(data)) else self._making.run(hold.take, len(data))
        done = put() if room is None else room.addCallback(lambda _: put())
        return self._within(WRITING, done.addBoth(released, hold))

    def _put(self, digest: Digest, data: bytes) -> None:
        version.restore(self._layout)
        self.contents.put(digest, data)

    def drop(self, digest: Digest, damaged: IBody | None = None) -> Deferred[None]:
        """As L{IStore.drop}."""
        return self._workers.run(self.contents.drop, digest, damaged)

    # Fills

    def ingest(
        self, registry: Registry, digest: Digest, repository: Repository | None = None
    ) -> Deferred[IIngest | IBody]:
        """As L{IStore.ingest}."""
        return self._ingest(registry, digest, repository, _TRIES)

    def _ingest(self, registry: Registry, digest: Digest, repository: Repository | None, tries: int) -> Deferred[Any]:
        def content(fill: FileIngest | None) -> FileIngest | Deferred[Any]:
            return self._find(digest, _TRIES).addCallback(again) if fill is None else fill

        def again(found: Content | None) -> Content | Deferred[Any]:
            if found is None and not tries:
                raise StoreError(f"{self._layout.content(digest)}: is there, but cannot be opened as a file")
            return self._ingest(registry, digest, repository, tries - 1) if found is None else found

        return self._workers.run(self._begin, registry, digest, repository).addCallback(content)

    def _begin(self, registry: Registry, digest: Digest, repository: Repository | None) -> FileIngest | None:
        version.restore(self._layout)
        contents = self.contents

        def enrol(members: Sequence[tuple[Repository, Membership]]) -> None:
            try:
                for member, membership in members:
                    self._known.enrol(registry, member, [membership])
            except StoreError as problem:
                raise OSError(errno.EIO, problem.message) from problem

        finish = Finish(
            lambda fd: contents.seals.set(fd, digest), enrol, lambda before: contents.committed(digest, before)
        )
        place = self._layout.fill(registry, digest, repository)
        fill = FileIngest.begin(self._workers, self._syncing, place, self._boot, finish)
        if fill is not None:
            fill.within(self._space.hold(), self._making)
        return fill

    # What is known of repositories

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Membership | None]:
        """As L{IStore.member}."""
        return self._look(self._known.member, registry, repository, digest)

    def enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> Deferred[None]:
        """As L{IStore.enrol}."""
        return self._note(self._enrol, registry, repository, memberships)

    def _enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> None:
        for each in memberships:
            self.contents.touch(each.digest)
        self._known.enrol(registry, repository, memberships)

    def holding(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Holding]:
        """As L{IStore.holding}."""
        return self._look(self._known.holding, registry, repository, digest)

    def privacy(self, registry: Registry, repository: Repository) -> Deferred[Privacy | None]:
        """As L{IStore.privacy}."""
        return self._look(self._known.privacy, registry, repository)

    def set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> Deferred[None]:
        """As L{IStore.set_privacy}."""
        # However long it takes: until it is done, whoever has it noted has to know it himself.
        return self._noting.run(self._known.set_privacy, registry, repository, privacy)

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[TagEntry | None]:
        """As L{IStore.tag}."""
        return self._look(self._known.tag, registry, repository, tag)

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """As L{IStore.set_tag}."""
        return self._note(self._known.set_tag, registry, repository, tag, entry)

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """As L{IStore.forget_tag}."""
        return self._note(self._known.forget_tag, registry, repository, tag)

    def _look(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self._within(LOOKING, self._workers.run(work, *args, **kwargs))

    def _note(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Deferred[None]:
        return self._within(WRITING, self._workers.run(work, *args, **kwargs))
