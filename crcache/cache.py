"""The story, told once: look up, serve or fill or relay."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from crcache.access import Access
from crcache.asks import Ask, ListReferrers, ListTags, Ping, PullBlob, PullManifest
from crcache.blobs import Blobs
from crcache.facts import Query
from crcache.interfaces import ICache
from crcache.manifests import Manifests
from crcache.origin import AWAY, Origin
from crcache.outcomes import Outcome, Pong, Relayed


@implementer(ICache)
class Cache:
    """What becomes of each ask."""

    def __init__(self, origin: Origin, access: Access, manifests: Manifests, blobs: Blobs) -> None:
        self._origin = origin
        self._access = access
        self._manifests = manifests
        self._blobs = blobs

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}."""
        return Deferred.fromCoroutine(self._handle(ask))

    async def _handle(self, ask: Ask) -> Outcome:
        match ask:
            case Ping():
                return Pong()
            case PullManifest() | PullBlob():
                return await self._pull(ask)
            case ListTags() | ListReferrers():
                return await self._list(ask)

    async def _pull(self, ask: PullManifest | PullBlob) -> Outcome:
        try:
            return await (self._manifests.pull(ask) if isinstance(ask, PullManifest) else self._blobs.pull(ask))
        except AWAY as problem:
            raise await self._access.instead(ask, problem) from None

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
            peer=ask.client.peer,
            via=ask.client.via,
        )
        return Relayed((await self._origin.ask(query, ask.client)).answer, None)
