"""Tests for L{crcache.grammar.length}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.length import parse_length


class ParseLengthTests(SynchronousTestCase):
    """L{parse_length}."""

    def test_taken(self) -> None:
        """ASCII digits are a number, leading zeros or not."""
        for text, number in (("0", 0), ("7", 7), ("007", 7), ("9223372036854775807", 2**63 - 1)):
            self.assertEqual(parse_length(text), number)

    def test_refused(self) -> None:
        """Signs, spaces, other alphabets' digits, and numbers or digits beyond any length are none."""
        for text in (
            "",
            "-1",
            "+1",
            " 1",
            "1\n",
            "1, 1",
            "1_0",
            "0x1",
            "\u00b2",
            "\u0661",
            "\uff11",
            "9223372036854775808",
            "0" * 20,
            "1" * 20,
            "1" * 5000,
        ):
            self.assertIsNone(parse_length(text), text)
