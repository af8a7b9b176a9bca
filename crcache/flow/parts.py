"""Which bytes of a body an origin's answer brings."""

from __future__ import annotations

from dataclasses import dataclass

from crcache.errors import OriginLied
from crcache.facts import Query
from crcache.flow.answers import first, refusal
from crcache.grammar.ranges import parse_content_range
from crcache.interfaces import IAnswer


@dataclass(frozen=True)
class Part:
    """From C{start} to C{stop} (exclusive), of a body of C{size} bytes, as far as the origin says.

    @ivar whole: whether it is all of it.
    """

    start: int
    stop: int | None
    size: int | None
    whole: bool


def part_of(answer: IAnswer, query: Query) -> Part:
    """What an answer to a query for a blob brings. A 200 to a query with a span is the whole: the span was ignored.

    @raise OriginLied: if it is a part that was not asked for, or no content.
    @raise crcache.errors.OriginError: if it is a refusal.
    """
    if answer.status == 200:
        return Part(0, answer.length, answer.length, True)
    if answer.status == 206 and query.span is not None:
        part = parse_content_range(first(answer, "Content-Range"))
        if part is None or part.start != query.span[0]:
            raise OriginLied(f"{query.registry} answered another range than was asked for")
        return Part(part.start, part.stop, part.total, part.start == 0 and part.stop == part.total)
    if 200 <= answer.status < 300:
        raise OriginLied(f"{query.registry} answered {answer.status} where content was asked for")
    if answer.status == 416:
        raise OriginLied(f"{query.registry} answered 416 to a range that the body must have")
    raise refusal(answer, query)
