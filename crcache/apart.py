"""Manifests that are asked for as one client would: with its own credentials, or its own `Accept`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from crcache.absences import Method
from crcache.asks import PullManifest
from crcache.errors import ManifestUnknown
from crcache.facts import Crowd, Query
from crcache.grammar.accept import accepts
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import ACCEPT
from crcache.grammar.reference import Tag
from crcache.outcomes import CacheStatus, Manifest
from crcache.provenance import Provenance


def question(ask: PullManifest, reference: Tag | Digest, method: Method) -> Query:
    """How a manifest is asked for in crcache's own way."""
    client = ask.client
    return Query(
        ask.registry,
        ask.repository,
        "manifest",
        reference,
        client.request_id,
        method,
        ACCEPT,
        peer=client.peer,
        crowd=Crowd(),
        via=client.via,
    )


class Apart:
    """What crcache's own way does not get, or not in a media type that the client takes."""

    def __init__(
        self,
        provenance: Provenance,
        keeps: Callable[[Tag | Digest], bool],
        cached: Callable[[PullManifest, Digest], Coroutine[Any, Any, Manifest | None]],
    ) -> None:
        """
        @param keeps: whether what a reference means may be kept.
        @param cached: what is on disk, for this client.
        """
        self._provenance = provenance
        self._keeps = keeps
        self._cached = cached

    async def privately(self, ask: PullManifest) -> Manifest:
        """With the client's own credentials, since crcache's own way was refused."""
        if isinstance(ask.reference, Tag) and self._keeps(ask.reference):
            found = await self._its_own(ask, ask.reference)
        else:
            found = await self._ask(ask, ACCEPT, refused=True)
            if not self._keeps(ask.reference):
                found = replace(found, cache=CacheStatus.BYPASS)
        suits = isinstance(ask.reference, Digest) or accepts(ask.client.accept, found.media_type)
        return found if suits else await self._ask(ask, ask.client.accept, refused=True)

    async def _its_own(self, ask: PullManifest, tag: Tag) -> Manifest:
        """What a private tag means: a HEAD with the client's credentials tells, and lets it in to what is on disk."""
        get = replace(question(ask, tag, "GET"), authorization=ask.client.authorization)
        try:
            head = await self._provenance.head(replace(get, method="HEAD"), tag, None)
        except ManifestUnknown:
            # That of a GET alone is believed.
            head = None
        if head is not None and not ask.body:
            return head
        found = None if head is None else await self._cached(ask, head.digest)
        if found is None:
            found = await self._provenance.fetch(get, tag, None)
        return replace(found, body=found.body if ask.body else None)

    async def suiting(self, ask: PullManifest) -> Manifest:
        """With the client's own `Accept`: kept by digest alone, so that no client's headers change what others get."""
        return await self._ask(ask, ask.client.accept, refused=False)

    async def _ask(self, ask: PullManifest, accept: tuple[str, ...], *, refused: bool) -> Manifest:
        authorization = ask.client.authorization if refused else None
        get = replace(question(ask, ask.reference, "GET"), accept=accept, authorization=authorization)
        if not ask.body:
            head = await self._provenance.head(replace(get, method="HEAD"), None, ask.client)
            if head is not None:
                return head if refused else replace(head, cache=CacheStatus.BYPASS)
        found = await self._provenance.fetch(get, None, ask.client)
        found = replace(found, body=found.body if ask.body else None)
        return found if refused else replace(found, cache=CacheStatus.BYPASS)
