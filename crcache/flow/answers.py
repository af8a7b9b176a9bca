"""What an origin's refusal means to the client."""

from __future__ import annotations

import math

from crcache.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginRefused,
    OriginTimeout,
    Unauthorized,
)
from crcache.facts import Query
from crcache.grammar.retry_after import parse_retry_after, rest
from crcache.interfaces import IAnswer


def lines(answer: IAnswer, name: str) -> list[str]:
    """The values of a header's lines, a character for each byte (latin-1), as they go on to clients: an origin's may be
    of any encoding or none."""
    return [value.decode("latin-1") for value in answer.headers.getRawHeaders(name.encode("ascii"), [])]


def first(answer: IAnswer, name: str) -> str | None:
    """The value of a header's first line."""
    found = lines(answer, name)
    return found[0] if found else None


def what(query: Query) -> str:
    """The thing asked for, in words for a message."""
    name = f"{query.registry}/{query.repository}"
    return f"{query.kind} of {name}" if query.reference is None else f"{query.kind} {query.reference} of {name}"


def refusal(answer: IAnswer, query: Query) -> OriginError:
    """The error for an answer that is not 2xx. The answer itself is still to be aborted or delivered."""
    status = answer.status
    said = parse_retry_after(first(answer, "Retry-After"), first(answer, "Date"))
    wait = [("Retry-After", str(math.ceil(rest(said))))]
    if status == 401:
        return Unauthorized(
            f"{query.registry} asks for credentials for the {what(query)}",
            headers=[("WWW-Authenticate", line) for line in lines(answer, "WWW-Authenticate")],
        )
    if status == 403:
        return Denied(f"{query.registry} forbids the {what(query)}")
    if status in (404, 410):
        kinds = {"manifest": ManifestUnknown, "blob": BlobUnknown}
        return kinds.get(query.kind, NameUnknown)(f"{query.registry} has no {what(query)}")
    if status == 429:
        return OriginBusy(
            f"{query.registry} limits the rate of requests; configure credentials for it, or ask later",
            seconds=None if said is None else rest(said),
            headers=wait,
        )
    if status == 408:
        return OriginTimeout(f"{query.registry} says that it was not asked in time for the {what(query)}; try again")
    if status >= 500:
        problem = f"{query.registry} answered {status} for the {what(query)}"
        return OriginFailed(problem, headers=[] if said is None else wait)
    return OriginRefused(f"{query.registry} answered {status} for the {what(query)}", detail={"status": status})
