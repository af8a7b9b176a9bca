"""Tests for L{crcache.grammar.json_value}."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.json_value import load_json

ASCII = st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=126))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**400), 10**400), ASCII, st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(ASCII, inner, max_size=5)),
    max_leaves=20,
)


class LoadTests(SynchronousTestCase):
    """L{load_json}."""

    @given(VALUES.filter(lambda value: "Infinity" not in json.dumps(value)))
    def test_round_trip(self, value: object) -> None:
        """What is JSON means what it says."""
        self.assertEqual(load_json(json.dumps(value).encode(), 1000), value)

    def test_values(self) -> None:
        """As many values as may be, and no more, wherever they are; it is told before anything is made of them."""
        for opening, value, closing in ((b"[", b"1", b"]"), (b'{"a":', b"[]", b"}"), (b"[", b"{}", b"]")):
            cost = 2 if value != b"1" else 1
            good = opening + b",".join([value] * 100) + closing
            if opening == b"[":
                self.assertEqual(len(load_json(good, 100 * cost)), 100)  # type: ignore[arg-type]
            self.assertRaises(ValueError, load_json, good, 100 * cost - 1)

    def test_numbers(self) -> None:
        """Numbers that would take long are refused, whatever the interpreter's own limits; all others are exact."""
        for text in ("9" * 501, "-" + "9" * 500, "1." + "1" * 29, "1" * 28 + "e-3", "0." + "0" * 1_000_000):
            self.assertRaises(ValueError, load_json, text.encode(), 10)
        self.assertEqual(load_json(b"9" * 500, 10), 10**500 - 1)
        self.assertEqual(load_json(b"2.2250738585072014e-308", 10), 2.2250738585072014e-308)
        self.assertEqual(load_json(b"1e999", 10), math.inf)
        self.assertEqual(load_json(b"[NaN,Infinity,-Infinity]", 10), [None, None, None])

    def test_depth(self) -> None:
        """What is nested beyond all measure is refused; a depth that anyone means is not."""
        self.assertEqual(load_json(b"[" * 100 + b"]" * 100, 1000).__class__, list)
        for bomb in (b"[" * 80_000, b'{"a":' * 80_000, b"[" * 40_000 + b"]" * 40_000):
            self.assertRaises(ValueError, load_json, bomb, 100_000)

    def test_text(self) -> None:
        """Only UTF-8 is taken, without a mark before it. Half a pair of surrogates harms nobody."""
        for body in (b'"\xff"', b'"\xed\xa0\x80"', b'\xef\xbb\xbf""', '"x"'.encode("utf-16"), b'"\n"', b'"\\x"', b'"'):
            self.assertRaises(ValueError, load_json, body, 10)
        self.assertEqual(load_json('"é"'.encode(), 10), "é".encode().decode("latin-1"))
        self.assertEqual(load_json(b'"\\u00e9\\ud800"', 10), "é\ud800")

    def test_twice(self) -> None:
        """Of a key given twice the last counts, also if it is written in another way."""
        self.assertEqual(load_json(b'{"a":1,"a":2,"\\u0061":3}', 10), {"a": 3})
