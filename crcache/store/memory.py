"""The store in memory: for tests, and for trying things out. Files are memfds, so that everything can be sent from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from crcache.errors import StoreError
from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IBody, IIngest, IStore
from crcache.store.content import Content, duplicate
from crcache.store.givers import MOST
from crcache.store.ingest import OpenIngest, write_all
from crcache.store.marks import Marks, State
from crcache.store.records import merged
from crcache.workers import Inline, Workers

_BOOT = bytes(16)
#: What tells fills apart; a repository is that of a private one.
_Key = tuple[Registry, Digest, Repository | None]


class _Fill:
    """The two files of one fill, and whether somebody owns it."""

    def __init__(self, name: str) -> None:
        self.data = os.memfd_create(name, os.MFD_CLOEXEC)
        self.marks = os.memfd_create(name + ".marks", os.MFD_CLOEXEC)
        self.owned = False
        Marks(self.marks, _BOOT).create(os.fstat(self.data).st_ino)

    def __del__(self) -> None:
        os.close(self.data)
        os.close(self.marks)


@implementer(IIngest)
class MemoryIngest(OpenIngest):
    """One party's view of a fill in memory."""

    def __init__(self, store: Memory, key: _Key, fill: _Fill, workers: Workers) -> None:
        super().__init__(workers)
        self._store = store
        self._key = key
        self._fill = fill
        self._data = fill.data
        self._marks = Marks(fill.marks, _BOOT)
        self.owner = not fill.owned
        fill.owned = True

    def claim(self) -> Deferred[bool]:
        """As L{IIngest.claim}."""
        if not self.owner and not self._fill.owned and self.state is Verdict.FILLING:
            if self._store.fills.get(self._key) is not self._fill:
                self._marks.state = State.FAILED
                return fail(StoreError(f"the fill of {self._key[1]} was removed while it was being filled"))
            self.owner = self._fill.owned = True
        return succeed(self.owner)

    def commit(self, size: int, members: Sequence[tuple[Repository, Membership]]) -> Deferred[None]:
        """As L{IIngest.commit}."""
        if self._marks.size is None:
            self._marks.size = size
        self._marks.state = State.VERIFIED
        registry, digest, _ = self._key
        if self._store.fills.get(self._key) is self._fill:
            self._store.contents[digest] = Content(duplicate(self._data), size, self._store.clock())
            for repository, membership in members:
                self._store.enrol(registry, repository, [membership])
        self._forget()
        return succeed(None)

    def discard(self) -> Deferred[None]:
        """As L{IIngest.discard}."""
        self._marks.state = State.FAILED
        self._forget()
        return succeed(None)

    def _forget(self) -> None:
        if self._store.fills.get(self._key) is self._fill:
            del self._store.fills[self._key]
        self.close()

    def close(self) -> None:
        """As L{IIngest.close}."""
        if self.owner:
            self.owner = self._fill.owned = False


