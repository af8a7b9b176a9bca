"""The story of a manifest: by digest it never changes, by tag its origin says what it means now."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from twisted.logger import Logger

from crcache import events
from crcache.absences import Absences, Method
from crcache.access import Access
from crcache.apart import Apart, question
from crcache.asks import PullManifest
from crcache.errors import Denied, ManifestUnknown, OriginError, OriginRefused, StoreError, Unauthorized
from crcache.facts import TagEntry
from crcache.flow.shared import Shared
from crcache.grammar.accept import accepts
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import KNOWN, LIMIT
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IStore
from crcache.moved import Moved
from crcache.origin import FAILING
from crcache.outcomes import CacheStatus, Manifest
from crcache.policy.access import Right
from crcache.policy.freshness import Freshness
from crcache.provenance import Provenance
from crcache.rules import Rules
from crcache.telling import cache_failed

log = Logger()

T = TypeVar("T")

#: Seconds by which two times are equal of which one is from an `Age`, which is of whole seconds and has travelled.
_ROUNDING = 2.0


class Manifests:
    """Looks manifests up, and has what is missing or too old asked of the origin, once for all who ask the same."""

    def __init__(
        self, store: IStore, provenance: Provenance, access: Access, rules: Rules, clock: Callable[[], float]
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._store = store
        self._access = access
        self._provenance = provenance
        self._rules = rules
        self._clock = clock
        self._absences = Absences(clock)
        self._apart = Apart(provenance, rules.keep, self._cached)
        self._moved = Moved()
        self._gets: Shared[Manifest] = Shared()
        self._heads: Shared[Manifest | None] = Shared()
        self._checks: Shared[TagEntry | None] = Shared()

    async def pull(self, ask: PullManifest) -> Manifest:
        """The manifest that is asked for, with its body only if that is.

        @raise crcache.errors.CrcacheError: if it is not to be had.
        """
        try:
            return await self._opened(ask, lambda: self._pull(ask))
        except OriginRefused as problem:
            # RFC 9110, 15.5.7: there is nothing that C{Accept}, which was crcache's own, would take.
            if problem.detail != {"status": 406} or not ask.client.accept:
                raise
            return await self._apart.suiting(ask)

    async def _opened(self, ask: PullManifest, own: Callable[[], Coroutine[Any, Any, Manifest]]) -> Manifest:
        """What crcache's own way gets; if that is refused, what the client's credentials get."""
        try:
            return await own()
        except (Unauthorized, Denied, ManifestUnknown) as problem:
            if ask.client.authorization is None or problem.settled:
                raise
            # A 404 may be what a private repository answers strangers.
            if isinstance(problem, ManifestUnknown) and not await self._access.refused(ask):
                raise
            return await self._apart.privately(ask)

    async def _pull(self, ask: PullManifest) -> Manifest:
        if isinstance(ask.reference, Digest):
            return await self._by_digest(ask, ask.reference)
        if self._rules.keep(ask.reference):
            return await self._by_tag(ask, ask.reference)
        return await self._each_time(ask, ask.reference)

    async def _each_time(self, ask: PullManifest, tag: Tag) -> Manifest:
        """What the origin says a tag means that nothing is noted of; if it fails, what it meant if it is pinned."""
        try:
            return await self._opened(ask, lambda: self._past(ask, tag))
        except FAILING as problem:
            entry = await self._entry(ask, tag) if self._rules.cache_manifests else None
            if entry is None or not entry.pinned:
                raise
            if self._access.tag(ask, entry) is Right.GRANTED and not await self._access.known(ask):
                raise
            return await self._stale(ask, tag, entry, problem)

    async def _past(self, ask: PullManifest, tag: Tag) -> Manifest:
        return replace(await self._anew(ask, tag), cache=CacheStatus.BYPASS)

    async def _by_digest(self, ask: PullManifest, digest: Digest) -> Manifest:
        return await self._cached(ask, digest) or await self._asked(ask, digest)

    async def _cached(self, ask: PullManifest, digest: Digest) -> Manifest | None:
        """What is on disk, for this repository and this client; C{None} also when the disk fails us, and for what is
        no manifest."""
        if not self._rules.cache_manifests:
            return None
        try:
            holding = await self._access.holding(ask, digest)
            member, right = holding.member, self._access.content(ask, holding)
            kind = None if member is None or right is Right.UNPROVEN else member.media_type
            if member is None or kind is None or not (kind in KNOWN or kind.endswith("+json")):
                return None
            body = await self._store.read(digest, LIMIT)
        except StoreError as problem:
            cache_failed(log, "reading the cache", ask, problem)
            return None
        # Of what only another manifest names, the type has to be what it says of itself.
        if body is None or not ((kind in KNOWN and not member.named) or await self._provenance.declared(body, kind)):
            return None
        if right is Right.GRANTED and not await self._access.admits(ask, question(ask, digest, "HEAD")):
            return None
        age = None if member.since is None else max(self._clock() - member.since, 0.0)
        return Manifest(digest, kind, len(body), body if ask.body else None, CacheStatus.HIT, age)

    async def _by_tag(self, ask: PullManifest, tag: Tag) -> Manifest:
        entry = await self._entry(ask, tag)
        if entry is None:
            return await self._anew(ask, tag)
        if self._access.tag(ask, entry) is Right.GRANTED:
            return await self._granted(ask, tag, entry)
        freshness = self._rules.freshness(ask.registry, entry, self._clock())
        if freshness is Freshness.FRESH:
            return await self._meant(ask, tag, entry, CacheStatus.HIT)
        try:
            return await self._revalidated(ask, tag, entry)
        except FAILING as problem:
            return await self._stale(ask, tag, entry, problem)
        except (Unauthorized, Denied) as problem:
            if not self._access.anyone(ask):
                raise
            return await self._for_anyone(ask, tag, entry, problem)

    async def _for_anyone(self, ask: PullManifest, tag: Tag, entry: TagEntry, problem: OriginError) -> Manifest:
        """What a tag means that only clients' credentials can renew: as it was known, if this client has none."""
        try:
            if ask.client.authorization is None:
                raise problem
            return await self._apart.privately(ask)
        except (Unauthorized, Denied, *FAILING) as refused:
            return await self._stale(ask, tag, entry, refused)

    async def _granted(self, ask: PullManifest, tag: Tag, entry: TagEntry) -> Manifest:
        """What a private tag's entry says, to clients whom the origin lets in; it says so to others itself."""
        freshness = self._rules.freshness(ask.registry, entry, self._clock())
        if freshness is Freshness.FRESH and await self._access.admits(ask, question(ask, tag, "HEAD")):
            return await self._meant(ask, tag, entry, CacheStatus.HIT)
        try:
            return await self._opened(ask, lambda: self._anew(ask, tag))
        except FAILING as problem:
            if not await self._access.known(ask):
                raise
            return await self._stale(ask, tag, entry, problem)

    async def _stale(self, ask: PullManifest, tag: Tag, entry: TagEntry, problem: OriginError) -> Manifest:
        """What the entry says all the same, since its origin fails; if it is not too old for that."""
        if self._rules.freshness(ask.registry, entry, self._clock()) is Freshness.EXPIRED:
            raise problem
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
            cache_failed(log, "reading the cache", ask, problem)
            return None

    async def _revalidated(self, ask: PullManifest, tag: Tag, old: TagEntry) -> Manifest:
        """What a tag means by now. A new meaning is noted with its manifest, lest the old one be lost for nothing."""
        query = question(ask, tag, "HEAD")
        self._absences.check(ask, tag, "GET")

        async def check() -> TagEntry | None:
            try:
                head = await self._provenance.head(query, None, None)
                if head is not None and head.age and self._clock() - head.age < old.checked - _ROUNDING:
                    # A parent knows less than is known here.
                    head = await self._provenance.head(replace(query, turn=1), None, None)
            except ManifestUnknown:
                # That of a GET alone is believed of a tag that was there.
                return None
            if head is None:
                return None
            entry = TagEntry(head.digest, head.media_type, head.size, self._clock() - (head.age or 0.0))
            if entry.digest == old.digest:
                await self._provenance.retag(query, tag, entry)
            return entry

        self._moved.forget(ask, tag)
        entry = await self._checks.join(self._key(ask, tag), check, query)
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
            return await self._apart.suiting(ask)
        known = max(self._clock() - entry.checked, 0.0)
        # Of what an origin has just said there is none; a parent may have known it for a while.
        age = known if cache.label == "hit" or known >= 1 else None
        if not ask.body:
            return Manifest(entry.digest, entry.media_type, entry.size, None, cache, age)
        try:
            found = await self._by_digest(ask, entry.digest)
        except ManifestUnknown:
            # Neither disk nor origin have what the tag meant: by now it means something else, or nothing.
            return await self._anew(ask, tag)
        return replace(found, cache=cache if found.cache is CacheStatus.HIT else found.cache, age=age)

    # Asking

    async def _anew(self, ask: PullManifest, tag: Tag) -> Manifest:
        """What the origin says that a tag means, in a media type that the client takes."""
        self._moved.forget(ask, tag)
        found = await self._asked(ask, tag)
        return found if accepts(ask.client.accept, found.media_type) else await self._apart.suiting(ask)

    async def _asked(self, ask: PullManifest, reference: Tag | Digest) -> Manifest:
        """Ask the origin in crcache's own way."""
        self._absences.check(ask, reference, "GET" if ask.body else "HEAD")
        key = self._key(ask, reference)
        tag = reference if isinstance(reference, Tag) and self._rules.keep(reference) else None
        if not ask.body:
            query = question(ask, reference, "HEAD")
            asking = self._provenance.head
            head = await self._heads.join(
                key, lambda: self._noting(ask, reference, "HEAD", asking(query, tag, None)), query
            )
            if head is not None:
                return head
        joined = key in self._gets
        get = question(ask, reference, "GET")
        fetch = self._provenance.fetch
        found = await self._gets.join(key, lambda: self._noting(ask, reference, "GET", fetch(get, tag, None)), get)
        for moved, entry in self._moved.take(ask, found.digest):
            await self._provenance.retag(get, moved, entry)
        if joined:
            found = replace(found, cache=CacheStatus.COLLAPSED)
        return found if ask.body else replace(found, body=None)

    @staticmethod
    def _key(ask: PullManifest, reference: Tag | Digest) -> tuple[Registry, Repository, Tag | Digest]:
        return ask.registry, ask.repository, reference

    async def _noting(
        self, ask: PullManifest, reference: Tag | Digest, method: Method, asking: Coroutine[Any, Any, T]
    ) -> T:
        """What comes of asking in crcache's own way; a 404 is remembered, and after a GET's the tag forgotten.

        Not so of a private repository: there it may be what strangers are answered.
        """
        try:
            return await asking
        except ManifestUnknown:
            if await self._access.refused(ask):
                raise
            if self._rules.keep(reference):
                self._absences.add(ask, reference, method, self._rules.times(ask.registry).negative_ttl)
            if method == "GET" and isinstance(reference, Tag):
                try:
                    await self._store.forget_tag(ask.registry, ask.repository, reference)
                except StoreError as problem:
                    cache_failed(log, "forgetting a tag", ask, problem)
            raise
