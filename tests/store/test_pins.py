"""What is pinned, on disk."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store.layout import Layout
from crcache.store.pins import Pins

HOME = (Registry.parse("r.example"), Repository.parse("a/b"))
TAG = Tag.parse("1.0")
DIGEST = Digest.parse("sha256:" + 64 * "a")


class PinsTests(SynchronousTestCase):
    """L{Pins}."""

    def setUp(self) -> None:
        """An empty directory."""
        self.layout = Layout(Path(self.mktemp()))
        self.layout.root.mkdir()
        self.pins = Pins(self.layout)

    def test_kept(self) -> None:
        """What is pinned is found by its name, and in the repository's list with what it meant."""
        self.pins.add(*HOME, TAG, DIGEST)
        self.pins.add(*HOME, DIGEST, DIGEST)
        self.pins.add(*HOME, TAG, DIGEST)
        self.assertTrue(self.pins.holds(*HOME, TAG))
        self.assertFalse(self.pins.holds(*HOME, Tag.parse("2.0")))
        self.assertEqual(list(self.pins.of(*HOME)), [(TAG, DIGEST), (DIGEST, DIGEST)])

    def test_taken_back(self) -> None:
        """What is unpinned is gone, and what was never pinned is no error."""
        self.pins.add(*HOME, TAG, DIGEST)
        self.assertTrue(self.pins.remove(*HOME, TAG))
        self.assertFalse(self.pins.remove(*HOME, TAG))
        self.assertEqual(list(self.pins.of(*HOME)), [])
        self.assertFalse(self.layout.pins(*HOME).exists())

    def test_alike(self) -> None:
        """A tag that is spelled as a digest's file name pins that tag, not the digest."""
        tag = Tag.parse(f"sha256-{64 * 'a'}")
        self.pins.add(*HOME, tag, DIGEST)
        self.assertFalse(self.pins.holds(*HOME, DIGEST))

    def test_damaged(self) -> None:
        """A damaged file still pins what its name says; a name that is none pins nothing."""
        self.pins.add(*HOME, TAG, DIGEST)
        self.layout.pin(*HOME, TAG).write_bytes(b"{")
        (self.layout.pins(*HOME) / "@sha256-nothing").write_bytes(b"")
        (self.layout.pins(*HOME) / ".draft").write_bytes(b"")
        self.assertEqual(list(self.pins.of(*HOME)), [(TAG, None)])
        self.assertTrue(self.pins.holds(*HOME, TAG))

    def test_refused(self) -> None:
        """A disk that refuses is told in one line."""
        self.layout.registries.write_bytes(b"")
        self.assertIn("_pins", self.assertRaises(StoreError, self.pins.add, *HOME, TAG, DIGEST).message)
