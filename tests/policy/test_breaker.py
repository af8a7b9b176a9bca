"""Tests for L{crcache.policy.breaker}."""

from __future__ import annotations

from collections.abc import Hashable

from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.breaker import (
    ERRING,
    FAILURES,
    SILENT,
    WELL,
    WINDOW,
    Breaker,
    Standing,
    abandoned,
    failed,
    probing,
    standing,
)


def row(*times: float, subject: Hashable | None = None, silent: bool = False) -> Breaker:
    """What is remembered after failures at these times."""
    breaker = WELL
    for time in times:
        breaker = failed(breaker, time, time, subject, silent=silent)
    return breaker


class BreakerTests(SynchronousTestCase):
    """The decisions, one after another."""

    def test_well(self) -> None:
        """An origin of which nothing is known is asked."""
        self.assertIs(standing(WELL, 0.0), Standing.CLOSED)

    def test_opens(self) -> None:
        """A few failures without an answer open it, for some seconds; one fewer does not."""
        few = [100.0 + number for number in range(FAILURES)]
        self.assertIs(standing(row(*few[:-1]), few[-1]), Standing.CLOSED)
        breaker = row(*few)
        self.assertIs(standing(breaker, few[-1]), Standing.OPEN)
        self.assertIs(standing(breaker, few[-1] + SILENT - 0.01), Standing.OPEN)
        self.assertIs(standing(breaker, few[-1] + SILENT), Standing.PROBE)

    def test_row(self) -> None:
        """Failures that are far apart are no row."""
        apart = [number * (WINDOW + 1) for number in range(10)]
        self.assertIs(standing(row(*apart), apart[-1]), Standing.CLOSED)
        near = [number * WINDOW for number in range(FAILURES)]
        self.assertIs(standing(row(*near), near[-1]), Standing.OPEN)

    def test_slow_row(self) -> None:
        """One after another that waits for long is a row, however long that takes: when it was asked counts."""
        breaker = WELL
        for number in range(FAILURES):
            breaker = failed(breaker, number * 60.0, number * 60.0 + 59.0, None)
        self.assertIs(standing(breaker, number * 60.0 + 59.0), Standing.OPEN)

    def test_errors(self) -> None:
        """Errors that are answers open it, for less long; those about one and the same thing never do."""
        self.assertIs(standing(row(*[100.0] * 50, subject="layer"), 100.0), Standing.CLOSED)
        breaker = WELL
        for number in range(FAILURES):
            breaker = failed(breaker, 100.0, 100.0, f"layer {number}")
        self.assertIs(standing(breaker, 100.0), Standing.OPEN)
        self.assertIs(standing(breaker, 100.0 + ERRING), Standing.PROBE)

    def test_silent_thing(self) -> None:
        """If there is no answer to what was heard it may be that thing alone; to several things, it is left alone as
        long as one that hears nothing."""
        self.assertIs(standing(row(*[100.0] * 50, subject="layer", silent=True), 100.0), Standing.CLOSED)
        breaker = WELL
        for number in range(FAILURES):
            breaker = failed(breaker, 100.0, 100.0, f"layer {number}", silent=True)
        self.assertIs(standing(breaker, 100.0 + SILENT - 0.01), Standing.OPEN)
        self.assertIs(standing(breaker, 100.0 + SILENT), Standing.PROBE)

    def test_one_probe(self) -> None:
        """While one finds out how it does the others wait; if that one goes away it is the next one's turn."""
        breaker = probing(row(0.0, 0.0, 0.0))
        self.assertIs(standing(breaker, SILENT + 100), Standing.OPEN)
        self.assertIs(standing(abandoned(breaker), SILENT + 100), Standing.PROBE)

    def test_probe_fails(self) -> None:
        """A probe that fails opens it again, for as long as before."""
        breaker = failed(probing(row(0.0, 0.0, 0.0)), 10.0, 30.0, None, probe=True)
        self.assertIs(standing(breaker, 30.0 + SILENT - 0.01), Standing.OPEN)
        self.assertIs(standing(breaker, 30.0 + SILENT), Standing.PROBE)

    def test_late_failures(self) -> None:
        """What fails while it is open was put before: it does not keep it open."""
        breaker = row(0.0, 0.0, 0.0)
        for time in (1.0, SILENT - 1, SILENT + 1):
            breaker = failed(breaker, 0.0, time, None)
        self.assertIs(standing(breaker, SILENT), Standing.PROBE)
        self.assertIs(standing(failed(probing(breaker), 0.0, SILENT + 1, None), SILENT + 1), Standing.OPEN)
