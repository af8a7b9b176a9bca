"""Which of several parents is asked for what, and when one that fails is asked again.

Each thing has an order of the parents of its own (rendezvous hashing, or highest random weight; Thaler and Ravishankar,
"Using Name-Based Mappings to Increase Hit Rates", 1998): every cache below comes to the same one without talking to the
others, each parent gets an equal share, and when one is missing only its own share goes elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds for which one that fails is left alone at first; twice as long each time that it fails again.
PAUSE = 30.0
LONGEST = 300.0
#: So many errors in a row, of one registry's questions, are taken for a failure: one may be about a certain thing.
ERRORS = 3


def ranked(parents: Sequence[str], subject: str) -> list[str]:
    """The parents, whoever is to be asked first for a subject first.

    @param parents: their URLs: all caches below must spell them alike.
    """
    return sorted(parents, key=lambda parent: _weight(parent, subject), reverse=True)


def _weight(parent: str, subject: str) -> bytes:
    # No URL has the character between them. What is hashed are names, not secrets; but a client that could choose
    # digests to its liking could have one parent asked for all of them, so it is a hash that nobody can steer cheaply.
    return hashlib.sha256(f"{parent}\n{subject}".encode()).digest()


@dataclass(frozen=True)
class Standing:
    """What is remembered of one parent, or of what it is asked of one registry.

    @ivar errors: so many in a row.
    @ivar failures: so many in a row; after each it is left alone.
    @ivar since: when it began to fail, in seconds of any one clock.
    @ivar until: when that ends; C{None} while it is well.
    """

    errors: int = 0
    failures: int = 0
    since: float = 0.0
    until: float | None = None


#: Of one that answers.
WELL = Standing()


def skipped(standing: Standing, now: float) -> bool:
    """Whether it is left alone now."""
    return standing.until is not None and now < standing.until


def failed(standing: Standing, now: float) -> Standing:
    """It has failed, or does so still."""
    failures = standing.failures + 1
    since = standing.since if standing.failures else now
    # A parent that is away for months has failed very often.
    return Standing(0, failures, since, now + min(PAUSE * 2 ** min(failures - 1, 10), LONGEST))


def erred(standing: Standing, now: float) -> Standing:
    """It has answered with an error of its own: that is a failure if it does so again and again."""
    if standing.failures or standing.errors + 1 >= ERRORS:
        return failed(standing, now)
    return Standing(errors=standing.errors + 1)
