"""`Content-Length` and other counts in headers."""

from __future__ import annotations

import re

# Offsets in files are signed 64-bit numbers, of so many digits at most.
_LARGEST = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")


def parse_length(text: str) -> int | None:
    """The number that this is (RFC 9110, 8.6: C{1*DIGIT}, in ASCII); C{None} if it is none, over 2**63 - 1, or has over
    19 digits."""
    number = int(text) if _DIGITS.fullmatch(text) else None
    return None if number is None or number > _LARGEST else number
