"""Asks for images, and waits until all of each is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from crcache.asks import Ask, Client, PullBlob, PullManifest
from crcache.errors import (
    ArchiveInvalid,
    BodyCut,
    CrcacheError,
    OriginFailed,
    OriginLied,
    OriginTimeout,
    OriginUnreachable,
    StoreError,
)
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import Descriptor
from crcache.grammar.platform import Platform, choose
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.images.documents import Document, read_document
from crcache.interfaces import ICache, IStore
from crcache.outcomes import Blob, CacheStatus, Manifest, Outcome, Relayed
from crcache.warming.bodies import Following, Taken

#: Seconds between two looks at what nobody tells of, and how long content may take to get into its place.
LOOK = 0.1
SETTLING = 120.0
#: What may pass by the next try; so many there are, and so many seconds between them.
_PASSING = (BodyCut, OriginTimeout, OriginUnreachable, OriginFailed)
_TRIES = 3
_PAUSE = 2.0
#: Indexes of indexes are followed so far.
_DEEPEST = 4
_HERE = (CacheStatus.HIT, CacheStatus.STALE_IF_ERROR)


@dataclass
class Warmed:
    """What has come of an image.

    @ivar root: its own manifest.
    @ivar platforms: what of an index was asked for.
    @ivar new: bytes of all that was not here, by digest.
    @ivar there: of what was.
    """

    root: Manifest
    platforms: list[Platform] = field(default_factory=list)
    new: dict[Digest, int] = field(default_factory=dict)
    there: dict[Digest, int] = field(default_factory=dict)


class Warmer:
    """Asks the story for images; of each all blobs are waited for until they are verified and in their place."""

    def __init__(
        self,
        cache: ICache,
        store: IStore,
        running: Callable[[Registry, Digest], object | None],
        clock: Any,
        jobs: int,
        platforms: Sequence[Platform],
        advanced: Callable[[int], object] = lambda count: None,
        expected: Callable[[int], object] = lambda count: None,
    ) -> None:
        """
        @param running: the open fill of a digest, if there is one in this process.
        @param jobs: how many blobs are asked for at once.
        @param platforms: those that are asked for of an index; none: all.
        @param advanced: told how many bytes more are here; less, if some have to be fetched again.
        @param expected: told of how many bytes more there will be.
        """
        self._cache = cache
        self._store = store
        self._running = running
        self._clock = clock
        self._platforms = platforms
        self._advanced = advanced
        self._expected = expected
        self._turns = DeferredSemaphore(jobs)
        self._count = 0

    async def image(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> Warmed:
        """One image, or index of images.

        @raise CrcacheError: if not all of it is to be had, or kept.
        """
        place = _Place(registry, repository)
        root = await self._manifest(place, reference)
        warmed = Warmed(root)
        await self._all(place, root, warmed, _DEEPEST)
        return warmed

    async def _all(self, place: _Place, manifest: Manifest, warmed: Warmed, depth: int) -> None:
        """Everything that a manifest names, of the platforms that are wanted."""
        assert manifest.body is not None
        if manifest.digest in warmed.new or manifest.digest in warmed.there:
            return
        held = warmed.there if manifest.cache in _HERE else warmed.new
        held[manifest.digest] = manifest.size
        document = read_document(manifest.body, manifest.media_type, str(manifest.digest))
        if not document.index:
            await _together(
                [self._blob(place, each.descriptor, warmed) for each in document.children if not each.optional]
            )
            return
        if not depth:
            raise ArchiveInvalid(f"{manifest.digest} is an index deeper down than images have")
        for child in self._chosen(document, manifest.digest, warmed):
            await self._all(place, await self._manifest(place, child.digest), warmed, depth - 1)

    def _chosen(self, document: Document, digest: Digest, warmed: Warmed) -> list[Descriptor]:
        offered = [each.platform for each in document.children]
        places: set[int] = set() if self._platforms else set(range(len(offered)))
        for wanted in self._platforms:
            found = choose(offered, wanted)
            if not found:
                there = ", ".join(sorted({str(each) for each in offered if each is not None and each.known}))
                raise ArchiveInvalid(f"{digest} has no image for {wanted}; it has some for {there or 'none'}")
            places.update(found)
        for number in sorted(places):
            platform = offered[number]
            if platform is not None and platform.known and platform not in warmed.platforms:
                warmed.platforms.append(platform)
        return [document.children[number].descriptor for number in sorted(places)]

    async def _manifest(self, place: _Place, reference: Tag | Digest) -> Manifest:
        found = await self._asked(lambda client: PullManifest(client, place.registry, place.repository, reference))
        if not isinstance(found, Manifest):
            raise StoreError(f"{reference} is no manifest")
        return found

    async def _blob(self, place: _Place, descriptor: Descriptor, warmed: Warmed) -> None:
        await self._turns.acquire()
        try:
            await self._blob_in_turn(place, descriptor, warmed)
        finally:
            self._turns.release()

    async def _blob_in_turn(self, place: _Place, descriptor: Descriptor, warmed: Warmed) -> None:
        digest = descriptor.digest
        if digest in warmed.new or digest in warmed.there:
            return
        size = descriptor.size or 0
        self._expected(size)
        for left in reversed(range(_TRIES)):
            try:
                here = await self._fetched(place, digest)
                break
            except _PASSING:
                if not left:
                    raise
                await deferLater(self._clock, _PAUSE)
        found = await self._settled(place, digest)
        if descriptor.size not in (None, found):
            raise OriginLied(f"{digest} has {found} bytes, not {descriptor.size} as its manifest says")
        (warmed.there if here else warmed.new)[digest] = found

    async def _fetched(self, place: _Place, digest: Digest) -> bool:
        """All bytes of a blob have been verified; whether they were here already."""
        outcome = await self._asked(lambda client: PullBlob(client, place.registry, place.repository, digest))
        if isinstance(outcome, Relayed):
            return await self._proved(outcome, digest)
        if not isinstance(outcome, Blob) or outcome.body is None:
            raise StoreError(f"{digest} cannot be had as a blob")
        progress = Following(outcome.body, self._clock, self._advanced)
        try:
            await progress.ended()
        except CrcacheError:
            progress.back()
            raise
        return outcome.cache is CacheStatus.HIT

    async def _proved(self, outcome: Relayed, digest: Digest) -> bool:
        """What is here is the repository's as well, if its origin sends all of it; anything else is not kept."""
        if outcome.proved is None:
            outcome.answer.abort()
            raise StoreError(f"{digest} cannot be kept: the cache directory fails")
        taken = Taken(digest, self._advanced)
        await outcome.answer.deliver(taken)
        if not taken.right:
            raise OriginLied(f"the origin sent something else for {digest}")
        outcome.proved(taken.count)
        return True

    async def _settled(self, place: _Place, digest: Digest) -> int:
        """The size of content that is verified, once it is in its place."""
        until = self._clock.seconds() + SETTLING
        while True:
            over = self._running(place.registry, digest) is None
            found = await self._store.find(digest)
            if found is not None and found.size is not None:
                return found.size
            if self._clock.seconds() > until or (over and await self._gone(digest)):
                raise StoreError(f"{digest} could not be kept: the cache directory is full, or fails")
            await deferLater(self._clock, LOOK)

    async def _gone(self, digest: Digest) -> bool:
        """Whether it is not there a moment later either: another process may have just put it there."""
        await deferLater(self._clock, 10 * LOOK)
        return await self._store.find(digest) is None

    async def _asked(self, ask: Callable[[Client], Ask]) -> Outcome:
        self._count += 1
        return await self._cache.handle(ask(Client(f"crcache-pull-{self._count}")))


@dataclass(frozen=True)
class _Place:
    registry: Registry
    repository: Repository


async def _together(work: Sequence[Any]) -> None:
    """All of it at once; the first failure, when all have ended."""
    results = await DeferredList([Deferred.fromCoroutine(each) for each in work], consumeErrors=True)
    for succeeded, result in results:
        if not succeeded:
            assert isinstance(result, Failure)
            result.raiseException()
