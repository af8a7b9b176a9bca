"""Asking an origin: in crcache's own way first, then with what the client brought."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crcache.asks import Client
from crcache.errors import (
    BodyCut,
    OriginBusy,
    OriginFailed,
    OriginLied,
    OriginTimeout,
    OriginUnreachable,
    RangeNotSatisfiable,
)
from crcache.facts import Query
from crcache.flow.answers import first, refusal
from crcache.flow.collect import dismiss
from crcache.interfaces import IAnswer, IUpstream

#: The origin could not do what it should have: what is cached may be served instead.
FAILING = (OriginUnreachable, OriginFailed, OriginBusy, OriginTimeout, OriginLied, BodyCut)


@dataclass(frozen=True)
class Granted:
    """A 2xx.

    @ivar open: whether crcache's own way got it; otherwise only the client's `Authorization` did, so it is for that
        client alone.
    """

    answer: IAnswer
    open: bool


class Origin:
    """Turns what is not 2xx into errors."""

    def __init__(self, upstream: IUpstream) -> None:
        self._upstream = upstream

    async def ask(self, query: Query, client: Client | None) -> Granted:
        """Ask in crcache's own way; if that is refused, with the client's own `Authorization`, if it brought one.

        @param query: one that has an C{authorization} is put with that alone, and what it gets is for that client.
        @param client: C{None}: crcache's own way only.
        @raise crcache.errors.RangeNotSatisfiable: if the range that was asked for begins past the end.
        @raise crcache.errors.OriginError: for whatever else is not 2xx, and as L{IUpstream.ask}.
        """
        answer = await self._upstream.ask(query)
        own = query.authorization is None
        if own and answer.status in (401, 403) and client is not None and client.authorization is not None:
            dismiss(answer, head=query.method == "HEAD")
            answer = await self._upstream.ask(replace(query, authorization=client.authorization))
            own = False
        if not 200 <= answer.status < 300:
            try:
                problem = _beyond(answer) if answer.status == 416 and query.span is not None else refusal(answer, query)
            except BaseException:
                answer.abort()
                raise
            dismiss(answer, head=query.method == "HEAD")
            raise problem
        return Granted(answer, own)


def _beyond(answer: IAnswer) -> RangeNotSatisfiable:
    """The client's own range is at fault, and C{Content-Range} tells it the size."""
    line = first(answer, "Content-Range")
    return RangeNotSatisfiable(
        "Ask for a range that begins before the blob's end.", headers=() if line is None else [("Content-Range", line)]
    )
