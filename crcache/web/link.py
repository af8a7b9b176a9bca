"""The C{Link} of a list's next page (RFC 8288), made to lead back here."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from urllib.parse import quote, unquote_plus, urlsplit

# RFC 8288, 3: link-value = "<" URI-Reference ">" *( OWS ";" OWS [ link-param ] )
_LINK = re.compile(r"<(?P<target>[^<>]*)>(?P<params>(?:[^,\"<]|\"[^\"]*\")*)")

# RFC 8288, 3.3: rel is a list of relation types, case-insensitive.
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next)\s*(?:;|$)", re.IGNORECASE)

# RFC 3986, 3.4: pchar / "/" / "?" is all that a query is made of; and the square brackets some leave unescaped.
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%\[\]-]*\Z")


def next_page(values: Sequence[str], path: str, ns: str | None, understood: Collection[str]) -> str | None:
    """The C{Link} line for our client, or C{None} if there is no next page that it could ask of us.

    @param values: the origin's C{Link} lines.
    @param path: the path of the client's request, as the client wrote it: the list goes on there, whatever host and
        prefix the origin names.
    @param ns: the registry as the client gave it in the query, if it did.
    @param understood: names of parameters that a request's query may carry to the origin. A link that needs another
        is left out: the client would get the first page again and again.
    """
    for value in values:
        for link in _LINK.finditer(value):
            if _NEXT.search(link["params"]) is None:
                continue
            query = _query(link["target"], path, understood)
            if query is not None:
                if ns is not None:
                    query.append(f"ns={quote(ns, safe=':')}")
                return f'<{path}?{"&".join(query)}>; rel="next"'
    return None


def _query(target: str, path: str, understood: Collection[str]) -> list[str] | None:
    """The pairs of a link's query that lead on from this list, unescaped by nobody; C{None} if they do not."""
    try:
        parts = urlsplit(target.strip())
    except ValueError:
        return None
    if parts.path and parts.path.rsplit("/", 1)[-1] != path.rsplit("/", 1)[-1]:
        return None
    if not parts.query or _QUERY.match(parts.query) is None:
        return None
    pairs = [pair for pair in parts.query.split("&") if pair]
    names = [unquote_plus(pair.partition("=")[0]) for pair in pairs]
    if any(name != "ns" and name not in understood for name in names):
        return None
    # Twisted ends a parameter at ";" as well.
    return [pair.replace(";", "%3B") for pair, name in zip(pairs, names, strict=True) if name != "ns"]
