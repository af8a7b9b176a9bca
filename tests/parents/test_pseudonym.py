"""Tests for L{crcache.parents.pseudonym}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.via import caches, entry, parse_via
from crcache.parents.pseudonym import pseudonym


class PseudonymTests(SynchronousTestCase):
    """L{pseudonym}."""

    def test_whose(self) -> None:
        """One directory has one name by whatever path; another one, or the same on another host, has another."""
        one, other = Path(self.mktemp()), Path(self.mktemp())
        one.mkdir()
        other.mkdir()
        link = Path(self.mktemp())
        link.symlink_to(one.absolute())
        boot = bytes(16)
        self.assertEqual(pseudonym(one, boot), pseudonym(link, boot))
        names = {pseudonym(one, boot), pseudonym(other, boot), pseudonym(one, b"another boot....")}
        self.assertEqual(len(names), 3)

    def test_understood(self) -> None:
        """It is one that caches know for a cache's."""
        name = pseudonym(Path("/"), bytes(16))
        self.assertEqual(caches(parse_via([entry(name)])), (name,))
