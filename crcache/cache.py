"""The story, told once: look up, serve or fill or relay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.asks import Ask, ListReferrers, ListTags, Ping, PullBlob, PullManifest
from crcache.bypass import Bypass
from crcache.errors import Denied, OriginError, OriginLied, OriginRefused, StoreError, Unauthorized
from crcache.facts import Membership, Query, Verdict
from crcache.flow.answers import lines
from crcache.flow.collect import dismiss
from crcache.flow.fill import Fill
from crcache.flow.fills import Fills
from crcache.flow.shared import Shared
from crcache.flow.verify import verify
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody, ICache, IStore
from crcache.manifests import Manifests
from crcache.origin import Origin
from crcache.outcomes import Blob, CacheStatus, Outcome, Pong, Relayed
from crcache.policy.freshness import Lately
from crcache.rest import Rest
from crcache.workers import Workers

log = Logger()

#: Seconds for which content that has been hashed is not hashed again, whoever doubts it.
_TRUSTED = 600.0

#: Bytes beyond the front of another process's fill, from which on a range does not wait for it.
_FAR = 8 << 20


@implementer(ICache)
class Cache:
    """What becomes of each ask."""

    def __init__(
        self,
        store: IStore,
        origin: Origin,
        fills: Fills,
        manifests: Manifests,
        hashing: Workers,
        clock: Callable[[], float],
    ) -> None:
        """
        @param hashing: threads that hash whole files.
        @param clock: the time of day, in seconds since the epoch.
        """
        self._store = store
        self._origin = origin
        self._fills = fills
        self._bypass = Bypass(origin, store)
        self._manifests = manifests
        self._hashing = hashing
        self._clock = clock
        self._checks: Shared[bool] = Shared()
        self._hashed: Lately[tuple[Digest, int | None]] = Lately()

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}."""
        return Deferred.fromCoroutine(self._handle(ask))

    async def _handle(self, ask: Ask) -> Outcome:
        match ask:
            case Ping():
                return Pong()
            case PullManifest():
                return await self._manifests.pull(ask)
            case PullBlob():
                return await self._blob(ask)
            case ListTags() | ListReferrers():
                return await self._list(ask)

    async def _list(self, ask: ListTags | ListReferrers) -> Relayed:
        tags = isinstance(ask, ListTags)
        query = Query(
            ask.registry,
            ask.repository,
            "tags" if tags else "referrers",
            None if isinstance(ask, ListTags) else ask.digest,
            ask.client.request_id,
            accept=ask.client.accept,
            parameters=ask.parameters,
        )
        return Relayed((await self._origin.ask(query, ask.client)).answer, None)

    # Blobs

    async def _blob(self, ask: PullBlob) -> Outcome:
        try:
            member = await self._store.member(ask.registry, ask.repository, ask.digest)
            body = await self._store.find(ask.digest)
        except StoreError as problem:
            log.warn(
                "reading the cache failed: {problem} (request {request_id})",
                event=events.CACHE_FAILED,
                problem=problem.message,
                **events.about(ask),
            )
            return await self._relay(ask)
        known = member if member is not None and member.open else self._promised(ask)
        if body is not None:
            try:
                known = known or await self._confirmed(ask, body)
            except StoreError as problem:
                log.warn(
                    "reading the cache failed: {problem} (request {request_id})",
                    event=events.CACHE_FAILED,
                    problem=problem.message,
                    **events.about(ask),
                )
            if known is None:
                return await self._relay(ask, size=body.size)
            body = await self._sound(ask, known, body)
        if body is not None and known is not None:
            age = 0.0 if known.since is None else max(self._clock() - known.since, 0.0)
            if not ask.body:
                return Blob(ask.digest, body.size, None, CacheStatus.HIT, age)
            return Blob(ask.digest, body.size, body, CacheStatus.HIT, age, rest=self._rest(ask, body.size))
        return await self._miss(ask, known) if ask.body else await self._head(ask)

    def _promised(self, ask: PullBlob) -> Membership | None:
        """What a fetch through this repository, which is not noted yet, has proved."""
        fill = self._fills.running(ask.registry, ask.digest)
        return Membership(ask.digest, None, fill.size) if fill and ask.repository in fill.confirmed else None

    async def _sound(self, ask: PullBlob, member: Membership, body: IBody) -> IBody | None:
        """A file of another size than was said, or whose size nobody said, is hashed before it is served."""
        if member.size == body.size:
            return body
        try:
            if await self._right(body, ask.digest):
                if member.open:
                    await self._enrol(ask, body.size)
                return body
            log.warn(
                "{digest} was damaged on disk; it is fetched again (request {request_id})",
                event=events.CONTENT_DAMAGED,
                **events.about(ask),
            )
            await self._store.drop(ask.digest, body)
        except StoreError as problem:
            log.warn(
                "reading the cache failed: {problem} (request {request_id})",
                event=events.CACHE_FAILED,
                problem=problem.message,
                **events.about(ask),
            )
        return None

    async def _right(self, body: IBody, digest: Digest) -> bool:
        """Whether committed content is what its digest says; hashed once, however many ask, and not again soon.

        @raise StoreError: if it cannot be read.
        """
        key = digest, body.size
        if self._hashed.holds(key, self._clock()):
            return True

        async def check() -> bool:
            return await self._hashing.run(verify, body, digest)

        right = await self._checks.join(key, check)
        if right:
            self._hashed.add(key, self._clock(), _TRUSTED)
        return right

    async def _confirmed(self, ask: PullBlob, body: IBody) -> Membership | None:
        """What the origin's HEAD says of this repository's holding the blob; C{None} if only a GET would tell.

        @param body: the content that is here.
        @raise crcache.errors.OriginError: if it says no, or nothing.
        @raise StoreError: if the content cannot be read.
        """
        try:
            return await self._asked(ask, body)
        except (OriginRefused, Denied, OriginLied):
            # Signed links are often good for GET alone.
            return None

    async def _asked(self, ask: PullBlob, body: IBody | None) -> Membership:
        """The origin's own HEAD; noted, if the answer is for everyone.

        @raise OriginLied: if it speaks of something else.
        """
        granted = await self._origin.ask(self._query(ask, head=True), ask.client)
        dismiss(granted.answer, head=True)
        said, digests = granted.answer.length, lines(granted.answer, "Docker-Content-Digest")
        other = any(each.strip() != str(ask.digest) for each in digests)
        if body is not None and None not in (said, body.size) and said != body.size:
            # Either our file is damaged, or the origin means something else.
            other = other or body.verdict is Verdict.FILLING or await self._right(body, ask.digest)
        if granted.answer.status != 200 or other:
            raise OriginLied(f"{ask.registry} speaks of something else than {ask.digest}; ask it with GET")
        if granted.open:
            await self._enrol(ask, said)
        return Membership(ask.digest, None, said, granted.open)

    async def _enrol(self, ask: PullBlob, size: int | None) -> None:
        try:
            await self._store.enrol(ask.registry, ask.repository, [Membership(ask.digest, None, size)])
        except StoreError as problem:
            log.warn(
                "noting {digest} failed: {problem} (request {request_id})",
                event=events.CACHE_FAILED,
                **events.about(ask),
                problem=problem.message,
            )

    async def _head(self, ask: PullBlob) -> Blob:
        """A blob's body is never fetched for a HEAD."""
        return Blob(ask.digest, (await self._asked(ask, None)).size, None, CacheStatus.MISS)

    async def _miss(self, ask: PullBlob, member: Membership | None) -> Outcome:
        joined = self._fills.running(ask.registry, ask.digest) is not None
        size = None if member is None else member.size
        fill = self._fills.begin(self._query(ask), size)
        try:
            await fill.opened()
        except OriginError as problem:
            # Credentials of its own may open it for the client; and another repository's refusal is not this one's.
            same = fill.query.repository == ask.repository
            refused = same and isinstance(problem, Unauthorized | Denied)
            if same and not (refused and ask.client.authorization is not None):
                raise
            return await self._relay(ask, refused=refused, size=size)
        except StoreError as problem:
            log.warn(
                "not caching {digest}: {problem} (request {request_id})",
                event=events.NOT_KEPT,
                **events.about(ask),
                problem=problem.message,
            )
            return await self._relay(ask, size=size)
        # Another repository's fill, or another process's, or one that needed no bytes, proves nothing for this one.
        if member is None and ask.repository not in fill.confirmed and await self._confirmed(ask, fill) is None:
            return await self._relay(ask, size=fill.size)
        if fill.follows and _far(fill, ask.span):
            # Whoever fetches it comes there late, and does not know that somebody waits.
            return await self._relay(ask)
        status = CacheStatus.COLLAPSED if joined else CacheStatus.STORED
        return Blob(ask.digest, fill.size, fill, status, following=joined, rest=self._rest(ask, fill.size))

    async def _relay(self, ask: PullBlob, *, refused: bool = False, size: int | None = None) -> Outcome:
        """Straight from the origin, kept nowhere.

        @param refused: crcache's own way has been, just now; only the client's is left.
        @param size: the blob's, as far as it is known.
        """
        query = self._query(ask)
        if refused:
            query = replace(query, authorization=ask.client.authorization)
        return await self._bypass.blob(ask, query, size)

    def _rest(self, ask: PullBlob, size: int | None) -> Rest:
        return Rest(self._origin, self._store, self._query(ask), ask.client, size)

    @staticmethod
    def _query(ask: PullBlob, *, head: bool = False) -> Query:
        method: Literal["GET", "HEAD"] = "HEAD" if head else "GET"
        return Query(ask.registry, ask.repository, "blob", ask.digest, ask.client.request_id, method)


def _far(fill: Fill, span: tuple[int, int | None] | None) -> bool:
    """Whether a range begins where nothing is, far beyond the front."""
    return span is not None and span[0] >= fill.front() + _FAR and fill.readable(span[0]) == span[0]
