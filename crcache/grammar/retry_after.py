"""`Retry-After`: for how long a server wants to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crcache.grammar.length import parse_length

#: Seconds, if the server does not say; at least; and at most.
DEFAULT = 5.0
SHORTEST = 1.0
LONGEST = 3600.0


def parse_retry_after(text: str | None, date: str | None) -> float | None:
    """How many seconds that is (RFC 9110, 10.2.3: C{HTTP-date / delay-seconds}); C{None} if it says nothing.

    @param date: the answer's C{Date}. A date is meant by the server's clock, which need not be ours.
    """
    seconds = parse_length((text or "").strip())
    if seconds is not None:
        return float(seconds)
    then, now = _parse_date(text), _parse_date(date)
    return None if then is None or now is None else max((then - now).total_seconds(), 0.0)


def rest(said: float | None) -> float:
    """How many seconds a server that limits our rate is left alone: what it says, within bounds."""
    return DEFAULT if said is None else min(max(said, SHORTEST), LONGEST)


def _parse_date(text: str | None) -> datetime | None:
    """RFC 9110, 5.6.7. All its forms are those of mail, too, but for the zone that some leave out: it is UTC."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
