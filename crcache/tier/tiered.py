"""The cache directory with a bucket behind it: what is not on disk is looked for there, and noted here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from crcache.facts import Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IBody, IIngest, IStore

if TYPE_CHECKING:
    from crcache.tier.behind import Behind


@implementer(IStore)
class Tiered:
    """A store on disk whose small reads go on in the bucket. Writes go to disk; what they bring is uploaded later.

    Without a bucket it is the store on disk, and nothing else.
    """

    def __init__(self, disk: IStore) -> None:
        self._disk = disk
        self._behind: Behind | None = None

    def use(self, behind: Behind | None) -> None:
        """Look there from now on; C{None}: nowhere."""
        self._behind = behind

    def start(self) -> None:
        """As L{IStore.start}."""
        self._disk.start()

    def ready(self) -> Deferred[None]:
        """As L{IStore.ready}: of the disk; nobody needs the bucket."""
        return self._disk.ready()

    def stop(self) -> None:
        """As L{IStore.stop}."""
        self._disk.stop()

    def find(self, digest: Digest) -> Deferred[IBody | None]:
        """As L{IStore.find}: on disk alone. A body that is not there is filled, from the bucket or its origin."""
        return self._disk.find(digest)

    def read(self, digest: Digest, limit: int) -> Deferred[bytes | None]:
        """As L{IStore.read}."""
        found, behind = self._disk.read(digest, limit), self._behind
        return found if behind is None else found.addCallback(behind.read, digest, limit)

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        """As L{IStore.put}."""
        return self._disk.put(digest, data)

    def drop(self, digest: Digest, damaged: IBody | None = None) -> Deferred[None]:
        """As L{IStore.drop}: from disk."""
        return self._disk.drop(digest, damaged)

    def ingest(
        self, registry: Registry, digest: Digest, repository: Repository | None = None
    ) -> Deferred[IIngest | IBody]:
        """As L{IStore.ingest}."""
        return self._disk.ingest(registry, digest, repository)

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Membership | None]:
        """As L{IStore.member}."""
        if self._behind is None:
            return self._disk.member(registry, repository, digest)
        return self.holding(registry, repository, digest).addCallback(lambda found: found.member)

    def enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> Deferred[None]:
        """As L{IStore.enrol}."""
        return self._disk.enrol(registry, repository, memberships)

    def holding(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[Holding]:
        """As L{IStore.holding}."""
        found, behind = self._disk.holding(registry, repository, digest), self._behind
        return found if behind is None else found.addCallback(behind.holding, registry, repository, digest)

    def privacy(self, registry: Registry, repository: Repository) -> Deferred[Privacy | None]:
        """As L{IStore.privacy}: what is noted here. The bucket's note comes here with whatever else is taken there."""
        return self._disk.privacy(registry, repository)

    def set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> Deferred[None]:
        """As L{IStore.set_privacy}."""
        if self._behind is None:
            return self._disk.set_privacy(registry, repository, privacy)
        return self._behind.set_privacy(registry, repository, privacy)

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[TagEntry | None]:
        """As L{IStore.tag}."""
        found, behind = self._disk.tag(registry, repository, tag), self._behind
        return found if behind is None else found.addCallback(behind.tag, registry, repository, tag)

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """As L{IStore.set_tag}."""
        if self._behind is None:
            return self._disk.set_tag(registry, repository, tag, entry)
        return self._behind.set_tag(registry, repository, tag, entry)

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """As L{IStore.forget_tag}."""
        if self._behind is None:
            return self._disk.forget_tag(registry, repository, tag)
        return self._behind.forget_tag(registry, repository, tag)
