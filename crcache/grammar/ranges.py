"""Byte ranges: what a client asks for, and what an answer says it is.

https://www.rfc-editor.org/rfc/rfc9110.html#section-14 ::

    Range            = range-unit "=" range-set
    range-set        = 1#range-spec
    int-range        = first-pos "-" [ last-pos ]
    suffix-range     = "-" suffix-length
    Content-Range    = range-unit SP ( range-resp / unsatisfied-range )
    range-resp       = first-pos "-" last-pos "/" ( complete-length / "*" )
    unsatisfied-range = "*/" complete-length

Units are case-insensitive (14.1). On the wire the last position is inclusive; here every end is exclusive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crcache.errors import RangeNotSatisfiable

_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE = re.compile(r"bytes[ \t]+([0-9]+)-([0-9]+)/([0-9]+|\*)", re.IGNORECASE)

# Offsets in files are signed 64-bit numbers.
_LARGEST = 2**63 - 1
_MOST_DIGITS = len(str(_LARGEST))

#: A header with more ranges than this is ignored, as RFC 9110, 14.2 allows ("egregious" ones).
MOST_RANGES = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a body whose size is known: never empty, and within the body.

    @ivar start: the first byte.
    @ivar stop: one past the last byte.
    @ivar open_ended: the client named no end (C{bytes=k-}), so it takes what comes as all of the rest.
    """

    start: int
    stop: int
    open_ended: bool


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """One range as asked for, before the size is known.

    @ivar first: the first byte; C{None}: this is a suffix range, and C{last} the number of bytes at the end.
    @ivar last: the last byte, B{inclusive}; C{None}: to the end.
    """

    first: int | None
    last: int | None

    @property
    def open_ended(self) -> bool:
        """Whether it is C{bytes=k-}."""
        return self.last is None

    def resolve(self, size: int) -> Span:
        """The bytes that this range means of a body of C{size} bytes; what it asks for past the end is left out.

        @raise RangeNotSatisfiable: if it has none of the body's bytes (always so of an empty body, where a server
            does well to ignore C{Range} and answer 200). The error carries C{Content-Range: bytes */size}.
        """
        if self.first is None:
            start, stop = max(0, size - (self.last or 0)), size
        else:
            start, stop = self.first, size if self.last is None else min(size, self.last + 1)
        if start >= stop:
            raise RangeNotSatisfiable(
                f"Ask for a range that begins within the {size} bytes there are.",
                headers=[("Content-Range", f"bytes */{size}")],
            )
        return Span(start, stop, self.open_ended)


def parse_range(header: str | None) -> tuple[RangeSpec, ...] | None:
    """The ranges of a `Range` header in the order asked for, at least one; C{None} if it is to be ignored.

    That is what RFC 9110, 14.2 demands when there is no header, the unit is another one, or anything about it is
    malformed or absurd: the answer is the whole body then, never an error.
    """
    if header is None:
        return None
    unit, equals, rest = header.partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    # Empty list elements are legal and mean nothing (RFC 9110, 5.6.1.2). Too many, and the last one here is malformed.
    elements = rest.split(",", 2 * MOST_RANGES)
    ranges: list[RangeSpec] = []
    for element in filter(None, (element.strip(" \t") for element in elements)):
        parsed = _range_spec(element)
        if parsed is None or len(ranges) == MOST_RANGES:
            return None
        ranges.append(parsed)
    return tuple(ranges) or None


def _range_spec(text: str) -> RangeSpec | None:
    matched = _RANGE_SPEC.fullmatch(text)
    if matched is None:
        return None
    first, last = matched.groups()
    if not _sane(first or "0") or not _sane(last or "0"):
        return None
    if not first:
        return RangeSpec(None, int(last)) if last else None
    if last and int(last) < int(first):
        return None
    return RangeSpec(int(first), int(last) if last else None)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Which part of the whole an answer's body is.

    @ivar start: its first byte.
    @ivar stop: one past its last byte.
    @ivar total: the size of the whole; C{None} if the server didn't say.
    """

    start: int
    stop: int
    total: int | None


def content_range(start: int, stop: int, size: int | None) -> str:
    """The value of `Content-Range` for bytes C{start} to C{stop} (exclusive) of a body of C{size} bytes.

    @param size: C{None} while it isn't known.
    """
    return f"bytes {start}-{stop - 1}/{'*' if size is None else size}"


def parse_content_range(header: str | None) -> ContentRange | None:
    """The part that a 206's `Content-Range` names; C{None} if it names none, is malformed, or contradicts itself."""
    matched = None if header is None else _CONTENT_RANGE.fullmatch(header.strip(" \t"))
    if matched is None:
        return None
    first, last, total = matched.groups()
    if not (_sane(first) and _sane(last) and (total == "*" or _sane(total))):
        return None
    parsed = ContentRange(int(first), int(last) + 1, None if total == "*" else int(total))
    if not parsed.start < parsed.stop <= _LARGEST or (parsed.total is not None and parsed.stop > parsed.total):
        return None
    return parsed


def _sane(digits: str) -> bool:
    return len(digits) <= _MOST_DIGITS and int(digits) <= _LARGEST
