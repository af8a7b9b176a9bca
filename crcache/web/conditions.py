"""Conditional and range requests (RFC 9110, 13 and 14) to content whose entity tag is its digest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from crcache.grammar.ranges import RangeSpec, parse_range

# RFC 9110, 8.8.3: entity-tag = [ weak ] opaque-tag; opaque-tag = DQUOTE *etagc DQUOTE
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def not_modified(if_none_match: Sequence[str], etag: str) -> bool:
    """Whether the client has this content already (RFC 9110, 13.1.2: weak comparison)."""
    return any(line.strip() == "*" or etag in _ENTITY_TAG.findall(line) for line in if_none_match)


def range_asked(ranges: Sequence[str], if_range: Sequence[str], etag: str) -> RangeSpec | None:
    """The one range to answer, or C{None} for the whole.

    More than one range, one of another unit or not of the grammar is ignored, as RFC 9110, 14.2 allows; so is any if
    C{If-Range} (13.1.5: strong comparison) does not name this very content. A date never does.
    """
    if len(ranges) != 1 or (if_range and [value.strip() for value in if_range] != [etag]):
        return None
    specs = parse_range(ranges[0])
    return specs[0] if specs is not None and len(specs) == 1 else None
