"""URLs of origins: what may be asked, and which belong together."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, urlencode, urljoin, urlsplit, urlunsplit

from crcache.errors import OriginLied
from crcache.facts import Query

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_PORTS = {"http": 80, "https": 443}
#: RFC 1035, 2.3.4. What makes a name of a longer one may take a time that grows with its square.
_LONGEST_HOST = 253


class Origin(NamedTuple):
    """Scheme, host and port: what credentials and connections belong to (RFC 6454)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute `http` or `https` URL.

    @raise ValueError: if it is none, has a user name or password in it, or characters that no URL has.
    """
    if not _PRINTABLE.fullmatch(url):
        raise ValueError("characters that no URL has")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an http or https URL of a host")
    if len(parts.hostname) > _LONGEST_HOST:
        raise ValueError("a host's name that is too long")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, parts.hostname, port)


def question(base: str, query: Query) -> str:
    """Where a query is asked (distribution spec, "API", end-1 to end-12)."""
    if query.kind == "tags":
        path = "tags/list"
    else:
        path = {"manifest": "manifests", "blob": "blobs", "referrers": "referrers"}[query.kind] + f"/{query.reference}"
    url = f"{base}/v2/{quote(str(query.repository))}/{quote(path, safe='/:')}"
    return f"{url}?{urlencode(query.parameters)}" if query.parameters else url


def redirected(url: str, location: str, downgrade: bool) -> str:
    """Where a `Location` leads, without its fragment (RFC 9110, 10.2.2).

    @param downgrade: whether it may lead from https to http.
    @raise OriginLied: if it leads to nothing that may be asked.
    """
    here = origin_of(url)
    try:
        target = urlunsplit(urlsplit(urljoin(url, location.strip()))._replace(fragment=""))
        there = origin_of(target)
    except ValueError as error:
        raise OriginLied(
            f"{here} redirects to something that is no http or https URL; ask its administrator"
        ) from error
    if here.scheme == "https" and there.scheme == "http" and not downgrade:
        raise OriginLied(f"{here} redirects from https to http at {there}, which is refused; ask its administrator")
    return target


def bare(url: str) -> str:
    """The URL without its query, which may be a secret (signed links), for logs."""
    return url.partition("?")[0]
