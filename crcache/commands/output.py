"""What commands print: JSON, tables, and sizes and ages as people read them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from crcache.grammar.digest import Digest
from crcache.inventory.problems import Problems
from crcache.units import SIZES

#: Hexadecimal digits of a digest that are shown where it need not be whole.
SHORT = 12
_AGES = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """For C{argparse}: a C{ValueError} becomes misuse, with its reason."""

    def convert(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def print_json(value: object) -> None:
    """One document on stdout."""
    print(json.dumps(value, indent=2))


def tell(problems: Problems) -> None:
    """What was passed over, a line each on stderr."""
    for line in problems.told():
        print(f"crcache: {line}", file=sys.stderr)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Rows in columns as wide as they need.

    @param right: the heads of columns that end at their right.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ]
        print("  ".join(cells).rstrip())


def size(count: int | None) -> str:
    """A size with three digits or so; C{?} if nobody knows."""
    if count is None:
        return "?"
    unit, scale = next(((unit, scale) for unit, scale in SIZES.items() if count >= scale), ("B", 1))
    number = count / scale
    return f"{number:.1f} {unit}" if unit != "B" and number < 100 else f"{number:.0f} {unit}"


def age(then: float | None, now: float) -> str:
    """How long ago, in the largest unit that gives a whole number; C{-} if that is not known."""
    if then is None:
        return "-"
    seconds = max(now - then, 0)
    unit, scale = next(((unit, scale) for unit, scale in _AGES if seconds >= 2 * scale or scale == 1))
    return f"{int(seconds // scale)}{unit}"


def moment(then: float | None) -> str | None:
    """RFC 3339, in UTC, for JSON; C{None} if it is not known, or beyond what calendars have."""
    if then is None:
        return None
    try:
        return datetime.fromtimestamp(int(then), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def short(digest: Digest) -> str:
    """As much of a digest as tells it from others."""
    return f"{digest.algorithm}:{digest.hex[:SHORT]}"
