"""Whether and when something that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 0.1
LONGEST = 5.0
#: An origin that says for how long it wants to be left alone is waited for: so many seconds at most, and so often
#: without progress before that counts as a failure.
PATIENCE = 120.0
WAITS = 3


def pause(failures: int, retries: int, chance: float) -> float | None:
    """How many seconds to wait before the next try; C{None} to give up.

    The pause doubles from a tenth of a second up to five, and is cut by up to half by chance, so that many who failed
    together do not come back together.

    @param failures: so many in a row without progress, at least 1.
    @param retries: how many are made without progress.
    @param chance: from 0 up to 1.
    """
    if failures > retries:
        return None
    full = min(FIRST * 2.0 ** min(failures - 1, 16), LONGEST)
    return full * (1 - chance / 2)


class Tries:
    """How often the same body has been asked for without progress."""

    def __init__(self, retry: Callable[[int], float | None]) -> None:
        """
        @param retry: how many seconds to wait after so many failures in a row; C{None} to give up.
        """
        self._retry = retry
        self._failures = 0
        self._waits = 0

    def progressed(self) -> None:
        """Some of it has come."""
        self._failures = self._waits = 0

    def failed(self, wanted: float | None) -> float | None:
        """How many seconds to wait before the next try; C{None} to give up.

        @param wanted: for how many seconds the origin wants to be left alone, if it says so: that is no failure.
        """
        if wanted is None or self._waits >= WAITS:
            self._failures += 1
            return self._retry(self._failures)
        self._waits += 1
        least = self._retry(max(self._failures, 1))
        return None if least is None else max(least, min(wanted, PATIENCE))
