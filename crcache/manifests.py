"""The story of a manifest: by digest it never changes, by tag its origin says what it means now."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from twisted.logger import Logger

from crcache import events
from crcache.asks import PullManifest
from crcache.errors import Denied, ManifestUnknown, OriginRefused, StoreError, Unauthorized
from crcache.facts import Query, TagEntry
from crcache.flow.shared import Shared
from crcache.grammar.accept import accepts
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import ACCEPT, KNOWN, LIMIT
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IStore
from crcache.origin import FAILING
from crcache.outcomes import CacheStatus, Manifest
from crcache.policy.freshness import Freshness, Lately, judge, may_cache
from crcache.provenance import Provenance
from crcache.settings import Times

log = Logger()

T = TypeVar("T")

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True)
class Rules:
    """What the administrator wants kept, and for how long.

    @ivar times: of each registry.
    """

    cache_manifests: bool
    ignore: re.Pattern[str]
    times: Callable[[Registry], Times]


class Manifests:
    """Looks manifests up, and has what is missing or too old asked of the origin, once for all who ask the same."""

    def __init__(self, store: IStore, provenance: Provenance, rules: Rules, clock: Callable[[], float]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._store = store
        self._provenance = provenance
        self._rules = rules
        self._clock = clock
        self._absent: Lately[tuple[Method, Registry, Repository, Tag | Digest]] = Lately()
        self._moved = _Moved()
        self._gets: Shared[Manifest] = Shared()
        self._heads: Shared[Manifest | None] = Shared()
        self._checks: Shared[TagEntry | None] = Shared()

    async def pull(self, ask: PullManifest) -> Manifest:
        """The manifest that is asked for, with its body only if that is.

        @raise crcache.errors.CrcacheError: if it is not to be had.
        """
        try:
            return await self._pull(ask)
        except (Unauthorized, Denied):
            if ask.client.authorization is None:
                raise
            return await self._privately(ask)
        except OriginRefused as problem:
            # RFC 9110, 15.5.7: there is nothing that C{Accept}, which was crcache's own, would take.
            if problem.detail != {"status": 406} or not ask.client.accept:
                raise
            return await self._suiting(ask)

    async def _pull(self, ask: PullManifest) -> Manifest:
        if isinstance(ask.reference, Digest):
            return await self._by_digest(ask, ask.reference)
        if self._keeps(ask.reference):
            return await self._by_tag(ask, ask.reference)
        return replace(await self._anew(ask, ask.reference), cache=CacheStatus.BYPASS)

    async def _by_digest(self, ask: PullManifest, digest: Digest) -> Manifest:
        return await self._cached(ask, digest) or await self._asked(ask, digest)

    async def _cached(self, ask: PullManifest, digest: Digest) -> Manifest | None:
        """What is on disk, for this repository; C{None} also when the disk fails us, and for what is no manifest."""
        if not self._rules.cache_manifests:
            return None
        try:
            member = await self._store.member(ask.registry, ask.repository, digest)
            kind = None if member is None or not member.open else member.media_type
            if member is None or kind is None or not (kind in KNOWN or kind.endswith("+json")):
                return None
            body = await self._store.read(digest, LIMIT)
        except StoreError as problem:
            _failed("reading the cache", ask, problem)
            return None
        # Of what only another manifest names, the type has to be what it says of itself.
        if body is None or not ((kind in KNOWN and not member.named) or await self._provenance.declared(body, kind)):
            return None
        age = None if member.since is None else max(self._clock() - member.since, 0.0)
        return Manifest(digest, kind, len(body), body if ask.body else None, CacheStatus.HIT, age)

    async def _by_tag(self, ask: PullManifest, tag: Tag) -> Manifest:
        entry = await self._entry(ask, tag)
        if entry is None:
            return await self._anew(ask, tag)
        freshness = judge(entry.checked, self._clock(), self._rules.times(ask.registry))
        if freshness is Freshness.FRESH:
            return await self._meant(ask, tag, entry, CacheStatus.HIT)
        try:
            return await self._revalidated(ask, tag, entry)
        except FAILING as problem:
            if freshness is Freshness.EXPIRED:
                raise
            log.info(
                "serving the stale {registry}/{repository}:{reference}: {problem} (request {request_id})",
                event=events.STALE_SERVED,
                problem=problem.message,
                **events.about(ask),
            )
            return await self._meant(ask, tag, entry, CacheStatus.STALE_IF_ERROR)

    async def _entry(self, ask: PullManifest, tag: Tag) -> TagEntry | None:
        try:
            return await self._store.tag(ask.registry, ask.repository, tag)
        except StoreError as problem:
            _failed("reading the cache", ask, problem)
            return None

    async def _revalidated(self, ask: PullManifest, tag: Tag, old: TagEntry) -> Manifest:
        """What a tag means by now. A new meaning is noted with its manifest, lest the old one be lost for nothing."""
        query = self._query(ask, tag, "HEAD")
        self._check_presence(ask, tag, "GET")

        async def check() -> TagEntry | None:
            try:
                head = await self._provenance.head(query, None, None)
            except ManifestUnknown:
                # That of a GET alone is believed of a tag that was there.
                return None
            if head is None:
                return None
            entry = TagEntry(head.digest, head.media_type, head.size, self._clock())
            if entry.digest == old.digest:
                await self._provenance.retag(query, tag, entry)
            return entry

        self._moved.forget(ask, tag)
        entry = await self._checks.join(self._key(ask, tag), check)
        if entry is None:
            found = await self._anew(replace(ask, body=True), tag)
            return replace(found, body=found.body if ask.body else None)
        found = await self._meant(ask, tag, entry, CacheStatus.STALE)
        if entry.digest != old.digest:
            if await self._cached(ask, entry.digest) is not None:
                await self._provenance.retag(query, tag, entry)
            elif not ask.body:
                self._moved.add(ask, tag, entry)
        return found

    async def _meant(self, ask: PullManifest, tag: Tag, entry: TagEntry, cache: CacheStatus) -> Manifest:
        """What a tag's entry says, if the client takes that media type; else what the origin has for its `Accept`."""
        if not accepts(ask.client.accept, entry.media_type):
            return await self._suiting(ask)
        age = max(self._clock() - entry.checked, 0.0) if cache.label == "hit" else None
        if not ask.body:
            return Manifest(entry.digest, entry.media_type, entry.size, None, cache, age)
        try:
            found = await self._by_digest(ask, entry.digest)
        except ManifestUnknown:
            # Neither disk nor origin have what the tag meant: by now it means something else, or nothing.
            return await self._anew(ask, tag)
        return replace(found, cache=cache, age=age) if found.cache is CacheStatus.HIT else found

    # Asking

    async def _anew(self, ask: PullManifest, tag: Tag) -> Manifest:
        """What the origin says that a tag means, in a media type that the client takes."""
        self._moved.forget(ask, tag)
        found = await self._asked(ask, tag)
        return found if accepts(ask.client.accept, found.media_type) else await self._suiting(ask)

    async def _asked(self, ask: PullManifest, reference: Tag | Digest) -> Manifest:
        """Ask the origin in crcache's own way."""
        self._check_presence(ask, reference, "GET" if ask.body else "HEAD")
        key = self._key(ask, reference)
        tag = reference if isinstance(reference, Tag) and self._keeps(reference) else None
        if not ask.body:
            query = self._query(ask, reference, "HEAD")
            asking = self._provenance.head
            head = await self._heads.join(key, lambda: self._noting(ask, reference, "HEAD", asking(query, tag, None)))
            if head is not None:
                return head
        joined = key in self._gets
        get = self._query(ask, reference, "GET")
        fetch = self._provenance.fetch
        found = await self._gets.join(key, lambda: self._noting(ask, reference, "GET", fetch(get, tag, None)))
        for moved, entry in self._moved.take(ask, found.digest):
            await self._provenance.retag(get, moved, entry)
        if joined:
            found = replace(found, cache=CacheStatus.COLLAPSED)
        return found if ask.body else replace(found, body=None)

    async def _privately(self, ask: PullManifest) -> Manifest:
        """With the client's own credentials, since crcache's own way was refused: for this client, and not kept."""
        found = await self._apart(ask, ACCEPT, refused=True)
        suits = isinstance(ask.reference, Digest) or accepts(ask.client.accept, found.media_type)
        return found if suits else await self._apart(ask, ask.client.accept, refused=True)

    async def _suiting(self, ask: PullManifest) -> Manifest:
        """With the client's own `Accept`: kept by digest alone, so that no client's headers change what others get."""
        return await self._apart(ask, ask.client.accept, refused=False)

    async def _apart(self, ask: PullManifest, accept: tuple[str, ...], *, refused: bool) -> Manifest:
        authorization = ask.client.authorization if refused else None
        get = replace(self._query(ask, ask.reference, "GET"), accept=accept, authorization=authorization)
        if not ask.body:
            head = await self._provenance.head(replace(get, method="HEAD"), None, ask.client)
            if head is not None:
                return replace(head, cache=CacheStatus.BYPASS)
        found = await self._provenance.fetch(get, None, ask.client)
        return replace(found, body=found.body if ask.body else None, cache=CacheStatus.BYPASS)

    def _keeps(self, reference: Tag | Digest) -> bool:
        if isinstance(reference, Digest):
            return self._rules.cache_manifests
        return may_cache(reference, self._rules.ignore, self._rules.cache_manifests)

    @staticmethod
    def _key(ask: PullManifest, reference: Tag | Digest) -> tuple[Registry, Repository, Tag | Digest]:
        return ask.registry, ask.repository, reference

    @staticmethod
    def _query(ask: PullManifest, reference: Tag | Digest, method: Method) -> Query:
        return Query(ask.registry, ask.repository, "manifest", reference, ask.client.request_id, method, ACCEPT)

    # What is not there

    def _check_presence(self, ask: PullManifest, reference: Tag | Digest, method: Method) -> None:
        if self._absent.holds((method, *self._key(ask, reference)), self._clock()):
            raise ManifestUnknown(f"{ask.registry} said lately that it has no manifest {reference} of {ask.repository}")

    async def _noting(
        self, ask: PullManifest, reference: Tag | Digest, method: Method, asking: Coroutine[Any, Any, T]
    ) -> T:
        """What comes of asking in crcache's own way. A 404 is remembered: a HEAD's for HEADs alone, as some origins
        answer them all so; a GET's for both, and a tag forgotten."""
        try:
            return await asking
        except ManifestUnknown:
            if self._keeps(reference):
                ttl = self._rules.times(ask.registry).negative_ttl
                methods: tuple[Method, ...] = ("HEAD",) if method == "HEAD" else ("HEAD", "GET")
                for each in methods:
                    self._absent.add((each, *self._key(ask, reference)), self._clock(), ttl)
            if method == "GET" and isinstance(reference, Tag):
                try:
                    await self._store.forget_tag(ask.registry, ask.repository, reference)
                except StoreError as problem:
                    _failed("forgetting a tag", ask, problem)
            raise


