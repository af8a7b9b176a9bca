"""A value that no log, error, metric or repr ever shows."""

from __future__ import annotations

import hmac


class Secret:
    """A password, token or `Authorization` header: text that only L{reveal} gives away.

    Two secrets are equal if their texts are; a secret can be a dictionary's key.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a secret is not pickled")
