"""How foreign text is quoted in a message."""

from __future__ import annotations

_LONGEST = 80


def excerpt(text: str) -> str:
    """The text between quotes for a one-line message: printable ASCII only, and cut short if it is long."""
    if len(text) > _LONGEST:
        return ascii(text[:_LONGEST]) + "…"
    return ascii(text)
