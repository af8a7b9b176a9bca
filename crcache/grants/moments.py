"""When grants expire, by two clocks that have to agree."""

from __future__ import annotations

import time
from typing import NamedTuple

#: Seconds that a grant lasts, from when it was last given.
TTL = 300.0
#: Seconds more than that which are still believed: the time of day is adjusted all the time, by a little.
SLACK = 1.0


class Moment(NamedTuple):
    """A point in time.

    @ivar day: in seconds since the epoch: goes on over the machine's restarts, but anybody may set it.
    @ivar boot: in seconds since the machine was started: nobody can set it, and it counts while the machine sleeps.
    """

    day: float
    boot: float


def now() -> Moment:
    """This very one."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def expiry(given: Moment) -> Moment:
    """When what is granted now expires."""
    return Moment(given.day + TTL, given.boot + TTL)


def is_ahead(end: Moment, at: Moment) -> bool:
    """Whether a grant that ends then lives now. Further ahead than any can be, it is of a clock that was set since."""
    return all(0 < left <= TTL + SLACK for left in (end.day - at.day, end.boot - at.boot))
