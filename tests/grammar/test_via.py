"""Tests for L{crcache.grammar.via}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.via import LONGEST, MOST, caches, entry, parse_via

NAME = "crcache-0123456789abcdef"


class ViaTests(SynchronousTestCase):
    """L{parse_via}."""

    def test_well_formed(self) -> None:
        """The RFC's own examples, several lines, ports, comments, empty elements, addresses."""
        for lines, expected in (
            (["1.0 fred, 1.1 p.example.net"], ("1.0 fred", "1.1 p.example.net")),
            (["1.0 ricky", "1.1 ethel, 1.1 fred, 1.0 lucy"], ("1.0 ricky", "1.1 ethel", "1.1 fred", "1.0 lucy")),
            (["HTTP/1.1 proxy.example:8080 (Apache/1.1)"], ("HTTP/1.1 proxy.example:8080",)),
            (["2 [::1]:80,, \t1.1\tb , "], ("2 [::1]:80", "1.1 b")),
            ([], ()),
            ([""], ()),
        ):
            self.assertEqual(parse_via(lines), expected)
            self.assertEqual(parse_via([", ".join(expected)]), expected)

    def test_malformed(self) -> None:
        """What is not of the grammar, or too much, is as if it were not there: nothing of it goes on to anybody."""
        for line in (
            "1.1",
            NAME,
            f"1.1 {NAME} x",
            f"1.1 {NAME}\r\nX: y",
            "1.1 a(b",
            "1.1 é",
            "1.1 a/b",
            "a/b/c d",
            "1.1 a:999999",
            f"1.1 {NAME}, 1.1",
            '1.1 "a"',
            "1.1 a (b, c)",
            ", ".join((MOST + 1) * ["1.1 a"]),
            "1.1 " + "a" * LONGEST,
        ):
            self.assertEqual(parse_via([line]), (), line[:40])
        self.assertEqual(len(parse_via([", ".join(MOST * ["1.1 a"])])), MOST)

    def test_caches(self) -> None:
        """Of the entries those of crcache are told apart, in their order."""
        found = parse_via([f"1.0 fred, {entry(NAME)} (x), 1.1 not-crcache-1, 2 crcache-2"])
        self.assertEqual(caches(found), (NAME, "crcache-2"))
