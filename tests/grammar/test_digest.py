"""Tests for L{crcache.grammar.digest}."""

from __future__ import annotations

import dataclasses
import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import DigestInvalid
from crcache.grammar.digest import ALGORITHMS, Digest

from .strategies import DIGESTS, HOSTILE

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class DigestTests(SynchronousTestCase):
    """L{Digest}."""

    @given(DIGESTS)
    def test_round_trip(self, digest: Digest) -> None:
        """A digest's text parses to the digest itself."""
        self.assertEqual(Digest.parse(str(digest)), digest)

    @given(HOSTILE)
    def test_other_text(self, text: str) -> None:
        """Any text is a digest that is written just so, or refused with L{DigestInvalid}."""
        try:
            digest = Digest.parse(text)
        except DigestInvalid:
            return
        self.assertEqual(str(digest), text)

    def test_known(self) -> None:
        """The digest of no bytes is the well-known one."""
        self.assertEqual(str(Digest.of(b"")), EMPTY)

    @given(st.binary(), st.sampled_from(ALGORITHMS))
    def test_hasher(self, data: bytes, algorithm: str) -> None:
        """A digest's hasher is new, and comes to that digest after the same bytes."""
        digest = Digest.of(data, algorithm)
        hasher = digest.hasher()
        hasher.update(data)
        self.assertEqual((hasher.hexdigest(), hasher.name), (digest.hex, digest.algorithm))
        self.assertEqual(digest.hasher().hexdigest(), hashlib.new(algorithm).hexdigest())

    def test_refused(self) -> None:
        """Wrong lengths, upper case, other algorithms, a trailing newline and digits that aren't ASCII are refused."""
        good = EMPTY.partition(":")[2]
        for text in (
            "",
            ":",
            "sha256",
            "sha256:",
            good,
            f"sha256:{good[:-1]}",
            f"sha256:{good}0",
            f"sha256:{good.upper()}",
            f"SHA256:{good}",
            f"sha512:{good}",
            f"sha256:{good}\n",
            f" sha256:{good}",
            f"sha256:{good[:-1]}\u0661",
            f"sha256:sha256:{good}",
            f"sha384:{good}{good[:32]}",
            f"md5:{good[:32]}",
            f"blake3:{good}",
            f"sha256+b64:{good}",
            f"../sha256:{good}",
        ):
            self.assertRaises(DigestInvalid, Digest.parse, text)

    def test_no_other_way(self) -> None:
        """No other way to make a digest goes around the grammar."""
        digest = Digest.of(b"")
        self.assertRaises(DigestInvalid, Digest, "sha256", "../../etc/passwd")
        self.assertRaises(DigestInvalid, Digest, "md5", "d41d8cd98f00b204e9800998ecf8427e")
        self.assertRaises(DigestInvalid, dataclasses.replace, digest, hex="0")
        self.assertRaises(DigestInvalid, Digest.of, b"", "md5")
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, digest, "hex", "0")

    def test_message(self) -> None:
        """However long and strange the text, the message is one short line of ASCII and an ellipsis."""
        for text in ("x" * 100_000, "sha256:" + "\n" * 1000, "\u202e:" * 1000):
            message = self.assertRaises(DigestInvalid, Digest.parse, text).message
            self.assertLess(len(message), 1000)
            self.assertTrue(message.replace("…", "").isascii())
            self.assertTrue(message.isprintable())

    def test_values(self) -> None:
        """Digests are dictionary keys, and have an order."""
        one, other = Digest.of(b"1"), Digest.of(b"2")
        self.assertEqual({one: 1}[Digest.of(b"1")], 1)
        self.assertEqual(sorted([one, other]), sorted([other, one]))
