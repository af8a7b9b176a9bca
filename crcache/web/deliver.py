"""Puts the cache's outcomes on the wire: head by head, and the body by whoever sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.http_headers import Headers

from crcache.errors import OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.length import parse_length
from crcache.grammar.media_type import parse_media_type
from crcache.grammar.ranges import RangeSpec, Span, content_range
from crcache.interfaces import IMeter
from crcache.outcomes import Blob, Manifest, Outcome, Pong, Relayed
from crcache.sending import ISender
from crcache.web.conditions import not_modified
from crcache.web.link import next_page
from crcache.web.parse import REFERRERS_PARAMETERS, TAGS_PARAMETERS, ns_of, range_of
from crcache.web.render import Lines, always, cached, content, etag, finish, set_head
from crcache.web.requestlog import Exchange

if TYPE_CHECKING:
    from crcache.web.site import Request

_OCTETS = "application/octet-stream"

#: What of an origin's head goes through as it is; type, length, range, digest and C{Link} have a way of their own.
_RELAYED = ("OCI-Filters-Applied", "OCI-Subject", "ETag")

_UNDERSTOOD = {"tags": TAGS_PARAMETERS, "referrers": REFERRERS_PARAMETERS}


class Delivery:
    """Writes answers to requests whose client is still there."""

    def __init__(self, sender: ISender, meter: IMeter) -> None:
        self._sender = sender
        self._meter = meter

    async def deliver(self, request: Request, exchange: Exchange, outcome: Outcome) -> None:
        """Answer with this outcome, and note status, bytes and cache in the exchange.

        @raise crcache.errors.CrcacheError: as long as nothing has been written.
        """
        if isinstance(outcome, Pong):
            _head(request, exchange, 200, [("Content-Type", "application/json"), ("Content-Length", "2")])
            exchange.sent = finish(request, b"{}")
            return
        exchange.cache = outcome.cache.label
        exchange.digest = None if outcome.digest is None else str(outcome.digest)
        if isinstance(outcome, Relayed):
            await self._relay(request, exchange, outcome)
        elif _has_already(request, outcome.digest):
            _head(request, exchange, 304, content(outcome.digest, outcome.cache, outcome.age))
            request.finish()
        elif isinstance(outcome, Manifest):
            self._manifest(request, exchange, outcome)
        else:
            await self._blob(request, exchange, outcome)

    def _manifest(self, request: Request, exchange: Exchange, outcome: Manifest) -> None:
        asked = range_of(request, outcome.digest)
        span = _resolve(asked, outcome.size)
        _content_head(request, exchange, outcome, outcome.media_type, span, outcome.size)
        data = outcome.body or b""
        exchange.sent = finish(request, data if span is None else data[span.start : span.stop])

    async def _blob(self, request: Request, exchange: Exchange, outcome: Blob) -> None:
        body, size = outcome.body, outcome.size
        if request.method == b"HEAD" or body is None:
            _content_head(request, exchange, outcome, _OCTETS, None, size)
            request.finish()
            return
        asked = range_of(request, outcome.digest)
        if asked is not None and size is None:
            size = await self._sender.sized(body)
            if exchange.gone:
                return
        span = _resolve(asked, size)
        _content_head(request, exchange, outcome, _OCTETS, span, size)
        start, stop, held = (0, size, True) if span is None else (span.start, span.stop, span.open_ended)
        if outcome.following:
            self._meter.following(1)
        try:
            exchange.sent = await self._sender.send(request, body, start, stop, held, outcome.rest)
        finally:
            if outcome.following:
                self._meter.following(-1)

    async def _relay(self, request: Request, exchange: Exchange, outcome: Relayed) -> None:
        answer = outcome.answer
        try:
            if not 200 <= answer.status < 300:
                raise OriginLied(f"Ask the registry itself: its answer has status {answer.status}.")
            lines = [*_relayed_lines(request, exchange, outcome), *cached(outcome.cache, None)]
            status = answer.status if outcome.part is None else 206
            _head(request, exchange, status, lines)
        except BaseException:
            answer.abort()
            raise
        if request.method == b"HEAD":
            answer.abort()
            request.finish()
        else:
            exchange.sent = await self._sender.relay(
                request, answer, outcome.digest, outcome.rest, outcome.start, outcome.part, outcome.proved
            )


def _has_already(request: Request, digest: Digest) -> bool:
    return not_modified(_lines(request.requestHeaders, b"If-None-Match"), etag(digest))


def _resolve(asked: RangeSpec | None, size: int | None) -> Span | None:
    # Nothing of an empty body could be a part: the whole is the only answer that a client can use.
    return None if asked is None or not size else asked.resolve(size)


def _lines(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in headers.getRawHeaders(name, [])]


def _head(request: Request, exchange: Exchange, status: int, lines: Lines) -> None:
    exchange.status = status
    set_head(request, status, [*lines, *always(exchange.request_id, exchange.registry)])


def _content_head(
    request: Request, exchange: Exchange, outcome: Manifest | Blob, media_type: str, span: Span | None, size: int | None
) -> None:
    lines = [("Content-Type", media_type), *content(outcome.digest, outcome.cache, outcome.age)]
    lines.append(("Accept-Ranges", "bytes"))
    if span is not None and size is not None:
        lines.append(("Content-Range", content_range(span.start, span.stop, size)))
        lines.append(("Content-Length", str(span.stop - span.start)))
    elif size is not None:
        lines.append(("Content-Length", str(size)))
    _head(request, exchange, 200 if span is None else 206, lines)


def _type_of(headers: Headers) -> str:
    """JSON of some kind, if that is what an origin says; else mere bytes.

    A browser would run a page of any origin's with the rights of a page of crcache's own, and let it read all else.
    """
    said = parse_media_type(next(iter(_lines(headers, b"Content-Type")), "").partition(";")[0].strip())
    return said if said is not None and (said == "application/json" or said.endswith("+json")) else _OCTETS


def _relayed_lines(request: Request, exchange: Exchange, outcome: Relayed) -> Lines:
    answer, headers = outcome.answer, outcome.answer.headers
    lines = [("Content-Type", _type_of(headers))]
    lines.extend((name, value) for name in _RELAYED for value in _lines(headers, name.encode())[:1])
    # The digest that was asked for, and that the body is checked against, whatever the origin calls it.
    digests = _lines(headers, b"Docker-Content-Digest")[:1] if outcome.digest is None else [str(outcome.digest)]
    lines.extend(("Docker-Content-Digest", digest) for digest in digests)
    length = answer.length
    if request.method == b"HEAD":
        announced = _lines(headers, b"Content-Length")
        length = parse_length(announced[0]) if announced else None
    part = outcome.part
    if part is not None:
        lines.append(("Content-Range", content_range(part.start, part.stop, part.total)))
        length = part.stop - part.start
    if length is not None:
        lines.append(("Content-Length", str(length)))
    understood = _UNDERSTOOD.get(exchange.kind)
    if understood is not None:
        ns = ns_of(request)
        path = request.path.decode("ascii")
        link = next_page(_lines(headers, b"Link"), path, ns[0] if ns else None, understood)
        if link is not None:
            lines.append(("Link", link))
    return lines
