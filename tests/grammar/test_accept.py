"""Tests for L{crcache.grammar.accept}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.accept import accepts
from crcache.grammar.manifest import ACCEPT, KNOWN, OCI_INDEX, OCI_MANIFEST

TYPES = st.sampled_from(sorted(KNOWN))


class AcceptsTests(SynchronousTestCase):
    """L{accepts}."""

    def test_silence(self) -> None:
        """A client that says nothing takes everything."""
        for lines in ((), ("",), (" ", ","), (";",)):
            self.assertTrue(accepts(lines, OCI_INDEX))

    @given(st.lists(TYPES, min_size=1), TYPES, st.sampled_from([",", ", ", " ,, "]), st.booleans())
    def test_listed(self, listed: list[str], media_type: str, comma: str, one_line: bool) -> None:
        """A type is taken if it is listed, in one line or in many, in any case, with any parameters."""
        lines = [f"{listed_type.upper()} ; charset=utf-8;q=0.5" for listed_type in listed]
        if one_line:
            lines = [comma.join(lines)]
        self.assertEqual(accepts(lines, media_type), media_type in listed)

    def test_wildcards(self) -> None:
        """C{*/*} covers every type, C{application/*} every application's."""
        self.assertTrue(accepts(["text/html", "*/*"], OCI_INDEX))
        self.assertTrue(accepts(["application/*"], OCI_INDEX.upper()))
        self.assertFalse(accepts(["text/*, image/png"], OCI_INDEX))
        self.assertFalse(accepts(["app/*, *, */json, appl*"], OCI_INDEX))
        for media_type in KNOWN:
            self.assertTrue(accepts(ACCEPT, media_type))

    def test_weight(self) -> None:
        """A weight of nothing excludes, any other includes, and the most specific range decides."""
        for weight in ("q=0", "Q=0.0", " q=0.000", "q = 0", "charset=x;q=0", "q=.0"):
            self.assertFalse(accepts([f"{OCI_INDEX};{weight}", "*/*, application/*"], OCI_INDEX), weight)
            self.assertTrue(accepts([f"{OCI_INDEX};{weight}", "*/*, application/*"], OCI_MANIFEST), weight)
            self.assertFalse(accepts([f"*/*;{weight}"], OCI_INDEX), weight)
        for weight in ("q=1", "q=0.001", "q=0.5", "q=", "q=x", "qq=0", "q=1;x=0"):
            self.assertTrue(accepts([f"{OCI_INDEX};{weight}"], OCI_INDEX), weight)
        self.assertFalse(accepts(["application/*;q=0, */*"], OCI_INDEX))
        self.assertTrue(accepts([f"*/*;q=0, {OCI_INDEX}"], OCI_INDEX))
        self.assertTrue(accepts([f"{OCI_INDEX};v=1;q=0, {OCI_INDEX}"], OCI_INDEX))

    def test_quotes(self) -> None:
        """Commas and semicolons within quotes part nothing."""
        self.assertTrue(accepts([f'{OCI_INDEX};x=";q=0"'], OCI_INDEX))
        self.assertFalse(accepts([f'text/html;x=", {OCI_INDEX}, \\", {OCI_INDEX}"'], OCI_INDEX))
        self.assertTrue(accepts([f'text/html;x="a,b" , {OCI_INDEX}'], OCI_INDEX))

    @given(st.lists(st.one_of(st.text(), st.text(alphabet='*/,;"\\q=0. a')), max_size=4))
    def test_any_text(self, lines: list[str]) -> None:
        """Any text takes a type or doesn't; a later C{*/*} line makes every unmentioned type welcome."""
        self.assertIn(accepts(lines, "x/y"), (True, False))
        self.assertTrue(accepts([*lines, "*/*"], "x/y"))

    def test_large(self) -> None:
        """Lines that invite going back over what was read are done with."""
        for line in (
            '"' * 200_001,
            '\\"' * 100_000,
            '"\\',
            "," * 200_000,
            ";" * 200_000,
            "a/b;q=" + "0" * 200_000 + "x",
        ):
            self.assertTrue(accepts([line, "*/*"], OCI_INDEX))
