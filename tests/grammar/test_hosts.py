"""Tests for L{crcache.grammar.hosts}."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.hosts import HostPattern, is_name, parse_pattern, plain_address, same_host
from crcache.grammar.reference import Registry

from .strategies import ADDRESSES, HOSTILE, HOSTS, PORTS


class HostTests(SynchronousTestCase):
    """Names and addresses."""

    def test_same(self) -> None:
        """Case, one trailing dot, brackets and how an IPv6 address is shortened make no difference."""
        for text, expected in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("example.com..", "example.com."),
            ("[2001:DB8:0:0::1]", "2001:db8::1"),
            ("2001:db8::0001", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
        ]:
            self.assertEqual(same_host(text), expected)

    def test_addresses(self) -> None:
        """An address is taken in the usual notation alone, without a zone."""
        for text in ("1.2.3.4", "::1", "2001:db8::1", "::ffff:1.2.3.4"):
            self.assertIsNotNone(plain_address(text), text)
        for text in (
            *("1.2.3", "01.2.3.4", "0x1.2.3.4", "1.2.3.4.", "16909060", "fe80::1%eth0", "[::1]", "a.example"),
            "",
        ):
            self.assertIsNone(plain_address(text), text)

    def test_names(self) -> None:
        """What ends in a number is no name, for some resolver takes it for an address; nor is what names lack."""
        for text in ("a", "a.example.com", "a_b.example", "1.2.3.example", "x--y.example.", "0x7f.example", "a1"):
            self.assertTrue(is_name(text), text)
        for text in (
            *("1", "127.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "1.2.3.4", "1.2.3.4.", "a.0x", "a.1", "4294967297"),
            *("", ".", "a..b", ".a", "a b", "a%2eb", "a@b", "a/b", "a\\b", "::1", "\u0661", "a" * 64, "a." * 130 + "a"),
        ):
            self.assertFalse(is_name(text), text)

    @given(
        st.lists(
            st.one_of(
                st.integers(0, 300).map(str),
                st.integers(0, 2**32).map(hex),
                st.integers(0, 0o400).map(lambda number: f"0{number:o}"),
            ),
            min_size=1,
            max_size=5,
        ).map(".".join)
    )
    def test_what_the_system_takes(self, text: str) -> None:
        """Whatever this system takes for an IPv4 address is either in the usual notation, or no name."""
        try:
            socket.inet_aton(text)
        except OSError:
            return
        self.assertFalse(is_name(text))


class PatternTests(SynchronousTestCase):
    """L{HostPattern}."""

    def test_matches(self) -> None:
        """A name or address is itself, C{*.} all that is below it, C{*} everything; a port is that port alone."""
        for pattern, host, port, expected in [
            ("example.com", "example.com", 443, True),
            ("example.com", "example.com", 5000, True),
            ("example.com", "a.example.com", 443, False),
            ("Example.com.", "example.com", 443, True),
            ("example.com:5000", "example.com", 5000, True),
            ("example.com:5000", "example.com", 443, False),
            ("*.example.com", "a.example.com", 443, True),
            ("*.example.com", "b.a.example.com", 443, True),
            ("*.example.com", "example.com", 443, False),
            ("*.example.com", "notexample.com", 443, False),
            ("*.example.com:5000", "a.example.com", 5000, True),
            ("*.example.com:5000", "a.example.com", 443, False),
            ("*", "example.com", 443, True),
            ("*", "10.0.0.1", 5000, True),
            ("*:5000", "example.com", 443, False),
            ("10.0.0.1", "10.0.0.1", 443, True),
            ("[2001:DB8::0:1]:5000", "2001:db8::1", 5000, True),
            ("[2001:DB8::0:1]:5000", "2001:db8::1", 443, False),
            ("2001:db8::1", "2001:db8::1", 443, True),
        ]:
            parsed = parse_pattern(pattern, wildcards=True)
            assert parsed is not None, pattern
            self.assertEqual(parsed.matches(host, port), expected, (pattern, host, port))

    def test_refused(self) -> None:
        """What means no hosts is none; an asterisk means some only where it may, and only in front."""
        for text in (
            *("", ".", "*.", "**", "a.*", "*a", "*.*.a", "a*.b", "*.1", "*.0.0.1", "127.1", "0x7f.0.0.1", "1.2.3.4."),
            *("a:", "a:0", "a:65536", "a:b", "a:1:2", "[::1", "::1]", "[1.2.3.4]", "[fe80::1%eth0]", "[]"),
            *("a b", "a\n"),
            *("https://a", "a/b", "u@a", "\u212a.example", "a:\u0661"),
        ):
            self.assertIsNone(parse_pattern(text, wildcards=True), text)
        for text in ("*", "*.example.com", "*:443"):
            self.assertIsNone(parse_pattern(text, wildcards=False), text)

    @given(st.one_of(HOSTS, ADDRESSES), PORTS)
    def test_registries(self, host: str, port: str) -> None:
        """Every registry's name is a pattern that matches it, and is printed so that it is read as the same again."""
        parsed = parse_pattern(host + port, wildcards=False)
        assert parsed is not None
        registry = Registry.parse(host + port)
        number = int(port[1:]) if port else 443
        self.assertTrue(parsed.matches(same_host(host), number), registry)
        self.assertEqual(parse_pattern(str(parsed), wildcards=True), parsed)

    @given(HOSTILE)
    def test_any_text(self, text: str) -> None:
        """Any text is a pattern or none; what it is printed as is the same one."""
        parsed = parse_pattern(text, wildcards=True)
        if parsed is not None:
            self.assertEqual(parse_pattern(str(parsed), wildcards=True), parsed)
            self.assertIsInstance(parsed, HostPattern)
