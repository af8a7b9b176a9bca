"""The bucket as somebody nearer than the origins: bodies of what repositories are known to hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.errors import CrcacheError, StoreError
from crcache.facts import Holding, Privacy, Query
from crcache.flow.parts import part_of
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.granting import IGrants
from crcache.interfaces import IAnswer, IStore
from crcache.policy.access import Right, content
from crcache.policy.freshness import Lately
from crcache.settings import ACCESS_VERIFY
from crcache.sources import ISource
from crcache.telling import cache_failed
from crcache.tier.answer import BucketAnswer
from crcache.tier.bucket import Bucket, Reply
from crcache.tier.counts import Counts
from crcache.tier.keys import Keys
from crcache.tier.problems import Failed, Wrong
from crcache.tier.remote import Remote
from crcache.upstream.answer import Answer
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange
from crcache.upstream.reading import read

log = Logger()

#: Seconds for which a fill that began with the bucket has its further questions answered there.
_BEGUN = 3600.0
_ERROR = 64 << 10


@implementer(ISource)
class Nearby:
    """Answers for blobs, to whom a hit on disk would be served: what is everybody's to everybody, what is not to those
    whom the origin has let in lately. Never for tags, lists, or what a repository but names.
    """

    def __init__(
        self,
        store: IStore,
        bucket: Bucket,
        keys: Keys,
        remote: Remote,
        grants: IGrants,
        newest: Callable[[Registry, Repository, Privacy | None], Privacy | None],
        counts: Counts,
        clock: Any,
        stall: Callable[[], float],
    ) -> None:
        """
        @param store: that knows what repositories hold, here or in the bucket.
        @param newest: what is known of a repository's being private, given what is noted.
        @param stall: seconds without a byte after which a connection is given up.
        """
        self._store = store
        self._bucket = bucket
        self._keys = keys
        self._remote = remote
        self._grants = grants
        self._newest = newest
        self._counts = counts
        self._clock = clock
        self._stall = stall
        self._begun: Lately[tuple[Registry, Repository, Digest]] = Lately()

    def ask(self, query: Query) -> Deferred[IAnswer | None]:
        """As L{ISource.ask}."""
        return Deferred.fromCoroutine(self._ask(query))

    async def _ask(self, query: Query) -> IAnswer | None:
        digest = query.reference
        if query.kind != "blob" or not isinstance(digest, Digest) or not self._remote.health.usable:
            return None
        if query.method == "GET" and not query.checked:
            # A relay's client has it before it proves wrong, and the next one would get it again.
            return None
        key, fill = self._keys.content(digest), (query.registry, query.repository, digest)
        if self._remote.lies.holds(key):
            return None
        # A part with an end that is not of a fill, or of one that others have begun, is checked by nobody.
        part = query.resumes or (query.span is not None and query.span[1] is not None)
        if part and not self._begun.holds(fill, self._clock.seconds()):
            return None
        try:
            holding = await self._may(query, digest)
        except StoreError as problem:
            cache_failed(log, "reading the cache", query, problem)
            return None
        if holding is None:
            return None
        began = self._clock.seconds()
        try:
            answer = await self._opened(query, key, holding.size)
        except Wrong as wrong:
            self._remote.lies.add(key, wrong.message)
            return None
        except Failed as problem:
            self._counts.failed += 1
            self._remote.health.failed(problem)
            return None
        self._remote.health.answered(self._clock.seconds() - began)
        if answer is None:
            self._counts.misses += 1
            return None
        self._counts.hits += 1
        self._begun.add(fill, self._clock.seconds(), _BEGUN)
        log.debug("the bucket has {digest} (request {request_id})", **events.about(query))
        return answer

    async def _may(self, query: Query, digest: Digest) -> Holding | None:
        """What is known of what is asked for, if whoever asks may have it."""
        holding = await self._store.holding(query.registry, query.repository, digest)
        privacy = self._newest(query.registry, query.repository, holding.privacy)
        found = Holding(holding.member, holding.given, privacy)
        right = content(found, ACCESS_VERIFY)
        if query.authorization is None:
            return found if right is Right.EVERYONE else None
        if right is Right.UNPROVEN:
            return None
        known = await self._grants.known(query.authorization, query.registry, query.repository)
        return found if known else None

    async def _opened(self, query: Query, key: str, size: int | None) -> IAnswer | None:
        headers = {}
        if query.span is not None:
            start, stop = query.span
            headers["Range"] = f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"
        exchange = await self._bucket.ask(query.method, key, headers=headers)
        head = query.method == "HEAD"
        if exchange.status not in (200, 206):
            await self._refused(exchange, key, head)
            return None
        answer = Answer(exchange, self._clock, self._stall(), lambda _: None, lambda: None, head)
        try:
            found = answer.length if head else part_of(answer, query).size
        except CrcacheError as problem:
            answer.abort()
            raise Wrong(f"is answered wrongly: {problem.message}") from None
        if (exchange.status == 206 and query.span is None) or (None not in (size, found) and size != found):
            answer.abort()
            raise Wrong(f"has {found} bytes, where {size} are known")
        return BucketAnswer(answer, self._clock, self._bucket.name, self._remote.health.failed, self._count)

    async def _refused(self, exchange: Exchange, key: str, head: bool) -> None:
        seconds = self._bucket.settings.timeout

        def late() -> Exception:
            return Failed(f"{self._bucket.name} did not send its answer within {seconds:g} s", silent=True)

        body = await within(read(exchange, 0 if head else _ERROR), seconds, self._clock, late) or b""
        if exchange.status == 416:
            raise Wrong("is shorter than what is known of it")
        reply = Reply.of(exchange, body)
        if not self._bucket.judge(reply):
            self._remote.absent(key, reply)
            return
        raise self._bucket.failure(reply)

    def _count(self, count: int) -> None:
        self._counts.received += count
