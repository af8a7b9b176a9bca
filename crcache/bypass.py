"""Blobs straight from their origin, kept nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from crcache.asks import PullBlob
from crcache.errors import CrcacheError, Denied, OriginLied, OriginRefused
from crcache.facts import Query
from crcache.flow.collect import dismiss
from crcache.flow.parts import Part, part_of
from crcache.grammar.ranges import ContentRange, RangeSpec
from crcache.interfaces import IStore
from crcache.origin import Granted, Origin
from crcache.outcomes import Relayed
from crcache.rest import Rest


class Bypass:
    """Asks for what a client wants, and sees to it that this is what it gets."""

    def __init__(self, origin: Origin, store: IStore) -> None:
        self._origin = origin
        self._store = store

    async def blob(
        self,
        ask: PullBlob,
        query: Query,
        size: int | None = None,
        proved: Callable[[PullBlob, bool, int], None] | None = None,
    ) -> Relayed:
        """What the origin answers. A part of which nobody could tell whether it is right is cut out of the whole.

        @param query: asks for all of it.
        @param size: the blob's, as far as it is known; it tells where the last bytes begin.
        @param proved: called when all of it has come and is right, with whether crcache's own way got it (no, if it
            broke off, and only the client's got the rest), and its size.
        @raise crcache.errors.OriginError: if it says no, or nothing, or what is of no use to the client.
        @raise crcache.errors.RangeNotSatisfiable: if the range begins past the end.
        """
        if not ask.body:
            return Relayed((await self._origin.ask(replace(query, method="HEAD"), ask.client)).answer, None)
        span = ask.span
        if ask.suffix is not None:
            if size is None or not ask.suffix:
                # That there are no such bytes is told with the size: to whom the origin tells it.
                size = await self._size(ask, query)
            last = RangeSpec(None, ask.suffix).resolve(size) if size else None
            span = None if last is None else (last.start, last.stop)
        # An open-ended range is what is left of the whole: only the digest tells whether its end is right.
        if span is not None and span[1] is not None:
            query = replace(query, span=span)
        granted = await self._origin.ask(query, ask.client)
        answer = granted.answer
        try:
            part = part_of(answer, query)
            if ask.suffix is not None and part.size not in (None, size):
                raise OriginLied(f"{ask.registry} now says {part.size} bytes where it said {size}")
            wanted = None if span is None else _wanted(ask, span, part)
        except CrcacheError:
            answer.abort()
            raise
        rest = Rest(self._origin, self._store, query, ask.client, part.size)
        whole = part.start == 0 and (wanted is None or wanted.stop == wanted.total)
        prove = None if proved is None or not whole else partial(_prove, proved, ask, granted, rest)
        digest = ask.digest if whole else None
        return Relayed(answer, digest, rest=rest, start=part.start, part=wanted, proved=prove)

    async def _size(self, ask: PullBlob, query: Query) -> int:
        """What the origin's HEAD says.

        @raise OriginLied: if it says nothing.
        """
        unknown = OriginLied(f"{ask.registry} does not say how long {ask.digest} is; ask it for the whole blob")
        try:
            answer = (await self._origin.ask(replace(query, method="HEAD"), ask.client)).answer
        except (OriginRefused, Denied):
            raise unknown from None
        dismiss(answer, head=True)
        if answer.status != 200 or answer.length is None:
            raise unknown
        return answer.length


def _prove(proved: Callable[[PullBlob, bool, int], None], ask: PullBlob, first: Granted, rest: Rest, size: int) -> None:
    proved(ask, first.open and rest.open, size)


def _wanted(ask: PullBlob, span: tuple[int, int | None], part: Part) -> ContentRange | None:
    """Which bytes of an answer the client gets; C{None}: all of them, since the blob is empty.

    @raise OriginLied: if it does not have them, or does not say where they end.
    @raise crcache.errors.RangeNotSatisfiable: if the blob has none of them.
    """
    if part.size == 0:
        return None
    start, stop = span
    if part.size is not None and stop is None:
        found = RangeSpec(start, None).resolve(part.size)
        return ContentRange(found.start, found.stop, part.size)
    if part.start != start or stop is None:
        # The whole in place of a part, or one that begins elsewhere: clients have corrupted layers with it.
        raise OriginLied(f"{ask.registry} ignores ranges; ask it for the whole blob")
    end = part.stop if part.size is None else part.size
    if end is None:
        raise OriginLied(f"{ask.registry} ignores ranges, and gives no length; ask it for the whole blob")
    return ContentRange(start, min(stop, end), part.size)
