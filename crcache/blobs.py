"""The story of a blob: who may have it, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from crcache import events
from crcache.access import Access
from crcache.asks import PullBlob
from crcache.bypass import Bypass
from crcache.confirming import Confirming, blob_query
from crcache.errors import Denied, OriginError, StoreError, Unauthorized
from crcache.facts import Fetched, Holding, Membership, Verdict
from crcache.flow.fill import Fill
from crcache.flow.fills import Fills
from crcache.interfaces import IBody, IStore
from crcache.origin import Origin
from crcache.outcomes import Blob, CacheStatus, Outcome
from crcache.policy.access import Right
from crcache.rest import Rest
from crcache.telling import cache_failed

log = Logger()

#: Bytes beyond the front of another process's fill, from which on a range does not wait for it.
_FAR = 8 << 20


class Blobs:
    """Looks blobs up, fills what is missing, and relays what may not be served from disk."""

    def __init__(
        self,
        store: IStore,
        origin: Origin,
        access: Access,
        fills: Fills,
        confirming: Confirming,
        clock: Callable[[], float],
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._store = store
        self._origin = origin
        self._access = access
        self._fills = fills
        self._confirming = confirming
        self._bypass = Bypass(origin, store)
        self._clock = clock

    async def pull(self, ask: PullBlob) -> Outcome:
        """The blob that is asked for, with its body only if that is.

        @raise crcache.errors.CrcacheError: if it is not to be had.
        """
        try:
            holding = self._with_promises(ask, await self._access.holding(ask, ask.digest))
            body = await self._store.find(ask.digest)
        except StoreError as problem:
            cache_failed(log, "reading the cache", ask, problem)
            return await self._relay(ask)
        right = self._access.content(ask, holding)
        if body is None or (right is Right.UNPROVEN and not holding.given):
            return await self._missing(ask, holding, right)
        return await self._kept(ask, holding, right, body)

    async def _kept(self, ask: PullBlob, holding: Holding, right: Right, body: IBody) -> Outcome:
        """What is on disk, and known to be this repository's, or for everyone."""
        if right is Right.GRANTED and not await self._access.admits(ask, blob_query(ask)):
            right = Right.UNPROVEN
        known = holding.member
        if right is Right.UNPROVEN:
            known = await self._confirmed(ask, body) if holding.given else None
            if known is None:
                return await self._relay(ask, size=body.size, prove=True)
        assert known is not None
        sound = await self._confirming.sound(ask, known, body)
        if sound is None:
            return await self._missing(ask, holding, right)
        age = 0.0 if known.since is None else max(self._clock() - known.since, 0.0)
        if not ask.body:
            return Blob(ask.digest, sound.size, None, CacheStatus.HIT, age)
        return Blob(ask.digest, sound.size, sound, CacheStatus.HIT, age, rest=self._rest(ask, sound.size))

    def _with_promises(self, ask: PullBlob, holding: Holding) -> Holding:
        """The same, with what a fetch through this repository, which is not noted yet, has proved: before its verdict
        that is nothing, or whoever runs a registry could promise what others' content keeps."""
        for repository, fetched in ((None, Fetched.OPENLY), (ask.repository, Fetched.PRIVATELY)):
            fill = self._fills.running(ask.registry, ask.digest, repository)
            before = holding.member
            news = before is None or before.fetched < fetched
            proved = fill is not None and fill.verdict is Verdict.VERIFIED and ask.repository in fill.confirmed
            if news and fill is not None and proved:
                openly = repository is None or (before is not None and before.open)
                return replace(holding, member=Membership(ask.digest, None, fill.size, openly, fetched=fetched))
        return holding

    async def _confirmed(self, ask: PullBlob, body: IBody) -> Membership | None:
        try:
            return await self._confirming.confirmed(ask, body)
        except StoreError as problem:
            cache_failed(log, "reading the cache", ask, problem)
            return None

    async def _missing(self, ask: PullBlob, holding: Holding, right: Right) -> Outcome:
        """What is not on disk. A blob's body is never fetched for a HEAD."""
        if not ask.body:
            return await self._head(ask)
        if holding.privacy is not None and ask.client.authorization is not None:
            return await self._privately(ask, holding)
        return await self._openly(ask, holding, right)

    async def _head(self, ask: PullBlob) -> Blob:
        return Blob(ask.digest, (await self._confirming.asked(ask, None)).size, None, CacheStatus.MISS)

    async def _openly(self, ask: PullBlob, holding: Holding, right: Right) -> Outcome:
        """Fetched in crcache's own way; if that is refused, with the client's credentials, if it has some."""
        query = blob_query(ask)
        self._origin.check(query)
        joined = self._fills.running(ask.registry, ask.digest) is not None
        fill = self._fills.begin(query, holding.size)
        try:
            await fill.opened()
        except OriginError as problem:
            # Another repository's refusal is not this one's.
            if fill.query.repository != ask.repository:
                return await self._relay(ask, size=holding.size)
            if ask.client.authorization is None or not isinstance(problem, Unauthorized | Denied):
                raise
            return await self._privately(ask, holding)
        except StoreError as problem:
            return await self._not_kept(ask, problem, holding.size)
        # The repository may have turned private since the fill began.
        granted = joined and self._access.fetched_openly(ask, holding) is Right.GRANTED
        if granted and not await self._access.admits(ask, query):
            return await self._relay(ask, size=holding.size)
        # Another repository's fill, or another process's, or one that needed no bytes, proves nothing for this one.
        if ask.repository not in fill.confirmed:
            if fill.found:
                return await self._found(ask, fill)
            if right is Right.GRANTED and not await self._access.admits(ask, query):
                right = Right.UNPROVEN
            if right is Right.UNPROVEN and await self._confirmed(ask, fill) is None:
                return await self._relay(ask, size=fill.size, prove=True)
        return await self._following(ask, fill, fill, joined)

    async def _found(self, ask: PullBlob, fill: Fill, *, private: bool = False) -> Outcome:
        """There was content already, perhaps since a moment only: then by now it is noted whose it is."""
        try:
            holding = await self._access.holding(ask, ask.digest)
        except StoreError as problem:
            cache_failed(log, "reading the cache", ask, problem)
            return await self._relay(ask, private=private)
        right = self._access.content(ask, holding)
        if right is Right.UNPROVEN and not holding.given:
            # Only all of its bytes prove that the repository has content that is not for everyone. Its size is none of
            # that origin's business, which would learn it from the range that is asked for in place of the last bytes.
            return await self._relay(ask, private=private, size=holding.size, prove=True)
        return await self._kept(ask, holding, right, fill)

    async def _privately(self, ask: PullBlob, holding: Holding) -> Outcome:
        """Fetched with the client's credentials, for those whom the origin lets in."""
        assert ask.client.authorization is not None
        query = replace(blob_query(ask), authorization=ask.client.authorization)
        joined = self._fills.running(ask.registry, ask.digest, ask.repository) is not None
        if joined and not await self._access.admits(ask, query):
            return await self._relay(ask, private=True, size=holding.size)
        fill = self._fills.begin(query, holding.size)
        body = fill.lend(ask.client.authorization)
        try:
            await fill.opened()
        except StoreError as problem:
            return await self._not_kept(ask, problem, holding.size, private=True)
        if fill.found:
            return await self._found(ask, fill, private=True)
        if not await self._access.admits(ask, query):
            return await self._relay(ask, private=True, size=fill.size)
        return await self._following(ask, fill, body, joined)

    async def _not_kept(
        self, ask: PullBlob, problem: StoreError, size: int | None, *, private: bool = False
    ) -> Outcome:
        log.warn(
            "not caching {digest}: {problem} (request {request_id})",
            event=events.NOT_KEPT,
            **events.about(ask),
            problem=problem.message,
        )
        return await self._relay(ask, private=private, size=size)

    async def _following(self, ask: PullBlob, fill: Fill, body: IBody, joined: bool) -> Outcome:
        if fill.follows and _far(fill, ask.span):
            # Whoever fetches it comes there late, and does not know that somebody waits.
            return await self._relay(ask)
        status = CacheStatus.COLLAPSED if joined else CacheStatus.STORED
        return Blob(ask.digest, fill.size, body, status, following=joined, rest=self._rest(ask, fill.size))

    async def _relay(
        self, ask: PullBlob, *, private: bool = False, size: int | None = None, prove: bool = False
    ) -> Outcome:
        """Straight from the origin, kept nowhere.

        @param private: crcache's own way has been refused; only the client's is left.
        @param size: the blob's, as far as it is known.
        @param prove: whether it is noted that the repository has it, once all of it has come: it is on disk already.
        """
        query = blob_query(ask)
        if private:
            query = replace(query, authorization=ask.client.authorization)
        return await self._bypass.blob(ask, query, size, self._confirming.proved if prove else None)

    def _rest(self, ask: PullBlob, size: int | None) -> Rest:
        return Rest(self._origin, self._store, blob_query(ask), ask.client, size)


def _far(fill: Fill, span: tuple[int, int | None] | None) -> bool:
    """Whether a range begins where nothing is, far beyond the front."""
    return span is not None and span[0] >= fill.front() + _FAR and fill.readable(span[0]) == span[0]
