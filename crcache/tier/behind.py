"""What becomes of a store's questions that the disk cannot answer, and of what it is told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.errors import OriginLied, StoreError
from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import KNOWN, LIMIT, parse_manifest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IStore
from crcache.policy.freshness import Lately
from crcache.tier.noting import Noting
from crcache.tier.remote import Remote, Unknown
from crcache.workers import Workers

log = Logger()

T = TypeVar("T")

#: Seconds for which what was heard here counts for more than what others have noted in the bucket.
HEARD = 600.0
#: Seconds after which a tag that means the same is noted in the bucket again, with its newer time.
REFRESH = 3600.0
_MOST = 65536


class Behind:
    """Looks in the bucket, and notes on disk what it finds, so that the next look is here.

    What it takes from there is what a repository's own origin has shown somebody: a membership counts for what it says
    of that very repository, and a repository that is noted as private there is private here.
    """

    def __init__(
        self, disk: IStore, remote: Remote, noting: Noting, parsing: Workers, clock: Callable[[], float]
    ) -> None:
        """
        @param noting: has what is new here uploaded.
        @param parsing: threads that parse.
        @param clock: any time, in seconds.
        """
        self.remote = remote
        self._disk = disk
        self._noting = noting
        self._parsing = parsing
        self._clock = clock
        self._opened: Lately[tuple[Registry, Repository]] = Lately()
        self._forgotten: Lately[tuple[Registry, Repository, Tag]] = Lately()
        self._tags: OrderedDict[tuple[Registry, Repository, Tag], tuple[Digest, float]] = OrderedDict()

    # Questions, each with what the disk has answered

    def read(self, found: bytes | None, digest: Digest, limit: int) -> Any:
        """As L{IStore.read}."""
        return found if found is not None else Deferred.fromCoroutine(self._read(digest, limit))

    async def _read(self, digest: Digest, limit: int) -> bytes | None:
        try:
            data = await self.remote.content(digest, limit)
        except Unknown:
            return None
        if data is not None:
            try:
                await self._disk.put(digest, data)
            except StoreError as problem:
                _not_noted(f"keeping {digest}", problem)
        return data

    def holding(self, found: Holding, registry: Registry, repository: Repository, digest: Digest) -> Any:
        """As L{IStore.holding}."""
        member = found.member
        if member is not None and (member.fetched is not Fetched.NEVER or (member.open and found.given)):
            return found
        return Deferred.fromCoroutine(self._holding(found, registry, repository, digest))

    async def _holding(self, found: Holding, registry: Registry, repository: Repository, digest: Digest) -> Holding:
        try:
            if not await self._learned(found, registry, repository, digest):
                return found
        except Unknown:
            return found
        except StoreError as problem:
            _not_noted(f"noting {digest} of {registry}/{repository}", problem)
            return found
        return await self._disk.holding(registry, repository, digest)

    async def _learned(self, found: Holding, registry: Registry, repository: Repository, digest: Digest) -> bool:
        """Whether there is more to know of a repository and a digest than before."""
        theirs = await self.remote.member(registry, repository, digest)
        if theirs is not None and theirs.fetched is not Fetched.NEVER:
            privacy = await self._privacy(registry, repository)
            await self._believe(registry, repository, theirs, privacy)
            if theirs.media_type in KNOWN:
                await self._name_children(registry, repository, theirs)
            return True
        member = found.member
        if member is None or not member.open or found.given or found.privacy is not None:
            return False
        # It but names it, which is enough for what is everybody's.
        giver = await self.remote.giver(digest)
        if giver is None or giver == (registry, repository):
            return False
        given = await self.remote.member(*giver, digest)
        private = await self._privacy(*giver) or await self._disk.privacy(*giver)
        if given is None or given.fetched is not Fetched.OPENLY or private is not None:
            return False
        await self._believe(*giver, given, None)
        return True

    async def _privacy(self, registry: Registry, repository: Repository) -> Privacy | None:
        """What the bucket has noted, unless its origin has told this process otherwise since."""
        if self._opened.holds((registry, repository), self._clock()):
            return None
        return await self.remote.privacy(registry, repository)

    async def _believe(
        self, registry: Registry, repository: Repository, member: Membership, privacy: Privacy | None
    ) -> None:
        self._noting.known(registry, repository, member)
        if privacy is not None:
            # It is noted of repositories alone of which something is known; and before what it closes.
            closed = replace(member, open=False, fetched=Fetched.NEVER, named=True)
            await self._disk.enrol(registry, repository, [closed])
            await self._disk.set_privacy(registry, repository, privacy)
        await self._disk.enrol(registry, repository, [member])

    async def _name_children(self, registry: Registry, repository: Repository, member: Membership) -> None:
        """What a manifest names is its repository's, as when it comes from the origin."""
        body = await self._disk.read(member.digest, LIMIT)
        if body is None:
            body = await self._read(member.digest, LIMIT)
        if body is None:
            return
        try:
            manifest = await self._parsing.run(parse_manifest, body, member.media_type)
        except OriginLied:
            return
        named = [
            Membership(child.digest, child.media_type, child.size, member.open, named=True)
            for child in manifest.children
        ]
        await self._disk.enrol(registry, repository, named)

    def tag(self, found: TagEntry | None, registry: Registry, repository: Repository, tag: Tag) -> Any:
        """As L{IStore.tag}."""
        if found is not None or self._forgotten.holds((registry, repository, tag), self._clock()):
            return found
        return Deferred.fromCoroutine(self._tag(registry, repository, tag))

    async def _tag(self, registry: Registry, repository: Repository, tag: Tag) -> TagEntry | None:
        try:
            entry = await self.remote.tag(registry, repository, tag)
            privacy = None if entry is None else await self._privacy(registry, repository)
        except Unknown:
            return None
        if entry is None:
            return None
        if privacy is not None:
            entry = replace(entry, open=False)
        try:
            await self._disk.set_tag(registry, repository, tag, entry)
            if privacy is not None:
                await self._disk.set_privacy(registry, repository, privacy)
            return await self._disk.tag(registry, repository, tag) or entry
        except StoreError as problem:
            _not_noted(f"noting the tag {tag} of {registry}/{repository}", problem)
            return entry

    # News

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> Deferred[None]:
        """As L{IStore.set_tag}. Its time alone is not uploaded whenever its origin confirms it."""
        key = registry, repository, tag

        def noted(_: None) -> Deferred[None] | None:
            self._forgotten.forget(key)
            digest, when = self._tags.get(key, (None, 0.0))
            if digest == entry.digest and self._clock() - when < REFRESH:
                return None
            self._tags[key] = entry.digest, self._clock()
            self._tags.move_to_end(key)
            if len(self._tags) > _MOST:
                self._tags.popitem(last=False)
            return self._noting.tag(registry, repository, tag)

        return self._disk.set_tag(registry, repository, tag, entry).addCallback(noted)

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> Deferred[None]:
        """As L{IStore.forget_tag}."""
        self._forgotten.add((registry, repository, tag), self._clock(), HEARD)
        self._tags.pop((registry, repository, tag), None)

        def gone(_: None) -> Deferred[None]:
            return self._noting.tag(registry, repository, tag, gone=True)

        return self._disk.forget_tag(registry, repository, tag).addCallback(gone)

    def set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> Deferred[None]:
        """As L{IStore.set_privacy}. What changes nothing is not uploaded."""
        if privacy is None:
            self._opened.add((registry, repository), self._clock(), HEARD)
        else:
            self._opened.forget((registry, repository))
        return Deferred.fromCoroutine(self._set_privacy(registry, repository, privacy))

    async def _set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> None:
        before = await self._disk.privacy(registry, repository)
        await self._disk.set_privacy(registry, repository, privacy)
        after = None if privacy is None else await self._disk.privacy(registry, repository)
        if (before is None) != (after is None) or (before and after and before.challenges != after.challenges):
            await self._noting.privacy(registry, repository, gone=after is None)


def _not_noted(what: str, problem: StoreError) -> None:
    told = "{what} from the bucket failed: {problem}"
    log.warn(told, event=events.CACHE_FAILED, what=what, problem=problem.message)
