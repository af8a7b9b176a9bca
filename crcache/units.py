"""Durations and sizes as people write them: a number and a unit, C{ms s m h d} or C{B KiB MiB GiB TiB}."""

from __future__ import annotations

import re
from decimal import Decimal

from crcache.grammar.excerpt import excerpt

#: Seconds in each unit, the longest first.
UNITS = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}

#: Ten years: beyond it lie only mistakes, and numbers that the reactor's clock cannot count.
LONGEST = 3650 * UNITS["d"]

_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(rf"({_NUMBER.pattern}) ?(ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as C{500ms}, C{60s} or C{7d}; zero needs no unit.

    @raise ValueError: with what is wrong and what would be right.
    """
    if _NUMBER.fullmatch(text):
        if Decimal(text) == 0:
            return 0.0
        raise ValueError(f"{text} needs a unit, as in {text}s (ms, s, m, h or d)")
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{excerpt(text)} is not a duration such as 500ms, 60s, 5m, 12h or 7d")
    seconds = Decimal(match[1]) * UNITS[match[2]]
    if seconds > LONGEST:
        raise ValueError(f"{text} is longer than {LONGEST / UNITS['d']}d")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest text that L{parse_duration} reads as C{seconds} again."""
    if seconds == 0:
        return "0s"
    exact = Decimal(repr(seconds))
    for unit, size in UNITS.items():
        count = exact / size
        if count == count.to_integral_value():
            return f"{count:.0f}{unit}"
    # No more decimals than can be read again: in thousandths there are three fewer of them.
    return f"{exact:f}s" if exact == round(exact, 9) else f"{(exact * 1000).normalize():f}ms"


#: Bytes in each unit, the largest first.
SIZES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}

#: The largest file offset.
MOST = (1 << 63) - 1

_SIZE = re.compile(rf"({_NUMBER.pattern}) ?(TiB|GiB|MiB|KiB|B)")


def parse_size(text: str) -> int:
    """Bytes of a size such as C{500MiB} or C{1.5TiB}; zero needs no unit.

    @raise ValueError: with what is wrong and what would be right.
    """
    if _NUMBER.fullmatch(text):
        if Decimal(text) == 0:
            return 0
        raise ValueError(f"{text} needs a unit, as in {text}GiB (B, KiB, MiB, GiB or TiB)")
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{excerpt(text)} is not a size such as 500MiB, 20GiB or 1.5TiB")
    count = Decimal(match[1]) * SIZES[match[2]]
    if count > MOST:
        raise ValueError(f"{text} is more than any file system holds")
    return int(count)


def format_size(count: int) -> str:
    """The shortest text that L{parse_size} reads as C{count} again."""
    if count == 0:
        return "0B"
    unit, size = next((unit, size) for unit, size in SIZES.items() if count % size == 0)
    return f"{count // size}{unit}"
