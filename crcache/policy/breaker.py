"""Whether an origin that fails is asked at all.

A circuit breaker: after some failures in a row it is left alone for a few seconds (open), then one question finds out
how it does (half-open), and its answer lets all others through again (closed).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum

#: So many failures in a row open it.
FAILURES = 3
#: What is asked later than so many seconds after a failure begins a new row.
WINDOW = 10.0
#: Seconds that it stays open after there was no answer, for which clients may have waited long.
SILENT = 5.0
#: Seconds that it stays open after answers that are errors. They cost little, and may be about certain things alone.
ERRING = 2.0


class Standing(Enum):
    """What becomes of the next question."""

    CLOSED = "closed"
    """It is put."""
    PROBE = "probe"
    """It is put, and others wait for what comes of it: tell L{probing}."""
    OPEN = "open"
    """It is not put."""


@dataclass(frozen=True)
class Breaker:
    """What is remembered of one origin.

    @ivar failures: so many in a row.
    @ivar subjects: what those were about that the origin heard of: the same thing counts once in a row, since it may
        be that alone.
    @ivar last: when it last failed.
    @ivar until: from when on it may be asked again; C{None} while it is closed.
    @ivar probe: whether somebody is finding out.
    """

    failures: int = 0
    subjects: frozenset[Hashable] = frozenset()
    last: float = 0.0
    until: float | None = None
    probe: bool = False


#: Of an origin that answers.
WELL = Breaker()


def standing(breaker: Breaker, now: float) -> Standing:
    """What becomes of a question now."""
    if breaker.until is None:
        return Standing.CLOSED
    return Standing.OPEN if breaker.probe or now < breaker.until else Standing.PROBE


def probing(breaker: Breaker) -> Breaker:
    """Somebody finds out."""
    return replace(breaker, probe=True)


def abandoned(breaker: Breaker) -> Breaker:
    """Whoever was finding out has gone without a result: it is the next one's turn."""
    return replace(breaker, probe=False)


def failed(
    breaker: Breaker,
    asked: float,
    now: float,
    subject: Hashable | None,
    *,
    silent: bool = False,
    probe: bool = False,
) -> Breaker:
    """A question has failed.

    @param asked: when it was put, which may be long ago.
    @param subject: what it was about, if it was heard; C{None} if it did not get that far, whatever it was about.
    @param silent: whether there was no answer to what was heard; otherwise that was an error.
    @param probe: whether it was put to find out. While it is open no other failure counts.
    """
    rest = SILENT if subject is None or silent else ERRING
    if breaker.until is not None:
        return replace(breaker, last=now, until=now + rest, probe=False) if probe else breaker
    if asked - breaker.last > WINDOW:
        breaker = WELL
    if subject is not None and subject in breaker.subjects:
        return replace(breaker, last=now)
    subjects = breaker.subjects if subject is None else breaker.subjects | {subject}
    failures = breaker.failures + 1
    return Breaker(failures, subjects, now, now + rest if failures >= FAILURES else None)
