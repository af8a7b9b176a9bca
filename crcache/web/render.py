"""Answers' heads and error bodies, as clients expect them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from twisted.web.http import RESPONSES
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from crcache.errors import CrcacheError, RequestInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry
from crcache.outcomes import CacheStatus

if TYPE_CHECKING:
    from crcache.web.channel import Channel

Lines = list[tuple[str, str]]

#: What a client is told of a defect of ours, when not even its request is known.
INTERNAL_ERROR = CrcacheError("Internal error; the log has it.")

#: What Twisted, or the connection's state, has put on an answer and a refusal must keep.
_CONNECTION = (b"Server", b"Date", b"Connection", b"Via")


def new_request_id() -> str:
    """An identifier for a request whose client gave none."""
    return secrets.token_hex(16)


def etag(digest: Digest) -> str:
    """The entity tag (RFC 9110, 8.8.3) of content: its digest, quoted."""
    return f'"{digest}"'


def always(request_id: str, registry: Registry | None) -> Lines:
    """The lines of every answer."""
    lines = [("Docker-Distribution-Api-Version", "registry/2.0"), ("X-Request-Id", request_id)]
    # A browser that is led here must not take an origin's bytes, or what a client said, for a page of ours.
    lines.append(("X-Content-Type-Options", "nosniff"))
    if registry is not None:
        lines.append(("OCI-Namespace", str(registry)))
    return lines


def cached(cache: CacheStatus, age: float | None) -> Lines:
    """C{Cache-Status} (RFC 9211) and, if known, C{Age} (RFC 9111, 5.1)."""
    lines = [("Cache-Status", f"crcache; {cache.value}")]
    if age is not None:
        lines.append(("Age", str(max(0, int(age)))))
    return lines


def content(digest: Digest, cache: CacheStatus, age: float | None) -> Lines:
    """The lines that identify content, also on a 304."""
    return [("Docker-Content-Digest", str(digest)), ("ETag", etag(digest)), *cached(cache, age)]


def status_of(error: CrcacheError) -> int:
    """The error's status; never 429, which clients retry at once."""
    return 503 if error.status == 429 else error.status


def error_json(error: CrcacheError) -> bytes:
    """The distribution specification's error body ("Error Codes"); C{detail} is left out if there is none."""
    entry: dict[str, object] = {"code": error.code, "message": error.message}
    if error.detail is not None:
        entry["detail"] = error.detail
    return json.dumps({"errors": [entry]}, default=str).encode()


def malformed() -> bytes:
    """A whole answer for a connection on which something else than HTTP came."""
    body = error_json(
        RequestInvalid("Send a well-formed HTTP/1.1 request with one Host line, whose head is at most 16 KiB.")
    )
    lines = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *always(new_request_id(), None),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 400 Bad Request\r\n{head}\r\n".encode() + body


def set_head(request: Request, status: int, lines: Iterable[tuple[str, str]]) -> None:
    """Give the answer this status and these lines, beside those of the connection."""
    request.setResponseCode(status, RESPONSES.get(status, b"Unknown"))
    headers = Headers()
    for kept in _CONNECTION:
        values = request.responseHeaders.getRawHeaders(kept)
        if values is not None:
            headers.setRawHeaders(kept, values)
    for name, value in lines:
        headers.addRawHeader(name.encode("latin-1"), value.encode("latin-1"))
    request.responseHeaders = headers


def end_short(request: Request) -> None:
    """End an answer that has begun behind what has been written of it, so that nobody takes it for complete."""
    if request.channel is not None:
        cast("Channel", request.channel).end_short()


def finish(request: Request, body: bytes) -> int:
    """Send a body that is at hand, of the length announced, and finish.

    @return: how many bytes of body that were.
    """
    if request.method == b"HEAD":
        request.finish()
        return 0
    request.write(body)
    request.finish()
    return len(body)


def refuse(
    request: Request, error: CrcacheError, request_id: str | None = None, registry: Registry | None = None
) -> tuple[int, int]:
    """Answer with an error; nothing has been written yet.

    @return: the status, and how many bytes of body were sent.
    """
    body = error_json(error)
    lines = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *always(request_id or new_request_id(), registry),
        *error.headers,
    ]
    status = status_of(error)
    set_head(request, status, lines)
    return status, finish(request, body)
