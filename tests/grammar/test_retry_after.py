"""Tests for L{crcache.grammar.retry_after}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.retry_after import DEFAULT, LONGEST, SHORTEST, parse_retry_after, rest

#: RFC 9110, 5.6.7: the same moment in its three forms.
DATES = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")


class RetryAfterTests(SynchronousTestCase):
    """What a server says, and what is made of it."""

    def test_seconds(self) -> None:
        """A number is one of seconds."""
        for text, seconds in (("0", 0.0), ("120", 120.0), (" 7 ", 7.0)):
            self.assertEqual(parse_retry_after(text, None), seconds)

    def test_dates(self) -> None:
        """A date, in any form, is that of the server's own clock; one that has passed means now."""
        for then in DATES:
            for now in DATES:
                self.assertEqual(parse_retry_after(then, now), 0.0)
            self.assertEqual(parse_retry_after(then, "Sun, 06 Nov 1994 08:49:07 GMT"), 30.0)
            self.assertEqual(parse_retry_after(then, "Sun, 06 Nov 1994 09:49:07 GMT"), 0.0)

    def test_nonsense(self) -> None:
        """What is neither says nothing; nor does a date if the server does not say what it takes the time to be."""
        for text in (None, "", "soon", "-1", "1.5", "1e3", "\u0663", "Sun, 99 Nov 1994 08:49:37 GMT", "9" * 30):
            self.assertIsNone(parse_retry_after(text, DATES[0]), text)
        for date in (None, "", "now", "7"):
            self.assertIsNone(parse_retry_after(DATES[0], date), date)

    def test_rest(self) -> None:
        """Without a word it is some seconds; never none at all, nor more than an hour."""
        self.assertEqual(rest(None), DEFAULT)
        self.assertEqual(rest(17.0), 17.0)
        self.assertEqual(rest(0.0), SHORTEST)
        self.assertEqual(rest(86400.0), LONGEST)
