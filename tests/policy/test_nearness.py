"""Tests for L{crcache.policy.nearness}."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.nearness import ERRORS, LONGEST, PAUSE, WELL, erred, failed, ranked, skipped

PARENTS = [f"http://rack-{number}:3000" for number in range(5)]
SUBJECTS = [f"sha256:{number:064x}" for number in range(10_000)]


class RankedTests(SynchronousTestCase):
    """Who is asked first."""

    def test_balance(self) -> None:
        """Each parent gets its share, within a tenth; and so it does of those whose first one is missing."""
        for place in (0, 1):
            shares = Counter(ranked(PARENTS, subject)[place] for subject in SUBJECTS)
            self.assertEqual(set(shares), set(PARENTS))
            for count in shares.values():
                self.assertLess(abs(count / 2000 - 1), 0.1)

    def test_order(self) -> None:
        """In which order they are configured makes no difference; each is there once."""
        for subject in SUBJECTS[:100]:
            found = ranked(PARENTS, subject)
            self.assertEqual(ranked(list(reversed(PARENTS)), subject), found)
            self.assertEqual(sorted(found), sorted(PARENTS))

    def test_one_goes(self) -> None:
        """When one goes, only its own share goes to others, to each of them alike; all else stays where it was."""
        gone, left = PARENTS[2], PARENTS[:2] + PARENTS[3:]
        moved: Counter[str] = Counter()
        for subject in SUBJECTS:
            before, after = ranked(PARENTS, subject), ranked(left, subject)
            if before[0] == gone:
                self.assertEqual(after[0], before[1])
                moved[after[0]] += 1
            else:
                self.assertEqual(after[0], before[0])
        for count in moved.values():
            self.assertLess(abs(count / 500 - 1), 0.2)

    def test_none(self) -> None:
        """Of none there is no order."""
        self.assertEqual(ranked([], "x"), [])


class StandingTests(SynchronousTestCase):
    """How long one that fails is left alone."""

    def test_grows(self) -> None:
        """Longer each time, up to a limit, however often; since when is remembered."""
        standing, now = WELL, 1000.0
        for expected in (PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, LONGEST, LONGEST):
            standing = failed(standing, now)
            self.assertTrue(skipped(standing, now + expected - 0.1))
            self.assertFalse(skipped(standing, now + expected))
            now += expected
        self.assertEqual(standing.since, 1000.0)
        for _ in range(5000):
            standing = failed(standing, now)
        self.assertEqual(standing.until, now + LONGEST)

    def test_errors(self) -> None:
        """It takes some errors in a row; one more after that is enough."""
        standing = WELL
        for _ in range(ERRORS - 1):
            standing = erred(standing, 0.0)
            self.assertFalse(skipped(standing, 0.0))
        standing = erred(standing, 0.0)
        self.assertTrue(skipped(standing, PAUSE - 1))
        self.assertTrue(skipped(erred(standing, PAUSE), PAUSE + 1))