def _failed(what: str, ask: PullManifest, problem: StoreError) -> None:
    """A disk that fails fails no pull, but is told of."""
    told, fields = "{what} failed: {problem} (request {request_id})", events.about(ask)
    log.warn(told, event=events.CACHE_FAILED, what=what, problem=problem.message, **fields)


class _Moved:
    """Tags that a HEAD has found to mean something else than before, until the manifest has come as well."""

    _MOST = 1024

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[Registry, Repository, Tag], TagEntry] = OrderedDict()

    def add(self, ask: PullManifest, tag: Tag, entry: TagEntry) -> None:
        """The manifest is still to come; of too many, the oldest are forgotten."""
        self._entries[ask.registry, ask.repository, tag] = entry
        if len(self._entries) > self._MOST:
            self._entries.popitem(last=False)

    def forget(self, ask: PullManifest, tag: Tag) -> None:
        """The tag is looked up again. Idempotent."""
        self._entries.pop((ask.registry, ask.repository, tag), None)

    def take(self, ask: PullManifest, digest: Digest) -> list[tuple[Tag, TagEntry]]:
        """The tags of this repository that mean a manifest which has come."""
        here = ask.registry, ask.repository
        found = [key for key, entry in self._entries.items() if key[:2] == here and entry.digest == digest]
        return [(key[2], self._entries.pop(key)) for key in found]
