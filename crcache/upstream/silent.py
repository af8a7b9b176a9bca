"""URLs that gave no answer lately: where there are others, those are asked first."""

from __future__ import annotations

from typing import Any

from crcache.upstream.shared import Recent

#: Seconds for which that is remembered.
REMEMBERED = 10.0
_KEPT = 1024


class Silent:
    """Notes them. It decides no more than an order."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._until: Recent[str, float] = Recent(_KEPT)

    def note(self, url: str) -> None:
        """There was no answer."""
        self._until.put(url, self._clock.seconds() + REMEMBERED)

    def forget(self, url: str) -> None:
        """There is one again."""
        self._until.drop(url)

    def lately(self, url: str) -> bool:
        """Whether there was none a moment ago."""
        until = self._until.get(url)
        return until is not None and self._clock.seconds() < until
