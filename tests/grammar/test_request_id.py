"""Tests for L{crcache.grammar.request_id}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.request_id import parse_request_id


class ParseRequestIdTests(SynchronousTestCase):
    """L{parse_request_id}."""

    @given(st.text(alphabet="azAZ09._-", min_size=1, max_size=64))
    def test_taken(self, text: str) -> None:
        """A well-formed id is taken as it is."""
        self.assertEqual(parse_request_id(text), text)

    def test_refused(self) -> None:
        """No id, an empty or long one, and one with anything that could break a line are refused."""
        for text in (
            None,
            "",
            "a" * 65,
            "a b",
            "a\n",
            "a\r\nb: c",
            "a\x00",
            "\u00e9",
            "\u0661",
            'a"',
            "a/b",
            "{a}",
            "%41",
        ):
            self.assertIsNone(parse_request_id(text))
