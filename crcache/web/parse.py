"""From an HTTP request to a frozen ask; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.web.http_headers import Headers
from twisted.web.server import Request

from crcache.asks import Ask, Client, ListReferrers, ListTags, Ping, PullBlob, PullManifest
from crcache.errors import MethodNotAllowed, RequestInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import RangeSpec
from crcache.grammar.reference import Registry
from crcache.grammar.request_id import parse_request_id
from crcache.grammar.route import (
    BlobRoute,
    ManifestRoute,
    PingRoute,
    ReferrersRoute,
    Route,
    TagsRoute,
    parse_path,
    which_registry,
)
from crcache.grammar.via import parse_via
from crcache.secret import Secret
from crcache.web.conditions import range_asked
from crcache.web.render import etag, new_request_id
from crcache.web.requestlog import Exchange

#: The parameters that go on to an origin, as they came, with a list's request: the specification's, and one in which
#: some registries carry the place where a page begins.
TAGS_PARAMETERS = ("n", "last", "next_page")
REFERRERS_PARAMETERS = ("artifactType", "n", "last", "next_page")


def request_id_of(headers: Headers) -> str:
    """The client's `X-Request-Id` if it is well-formed, else a new one."""
    lines = headers.getRawHeaders(b"X-Request-Id", [])
    given = parse_request_id(lines[0].decode("latin-1")) if len(lines) == 1 else None
    return given or new_request_id()


def via_of(headers: Headers) -> tuple[str, ...]:
    """Through whom the request has come, as far as it says so in a well-formed way."""
    return parse_via(line.decode("latin-1") for line in headers.getRawHeaders(b"Via", []))


def lines_of(headers: Headers, name: str) -> tuple[str, ...]:
    """The values of a header's lines, one each.

    @raise RequestInvalid: if one is not UTF-8 text, or has control characters in it.
    """
    return tuple(_text(value, f"the header {name}") for value in headers.getRawHeaders(name.encode(), []))


def ns_of(request: Request) -> tuple[str, ...]:
    """The values of the query's C{ns}."""
    return _parameter(request.args, "ns")


def parse(request: Request, default_registry: Registry, exchange: Exchange) -> Ask:
    """What is asked; what is found out on the way is noted in C{exchange}, also if the rest fails.

    @raise crcache.errors.CrcacheError: whose fault is the client's.
    """
    exchange.reference = request.path.decode("ascii", "backslashreplace")
    if request.method not in (b"GET", b"HEAD"):
        raise MethodNotAllowed("Use GET or HEAD here, and push to the registry itself.", headers=_ALLOW)
    route = parse_path(request.path)
    exchange.kind = _KINDS[type(route)]
    headers = request.requestHeaders
    user_agent = _user_agent(headers)
    if isinstance(route, PingRoute):
        exchange.reference = None
        return Ping(via_of(headers))
    registry, repository = which_registry(route.name, ns_of(request), user_agent, default_registry)
    exchange.registry, exchange.repository = registry, repository
    accept = lines_of(headers, "Accept")
    client = Client(exchange.request_id, accept, _authorization(headers), user_agent, exchange.peer, via_of(headers))
    body = request.method == b"GET"
    if isinstance(route, TagsRoute):
        exchange.reference = None
        return ListTags(client, registry, repository, _parameters(request.args, TAGS_PARAMETERS), body)
    if isinstance(route, ManifestRoute):
        exchange.reference = str(route.reference)
        return PullManifest(client, registry, repository, route.reference, body)
    exchange.reference = str(route.digest)
    if isinstance(route, BlobRoute):
        asked = range_of(request, route.digest)
        suffix = asked.last if asked is not None and asked.first is None else None
        return PullBlob(client, registry, repository, route.digest, body, _span(asked), suffix)
    parameters = _parameters(request.args, REFERRERS_PARAMETERS)
    return ListReferrers(client, registry, repository, route.digest, parameters, body)


def range_of(request: Request, digest: Digest) -> RangeSpec | None:
    """The one range of this content that the request asks for; C{None}: the whole.

    RFC 9110, 14.2: C{Range} is defined for GET alone.
    """
    if request.method != b"GET":
        return None
    ranges, if_range = (request.requestHeaders.getRawHeaders(name, []) for name in (b"Range", b"If-Range"))
    return range_asked(
        [value.decode("latin-1") for value in ranges], [value.decode("latin-1") for value in if_range], etag(digest)
    )


def _span(asked: RangeSpec | None) -> tuple[int, int | None] | None:
    """A range that can be said without the size: not a suffix."""
    if asked is None or asked.first is None:
        return None
    return asked.first, None if asked.last is None else asked.last + 1


_KINDS: dict[type[Route], str] = {
    PingRoute: "ping",
    ManifestRoute: "manifest",
    BlobRoute: "blob",
    TagsRoute: "tags",
    ReferrersRoute: "referrers",
}

_ALLOW = (("Allow", "GET, HEAD"),)


def _text(value: bytes, what: str) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if any((character < " " and character != "\t") or character == "\x7f" for character in text):
        raise RequestInvalid(f"Send {what} as UTF-8 text without control characters.")
    return text


def _authorization(headers: Headers) -> Secret | None:
    lines = lines_of(headers, "Authorization")
    if len(lines) > 1:
        raise RequestInvalid("Send one Authorization line, not several.")
    return Secret(lines[0]) if lines else None


def _user_agent(headers: Headers) -> str | None:
    lines = headers.getRawHeaders(b"User-Agent", [])
    if not lines:
        return None
    return "".join(filter(str.isprintable, lines[0].decode("ascii", "ignore")))


def _parameter(args: Mapping[bytes, Sequence[bytes]], name: str) -> tuple[str, ...]:
    return tuple(_text(value, f"the query's {name}") for value in args.get(name.encode(), ()))


def _parameters(args: Mapping[bytes, Sequence[bytes]], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name in names:
        values = _parameter(args, name)
        if name == "n" and not all(value.isascii() and value.isdigit() for value in values):
            raise RequestInvalid("Send the number of entries wanted as n, in digits.")
        found.extend((name, value) for value in values)
    return tuple(found)
