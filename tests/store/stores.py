"""A store to be tested, whichever it is."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from twisted.internet.defer import Deferred

from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag
from crcache.interfaces import IBody, IIngest, IStore
from tests.web.cases import AsyncTestCase, pause

GHCR = Registry("ghcr.io")
ALPINE = Repository("library/alpine")
NGINX = Repository("library/nginx")
LATEST = Tag("latest")
DATA = os.urandom(3 << 20 | 12345)
DIGEST = Digest.of(DATA)
SEGMENT = 1 << 20


def descriptors() -> int:
    """How many files and sockets this process has open. Pipes are the reactor's own, made when it needs them."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += not os.readlink(f"/proc/self/fd/{name}").startswith(("pipe:", "anon_inode:"))
    return found


def content_of(body: IBody | IIngest) -> bytes:
    """All that can be read of it from the beginning, by its own descriptor."""
    end = 0
    while (further := body.readable(end)) > end:
        end = further
    fd = body.open()
    try:
        return os.pread(fd, end, 0)
    finally:
        os.close(fd)


class StoreCase(AsyncTestCase):
    """A store that has been started, and the time of day."""

    now = 1_700_000_000.0
    store: IStore
    #: Whose clients the fills are for; C{None} for the registry's open ones.
    repository: Repository | None = None

    def make(self) -> IStore:
        """A store with nothing in it; C{self.clock} is its clock."""
        raise NotImplementedError

    def vanish(self, *parts: str) -> None:
        """Remove everything of these kinds behind the store's back: content, fills, members, tags, given,
        privacies."""
        raise NotImplementedError

    def damage(self, digest: Digest) -> None:
        """Change a byte of this content behind the store's back."""
        raise NotImplementedError

    def pin(self, registry: Registry, repository: Repository, tag: Tag, pinned: bool = True) -> None:
        """Pin or unpin a tag behind the store's back, as the administrator does."""
        raise NotImplementedError

    def clock(self) -> float:
        """The time of day."""
        return self.now

    def setUp(self) -> None:
        """Start one."""
        self.store = self.make()
        self.store.start()
        self.addCleanup(self.store.stop)

    async def ingest(self, registry: Registry = DOCKER_IO, digest: Digest = DIGEST) -> IIngest:
        """A fill, which the store has no content for."""
        return await self.ingest_of(self.repository, registry, digest)

    async def ingest_of(
        self, repository: Repository | None, registry: Registry = DOCKER_IO, digest: Digest = DIGEST
    ) -> IIngest:
        """A fill for this repository's clients, or for everyone."""
        found = await self.store.ingest(registry, digest, repository)
        assert IIngest.providedBy(found), found
        self.addCleanup(found.close)
        return found

    async def filled(self, registry: Registry = DOCKER_IO) -> IIngest:
        """An owned fill of L{DATA} that lacks nothing but the verdict."""
        fill = await self.ingest(registry)
        fill.settle(len(DATA))
        await fill.write(0, [DATA])
        return fill

    async def body(self, digest: Digest = DIGEST) -> IBody:
        """Content that must be there."""
        found = await self.store.find(digest)
        assert found is not None
        return found

    async def back_to(self, before: int) -> None:
        """Only so many descriptors are open, as soon as threads have let go of what they returned."""
        for _ in range(100):
            if descriptors() == before:
                return
            await pause(0.01)
        self.assertEqual(descriptors(), before)

    async def fails(self, deferred: Deferred[Any], *kinds: type[Exception]) -> Exception:
        """Awaits what must fail with one of these."""
        try:
            result = await deferred
        except kinds as error:
            return error
        self.fail(f"{result!r} came, where one of {kinds} should be raised")
