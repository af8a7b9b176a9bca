"""`Via`: through which intermediaries a message has come (RFC 9110, 7.6.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: More entries, or characters, are not believed to come from anybody's real chain.
MOST = 32
LONGEST = 4096
#: What the pseudonyms of all crcache begin with.
OURS = "crcache-"

# RFC 9110, 5.6.2: token. Two of them make the name and version of the protocol that it was received by.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 # nosec B105
# RFC 9110, 7.6.3: received-by = pseudonym [ ":" port ]; a pseudonym is a token, which a host may be in place of. One
# that is an IPv6 address stands in brackets (RFC 3986, 3.2.2).
_BY = rf"(?:{_TOKEN}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{0,5}})?"
# RFC 9110, 5.6.5: comments; those within comments are nobody's custom.
_ENTRY = re.compile(rf"((?:{_TOKEN}/)?{_TOKEN})[ \t]+({_BY})(?:[ \t]+\([^()\\]*\))?")


def parse_via(lines: Iterable[str]) -> tuple[str, ...]:
    """The entries of all lines in their order, C{1.1 name} each, without comments; none if anything is malformed.

    @param lines: the values of the header's lines.
    """
    text = ",".join(lines)
    if len(text) > LONGEST:
        return ()
    found: list[str] = []
    for part in (each.strip(" \t") for each in text.split(",")):
        # RFC 9110, 5.6.1.2: empty elements of a list are let pass.
        if not part:
            continue
        match = _ENTRY.fullmatch(part)
        if match is None or len(found) == MOST:
            return ()
        found.append(f"{match[1]} {match[2]}")
    return tuple(found)


def entry(pseudonym: str) -> str:
    """That of whoever has that name, for messages received by HTTP/1.1."""
    return f"1.1 {pseudonym}"


def caches(entries: Iterable[str]) -> tuple[str, ...]:
    """The pseudonyms among entries, as L{parse_via} gives them, that are of crcache."""
    names = (each.rpartition(" ")[2] for each in entries)
    return tuple(name for name in names if name.startswith(OURS))
