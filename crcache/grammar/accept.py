"""`Accept`: whether a client takes a media type.

https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.1 ::

    Accept      = #( media-range [ weight ] )
    media-range = ( "*/*" / ( type "/" "*" ) / ( type "/" subtype ) ) parameters
    weight      = OWS ";" OWS "q=" qvalue
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Commas and semicolons part nothing within quotes; a quote that is never closed reaches to the end.
_QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_ELEMENT = re.compile(rf'(?:[^",]|{_QUOTED})+', re.DOTALL)
_PART = re.compile(rf'(?:[^";]|{_QUOTED})+', re.DOTALL)
_NOTHING = re.compile(r"q[ \t]*=[ \t]*0*(?:0|\.0+|0\.0*)", re.IGNORECASE)


def accepts(lines: Sequence[str], media_type: str) -> bool:
    """Whether a client that sent these `Accept` lines takes a body of this media type.

    Without a line, or with nothing but empty ones, it takes everything. Of several ranges that cover the type the
    most specific decides (C{application/json;q=0, */*} excludes JSON), of several equally specific ones the most
    welcoming. Parameters other than the weight are ignored, and so is an element that is malformed.

    @param lines: the header's values, a line each.
    @param media_type: without parameters; case does not matter.
    """
    wanted = media_type.lower()
    whole, _, _ = wanted.partition("/")
    ranks = {wanted: 3, f"{whole}/*": 2, "*/*": 1}
    best = (0, False)
    nothing_said = True
    for media_range, welcome in _ranges(lines):
        nothing_said = False
        rank = ranks.get(media_range, 0)
        if rank:
            best = max(best, (rank, welcome))
    return nothing_said or best[1]


def _ranges(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each media range in lower case, and whether its weight is more than nothing."""
    for line in lines:
        for element in _ELEMENT.findall(line):
            parts = [part.strip(" \t") for part in _PART.findall(element)]
            if parts and parts[0]:
                yield parts[0].lower(), not any(_NOTHING.fullmatch(parameter) for parameter in parts[1:])
