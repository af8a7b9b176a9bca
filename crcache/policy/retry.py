"""Whether and when something that failed is tried again."""

from __future__ import annotations

FIRST = 0.1
LONGEST = 5.0


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
