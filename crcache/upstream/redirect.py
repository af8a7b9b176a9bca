"""Redirects: where blobs really are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.web.http_headers import Headers

from crcache.errors import Astray, OriginLied
from crcache.secret import Secret
from crcache.settings import RegistrySettings
from crcache.upstream.exchange import Exchange, Exchanger
from crcache.upstream.reading import read
from crcache.upstream.urls import origin_of, redirected

_STATUSES = frozenset({301, 302, 303, 307, 308})
_LIMIT = 10
#: A redirect's own body is read so far, to keep the connection.
_BODY = 64 * 1024


async def follow(
    exchanger: Exchanger,
    method: str,
    url: str,
    headers: Headers,
    settings: RegistrySettings,
    authorization: Secret | None,
    asked: Callable[[int | None], object],
    *,
    downgrade: bool = False,
    loyal: bool = True,
    leave: bool = False,
    heard: Callable[[], object] = lambda: None,
) -> Exchange:
    """Ask with GET or HEAD, and go where redirects lead, up to ten times.

    @param authorization: sent only as long as scheme, host and port stay the same.
    @param asked: called for each request with the answer's status, C{None} if there was none.
    @param downgrade: whether a redirect may lead from https to http.
    @param loyal: whether C{authorization} survives a redirect within its host.
    @param leave: whether the first redirect to another origin is the answer. One within the same is not: whoever only
        moves a path (a proxy in front, for one) has not looked at credentials yet.
    @param heard: called each time there is a connection that the request is sent on.
    @return: the last answer; where another origin gave it, without its challenge.
    @raise OriginLied: if there are more redirects, or one leads to no URL that may be asked.
    @raise OriginUnreachable: if anyone on the way gives no answer.
    @raise Astray: if one leads to where the registry has no business.
    """
    first = origin_of(url)
    for _ in range(_LIMIT + 1):
        request = headers.copy()
        if authorization is not None:
            request.setRawHeaders("Authorization", [authorization.reveal()])
        try:
            exchange = await exchanger.exchange(method, url, request, settings, heard=heard)
        except (CancelledError, Astray):
            raise
        except Exception:
            asked(None)
            raise
        asked(exchange.status)
        location = exchange.header("Location")
        if exchange.status not in _STATUSES or (leave and not _within(url, location)):
            if origin_of(url) != first:
                # Told as the registry's own, it would have clients show the registry's credentials to whom it names.
                exchange.headers.removeHeader(b"WWW-Authenticate")
            return exchange
        await read(exchange, _BODY)
        if location is None:
            raise OriginLied(f"{origin_of(url)} redirects to nowhere; ask its administrator")
        target = redirected(url, location, downgrade)
        if not loyal or origin_of(target) != origin_of(url):
            authorization = None
        url = target
    raise OriginLied(f"{origin_of(url)} redirects more than {_LIMIT} times; ask its administrator")


def _within(url: str, location: str | None) -> bool:
    """Whether a `Location` leads to the same origin."""
    if location is None:
        return False
    try:
        return origin_of(redirected(url, location, True)) == origin_of(url)
    except OriginLied:
        return False
