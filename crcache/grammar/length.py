"""`Content-Length` and other counts in headers."""

from __future__ import annotations

import re

# 2**63 - 1, the largest offset in a file, has so many digits.
_DIGITS = re.compile(r"[0-9]{1,19}")


def parse_length(text: str) -> int | None:
    """The number that this is (RFC 9110, 8.6: C{1*DIGIT}, in ASCII); C{None} if it is none, or has over 19 digits."""
    return int(text) if _DIGITS.fullmatch(text) else None
