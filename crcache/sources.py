"""What is asked before an origin: whoever is nearer, and may have what it has."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface, implementer

from crcache.errors import OriginBusy, OriginFailed, OriginTimeout, OriginUnreachable
from crcache.facts import Query
from crcache.interfaces import IAnswer, IUpstream


class IAged(Interface):
    """An answer of somebody nearer than the origin, who may have known it for a while."""

    age: float = Attribute("Seconds since an origin vouched for it, as far as is known.")


class ISource(Interface):
    """Somewhere nearer than the origins that may have what one of them has: asked first, and never relied on."""

    def ask(query: Query) -> Deferred[IAnswer | None]:
        """Put a question that is meant for the registry's origin.

        @return: an answer with status 200, or 206 to a query with a C{span}, whose body is what the origin would send;
            its bytes are checked like the origin's. C{None} if there is none to be had: it is not there, this client
            may not have it from there, nobody answers, or not soon enough. It never fails but by being cancelled, which
            closes the connection.
        """


class ILastResort(ISource):
    """A source that knows more than it answers: what was true a while ago, and may be still."""

    def resort(query: Query) -> Deferred[IAnswer | None]:
        """As L{ask}, after the origin has failed; what it had answered first is of no use then."""


#: The origin cannot be asked for now.
_AWAY = (OriginUnreachable, OriginTimeout, OriginBusy, OriginFailed)


@implementer(IUpstream)
class Sources:
    """Asks the sources in their order, and the origin when none of them has it.

    It stands before whatever overhears origins: what a source answers says nothing of whom the origin lets in.

    Whoever was served badly asks with another C{turn}. Turn 0 begins with the sources; those behind it are the origin's
    own, counted from its first URL on. If the origin cannot be asked then, a body that has broken off is gone on with
    by the sources all the same: one that was cut is none that lied.
    """

    def __init__(self, sources: Callable[[], Sequence[ISource]], origin: IUpstream) -> None:
        """
        @param sources: those in force.
        @param origin: whom the rest is asked of.
        """
        self._sources = sources
        self._origin = origin

    @property
    def turns(self) -> int:
        """How many turns there are besides those of the origin's URLs."""
        return 1 if self._sources() else 0

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""
        if not self._sources():
            return self._origin.ask(query)
        asking: Deferred[IAnswer] = Deferred.fromCoroutine(self._ask(query))
        return asking

    async def _ask(self, query: Query) -> IAnswer:
        if query.turn > 0:
            answering = self._origin.ask(replace(query, turn=query.turn - 1))
            goes_on = query.resumes and query.kind == "blob"
            return await self._unless(answering, replace(query, turn=0), self._near if goes_on else _nobody)
        return await self._near(query) or await self._unless(self._origin.ask(query), query, self._resort)

    async def _near(self, query: Query) -> IAnswer | None:
        for source in self._sources():
            answer = await source.ask(query)
            if answer is not None:
                return answer
        return None

    async def _unless(
        self,
        answering: Deferred[IAnswer],
        query: Query,
        otherwise: Callable[[Query], Coroutine[Any, Any, IAnswer | None]],
    ) -> IAnswer:
        """The origin's answer; if it cannot be asked, what there is otherwise."""
        try:
            answer = await answering
        except _AWAY:
            better = await otherwise(query)
            if better is None:
                raise
            return better
        if answer.status < 500 and answer.status != 429:
            return answer
        try:
            better = await otherwise(query)
        except BaseException:
            answer.abort()
            raise
        if better is None:
            return answer
        answer.abort()
        return better

    async def _resort(self, query: Query) -> IAnswer | None:
        for source in self._sources():
            if ILastResort.providedBy(source):
                found: IAnswer | None = await source.resort(query)
                if found is not None:
                    return found
        return None


async def _nobody(_: Query) -> None:
    """There is nobody else."""
