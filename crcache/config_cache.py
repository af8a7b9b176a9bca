"""The configuration file's bounds of the cache."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crcache.grammar.excerpt import excerpt
from crcache.settings import Bounds, Share
from crcache.units import format_size, parse_size
from crcache.yaml_file import Entry, get

BOUNDS_KEYS = ("max-size", "min-free", "high-watermark", "low-watermark")

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%")


def read_bounds(section: Mapping[str, Entry]) -> Bounds:
    """The bounds in the C{cache} section.

    @raise ConfigError: naming the line and key.
    """
    default = Bounds()
    high = get(section, "high-watermark", _mark, default.high)
    low = get(section, "low-watermark", _mark, min(default.low, high))
    if low > high:
        # Only what stands in the file can be wrong.
        raise section["low-watermark"].wrong(f"must not be above high-watermark, which is {_percent(high * 100)}")
    return Bounds(
        max_size=get(section, "max-size", _max_size, default.max_size),
        min_free=get(section, "min-free", amount, default.min_free),
        high=high,
        low=low,
    )


def describe_bounds(bounds: Bounds) -> dict[str, str]:
    """The same as the file would say it."""
    return {
        "max-size": _described(bounds.max_size),
        "min-free": _described(bounds.min_free),
        "high-watermark": _percent(bounds.high * 100),
        "low-watermark": _percent(bounds.low * 100),
    }


def amount(text: str) -> int | Share:
    """A size, or a part of the file system."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        if text.endswith("%"):
            raise ValueError(f"{excerpt(text)} is not a part of the file system such as 80%")
        return parse_size(text)
    percent = float(match[1])
    if percent > 100:
        raise ValueError("must not be more than 100%")
    return Share(percent)


def _max_size(text: str) -> int | Share:
    found = amount(text)
    if found in (0, Share(0)):
        raise ValueError("must be more than nothing")
    return found


def _mark(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError("must be a part of what is allowed, such as 90%")
    return float(match[1]) / 100


def _described(amount: int | Share) -> str:
    return _percent(amount.percent) if isinstance(amount, Share) else format_size(amount)


def _percent(percent: float) -> str:
    return f"{round(percent, 3):g}%"
