"""The rest of a client's blob, straight from its origin."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache import events
from crcache.asks import Client
from crcache.errors import OriginError, OriginLied, RangeNotSatisfiable
from crcache.facts import Query
from crcache.flow.parts import part_of
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer, IBody, IStore
from crcache.origin import Origin
from crcache.sending import IRest

log = Logger()


@implementer(IRest)
class Rest:
    """Asks as the whole would be asked for, but for a part of it.

    @ivar open: whether crcache's own way got all that has come of it so far.
    """

    def __init__(self, origin: Origin, store: IStore, query: Query, client: Client, size: int | None) -> None:
        """
        @param query: asks for the blob.
        @param client: who it is for.
        @param size: the blob's, if it is known.
        """
        assert isinstance(query.reference, Digest)
        self.digest = query.reference
        self.open = True
        self._origin = origin
        self._store = store
        self._query = query
        self._client = client
        self._size = size
        self._turn = query.turn

    def ask(self, start: int, stop: int | None) -> Deferred[IAnswer]:
        """As L{IRest.ask}; each time of the next of the registry's URLs, since the last one failed."""
        end = None if stop == self._size else stop
        span = None if (start, end) == (0, None) else (start, end)
        # From the start, on the first try, it is as any other question: no client has got anything yet.
        goes_on = start > 0 or self._turn > self._query.turn
        query = replace(self._query, span=span, turn=self._turn, resumes=goes_on)
        self._turn += 1
        return Deferred.fromCoroutine(self._ask(query))

    async def _ask(self, query: Query) -> IAnswer:
        try:
            granted = await self._origin.ask(query, self._client)
        except RangeNotSatisfiable:
            raise OriginLied(f"{query.registry} answered 416 to a range that the body must have") from None
        answer, self.open = granted.answer, self.open and granted.open
        try:
            part = part_of(answer, query)
            if None not in (part.size, self._size) and part.size != self._size:
                raise OriginLied(f"the origin now says {part.size} bytes where it said {self._size}")
        except OriginError:
            answer.abort()
            raise
        return answer

    def damaged(self, body: IBody) -> None:
        """As L{IRest.damaged}."""
        self._store.drop(self.digest, body).addErrback(self._not_dropped)

    def _not_dropped(self, failure: Failure) -> None:
        log.warn(
            "dropping {digest}, which is damaged, failed: {problem} (request {request_id})",
            event=events.CACHE_FAILED,
            problem=failure.value,
            **events.about(self._query),
        )
