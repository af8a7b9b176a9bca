"""L{crcache.grants.moments}."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from crcache.grants.moments import TTL, Moment, expiry, is_ahead, now
from tests.grants.case import START


class MomentTests(SynchronousTestCase):
    """Two clocks that have to agree."""

    def test_lives(self) -> None:
        """A grant lives from when it is given until it expires, by whichever clock is ahead."""
        end = expiry(START)
        for day, boot, lives in (
            (0, 0, True),
            (TTL - 1, TTL - 1, True),
            (TTL, TTL, False),
            (TTL, 1, False),
            (1, TTL, False),
            (-0.5, 0.5, True),
        ):
            self.assertIs(is_ahead(end, Moment(START.day + day, START.boot + boot)), lives, (day, boot))

    def test_set_back(self) -> None:
        """A time of day that is set back prolongs nothing: by more than a grant's time it ends it."""
        end = expiry(START)
        for day, boot, lives in ((-10, 100, False), (90, 100, True), (-3600, 1, False), (100, TTL, False)):
            self.assertIs(is_ahead(end, Moment(START.day + day, START.boot + boot)), lives, (day, boot))

    def test_another_boot(self) -> None:
        """What was granted before the machine was restarted expires with it, however soon that was."""
        self.assertFalse(is_ahead(expiry(START), Moment(START.day + 20, 10.0)))

    def test_now(self) -> None:
        """It is by the time of day, and by a clock that goes on."""
        first, day, second = now(), time.time(), now()
        self.assertLessEqual(first.day, day)
        self.assertLessEqual(day, second.day)
        self.assertLessEqual(first.boot, second.boot)
        self.assertTrue(is_ahead(expiry(first), second))
