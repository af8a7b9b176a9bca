"""Requests that come back to where they have been are refused, before they wait for themselves."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from crcache.asks import Ask, ListReferrers, ListTags, Ping, PullBlob
from crcache.errors import Looped
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Tag
from crcache.grammar.via import caches
from crcache.interfaces import ICache
from crcache.outcomes import Outcome

#: Caches that a request may have come through.
HOPS = 8


@implementer(ICache)
class Loops:
    """Stands before the story; what it lets pass is answered as the story answers it."""

    def __init__(
        self,
        story: ICache,
        pseudonym: Callable[[], str],
        crossed: Callable[[tuple[str, ...], Registry, Tag | Digest], object] = lambda hops, registry, reference: None,
    ) -> None:
        """
        @param pseudonym: this cache's own.
        @param crossed: told what others ask for, with their pseudonyms: see
            L{crcache.parents.source.Parents.crossed}.
        """
        self._story = story
        self._pseudonym = pseudonym
        self._crossed = crossed

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}; fails at once with L{Looped} if the request has been here, or has come far."""
        hops = caches(ask.via if isinstance(ask, Ping) else ask.client.via)
        if self._pseudonym() in hops:
            return fail(Looped("This request has come from this cache: take it from its own parents' parents."))
        if len(hops) > HOPS:
            return fail(Looped(f"This request has come through {len(hops)} caches: have fewer, one behind another."))
        if hops and not isinstance(ask, Ping | ListTags | ListReferrers):
            self._crossed(hops, ask.registry, ask.digest if isinstance(ask, PullBlob) else ask.reference)
        return self._story.handle(ask)
