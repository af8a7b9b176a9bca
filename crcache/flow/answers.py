"""What an origin's refusal means to the client."""

from __future__ import annotations

from crcache.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginRefused,
    Unauthorized,
)
from crcache.facts import Query
from crcache.interfaces import IAnswer


def what(query: Query) -> str:
    """The thing asked for, in words for a message."""
    name = f"{query.registry}/{query.repository}"
    return f"{query.kind} of {name}" if query.reference is None else f"{query.kind} {query.reference} of {name}"


def refusal(answer: IAnswer, query: Query) -> OriginError:
    """The error for an answer that is not 2xx. The answer itself is still to be aborted or delivered."""
    status = answer.status
    if status == 401:
        challenges = answer.headers.getRawHeaders("WWW-Authenticate") or []
        return Unauthorized(
            f"{query.registry} asks for credentials for the {what(query)}",
            headers=[("WWW-Authenticate", line) for line in challenges],
        )
    if status == 403:
        return Denied(f"{query.registry} forbids the {what(query)}")
    if status in (404, 410):
        kinds = {"manifest": ManifestUnknown, "blob": BlobUnknown}
        return kinds.get(query.kind, NameUnknown)(f"{query.registry} has no {what(query)}")
    if status == 429:
        waits = answer.headers.getRawHeaders("Retry-After") or []
        return OriginBusy(
            f"{query.registry} limits the rate of requests; configure credentials for it, or ask later",
            headers=[("Retry-After", waits[0])] if waits and waits[0].isdigit() else (),
        )
    if status >= 500:
        return OriginFailed(f"{query.registry} answered {status} for the {what(query)}")
    return OriginRefused(f"{query.registry} answered {status} for the {what(query)}", detail={"status": status})