@implementer(IStore)
class Memory:
    """Everything in dictionaries. Tests may look into them, and remove what they like."""

    def __init__(self, clock: Callable[[], float], workers: Workers | None = None) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param workers: where a fill's writes are done; at once, if C{None}.
        """
        self.clock = clock
        self.contents: dict[Digest, Content] = {}
        self.fills: dict[_Key, _Fill] = {}
        self.members: dict[tuple[Registry, Repository, Digest], Membership] = {}
        self.tags: dict[tuple[Registry, Repository, Tag], TagEntry] = {}
        self.pins: set[tuple[Registry, Repository, Tag]] = set()
        self.givers: dict[Digest, set[tuple[Registry, Repository]]] = {}
        self.privacies: dict[tuple[Registry, Repository], Privacy] = {}
        self._workers = Inline() if workers is None else workers

    def start(self) -> None:
        """As L{IStore.start}."""

    def stop(self) -> None:
        """As L{IStore.stop}."""

    def ready(self) -> Deferred[None]:
        """As L{IStore.ready}."""
        return succeed(None)

    def find(self, digest: Digest) -> Deferred[IBody | None]:
        """As L{IStore.find}."""
        found = self.contents.get(digest)
        if found is None:
            return succeed(None)
        before, found.used = found.used, self.clock()
        assert found.size is not None
        return succeed(Content(found.open(), found.size, before))

    def read(self, digest: Digest, limit: int) -> Deferred[bytes | None]:
        """As L{IStore.read}."""
        return execute(self._read, digest, limit)

    def _read(self, digest: Digest, limit: int) -> bytes | None:
        found = self.contents.get(digest)
        if found is None or found.size is None or found.size > limit:
            return None
        with os.fdopen(found.open(), "rb", buffering=0) as source:
            data = os.pread(source.fileno(), limit + 1, 0)
        if Digest.of(data, digest.algorithm) != digest:
            del self.contents[digest]
            return None
        return data

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        """As L{IStore.put}."""
        fd = os.memfd_create(digest.hex, os.MFD_CLOEXEC)
        write_all(fd, 0, [data])
        self.contents[digest] = Content(fd, len(data), self.clock())
        return succeed(None)

    def drop(self, digest: Digest, damaged: IBody | None = None) -> Deferred[None]:
        """As L{IStore.drop}."""
        found = self.contents.get(digest)
        if found is not None and (damaged is None or _same(found, damaged)):
            del self.contents[digest]
        return succeed(None)

    def ingest(
        self, registry: Registry, digest: Digest, repository: Repository | None = None
    ) -> Deferred[IIngest | IBody]:
        """As L{IStore.ingest}."""
        content = self.contents.get(digest)
        if content is not None and content.size is not None:
            return succeed(Content(content.open(), content.size, content.used))
        key = registry, digest, repository
        fill = self.fills.get(key)
        if fill is None:
            fill = self.fills[key] = _Fill(digest.hex)
        return succeed(MemoryIngest(self, key, fill, self._workers))

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Membership | None]:
        """As L{IStore.member}."""
        return succeed(self.members.get((registry, repository, digest)))

    def enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> Deferred[None]:
        """As L{IStore.enrol}."""
        for new in memberships:
            key = registry, repository, new.digest
            self.members[key] = merged(self.members.get(key), new, self.clock())
            if self.members[key].fetched is Fetched.OPENLY:
                self._give(registry, repository, new.digest)
        return succeed(None)

    def _give(self, registry: Registry, repository: Repository, digest: Digest) -> None:
        givers = self.givers.get(digest, set())
        if (registry, repository) not in self.privacies and len(givers) < MOST:
            self.givers[digest] = givers | {(registry, repository)}

    def holding(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Holding]:
        """As L{IStore.holding}."""
        member = self.members.get((registry, repository, digest))
        privacy = self.privacies.get((registry, repository))
        given = member is not None and member.fetched is Fetched.OPENLY and privacy is None
        return succeed(Holding(member, given or bool(self.givers.get(digest)), privacy))

    def privacy(self, registry: Registry, repository: Repository) -> Deferred[Privacy | None]:
        """As L{IStore.privacy}."""
        return succeed(self.privacies.get((registry, repository)))

    def set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> Deferred[None]:
        """As L{IStore.set_privacy}."""
        key = registry, repository
        held = [each for known, each in self.members.items() if known[:2] == key]
        if privacy is None:
            if self.privacies.pop(key, None) is not None:
                for each in held:
                    if each.fetched is Fetched.OPENLY:
                        self._give(*key, each.digest)
        elif held or any(known[:2] == key for known in self.tags):
            self.privacies[key] = privacy.shortened()
            for each in held:
                self.givers.get(each.digest, set()).discard(key)
        return succeed(None)

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[TagEntry | None]:
        """As L{IStore.tag}."""
        found = self.tags.get((registry, repository, tag))
        if found is None:
            return succeed(None)
        closed, pinned = (registry, repository) in self.privacies, (registry, repository, tag) in self.pins
        return succeed(replace(found, open=found.open and not closed, pinned=pinned))

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """As L{IStore.set_tag}."""
        self.tags[registry, repository, tag] = replace(entry, pinned=False)
        return succeed(None)

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """As L{IStore.forget_tag}."""
        self.tags.pop((registry, repository, tag), None)
        return succeed(None)


def _same(one: IBody, other: IBody) -> bool:
    """Whether these are the same file."""
    fds = one.open(), other.open()
    try:
        return os.path.sameopenfile(*fds)
    finally:
        for fd in fds:
            os.close(fd)
