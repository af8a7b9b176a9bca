"""When content is checked again, and how fast: each file at least once a fortnight, and never in a hurry.

A round goes through all content in the order of digests. A new one begins every week and is done within six days, so
that thirteen days at most lie between two looks at the same file, wherever in the order it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DAY = 86400.0
#: Seconds from the beginning of one round to that of the next, and those that a round may take.
EVERY = 7 * DAY
WITHIN = 6 * DAY
#: Bytes a second, whatever else: small caches are done within hours, and large ones leave the disk to clients.
LEAST = 4.0 * (1 << 20)
MOST = 64.0 * (1 << 20)

_NAME = re.compile(r"|sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128}")


@dataclass(frozen=True)
class Round:
    """How far a round has come.

    @ivar began: in seconds since the epoch.
    @ivar after: the name of the last content that was checked; empty at the beginning.
    @ivar files: how many files have been checked.
    @ivar size: how many bytes they had.
    @ivar damaged: how many of them were not what they should be.
    @ivar over: whether there is no more in this round.
    """

    began: float
    after: str = ""
    files: int = 0
    size: int = 0
    damaged: int = 0
    over: bool = False


def resumed(record: Mapping[str, Any] | None, now: float) -> Round:
    """The round that was under way, as C{vars} of it were noted; a new one if they make no sense.

    One that begins in the future is none: a clock has been set back, and nobody knows when it began.
    """
    if record is None:
        return Round(now)
    try:
        found = Round(**record)
    except TypeError:
        return Round(now)
    counts = (found.files, found.size, found.damaged)
    sound = (
        _is_time(found.began)
        and found.began <= now
        and isinstance(found.after, str)
        and _NAME.fullmatch(found.after) is not None
        and isinstance(found.over, bool)
        and all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
    )
    return found if sound else Round(now)


def rest(current: Round, now: float) -> float:
    """Seconds until there is something to check; 0 at once. A clock that was set back is no reason to wait longer."""
    if not current.over:
        return 0.0
    return min(max(current.began + EVERY - now, 0.0), EVERY)


def pace(current: Round, now: float, total: int | None) -> float:
    """How many bytes a second to check, so that the round ends in time.

    What is late anyway takes another day: being late is better than being felt.

    @param total: bytes of all content; C{None} if nobody knows.
    """
    left = max((total or 0) - current.size, 0)
    seconds = max(current.began + WITHIN - now, DAY)
    return min(max(left / seconds, LEAST), MOST)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
