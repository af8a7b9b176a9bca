"""Header lines: those of questions, and what answers say of when to ask again."""

from __future__ import annotations

from twisted.web.http_headers import Headers

from crcache import __version__
from crcache.facts import Query
from crcache.interfaces import IAnswer


def request_headers(query: Query) -> Headers:
    """What is sent with a query, but for its authorization."""
    headers = Headers(
        {
            "User-Agent": [f"crcache/{__version__}"],
            "Accept": list(query.accept) or ["*/*"],
            "Accept-Encoding": ["identity"],
            "X-Request-Id": [query.request_id],
        }
    )
    if query.span is not None:
        start, stop = query.span
        headers.setRawHeaders("Range", [f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"])
    return headers


def retry_after(answer: IAnswer) -> tuple[str | None, str | None]:
    """`Retry-After` and `Date`, as L{crcache.grammar.retry_after} takes them."""
    return _first(answer, b"Retry-After"), _first(answer, b"Date")


def _first(answer: IAnswer, name: bytes) -> str | None:
    lines = answer.headers.getRawHeaders(name)
    return lines[0].decode("latin-1") if lines else None
