"""Objects that were not what their names say: told once, and not asked for again for a while."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from crcache import events
from crcache.policy.freshness import Lately

log = Logger()

#: Seconds for which such an object is left alone, unless it is put right before.
AVOIDED = 3600.0


class Lies:
    """Remembers them by their names. Whoever finds out more about one later takes it out again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: any time, in seconds.
        """
        self._clock = clock
        self._found: Lately[str] = Lately()

    def add(self, key: str, problem: str) -> None:
        """This object is not what its name says."""
        if self.holds(key):
            return
        self._found.add(key, self._clock(), AVOIDED)
        told = "the object {path} in the bucket is ignored: it {problem}"
        log.warn(told, event=events.BUCKET_WRONG, path=key, problem=problem)

    def holds(self, key: str) -> bool:
        """Whether it was not, lately."""
        return self._found.holds(key, self._clock())

    def mended(self, key: str) -> None:
        """It has been replaced, or removed. Idempotent."""
        self._found.forget(key)
