"""What commands take away is counted: a daemon that runs on the directory has room at once."""

from __future__ import annotations

import os

from crcache.eviction.tally import Tally
from crcache.grammar.digest import Digest
from tests.commands.tree import DAY, TreeCase

BASE, ONE, TWO = b"b" * 50_000, b"1" * 7000, b"2" * 9000


class CountedTests(TreeCase):
    """Two images that share a layer, as a daemon has counted them."""

    def setUp(self) -> None:
        """It has counted them."""
        super().setUp()
        self.tree.image("a.example/x:1", [BASE, ONE])
        self.tree.image("a.example/x:2", [BASE, TWO])
        self.tree.age("a.example/x:1", 2 * DAY)
        with Tally(self.tree.layout).open() as book:
            book.content = self.held()

    def held(self) -> int:
        """Bytes of content that are there."""
        return sum(path.stat().st_size for path in (self.tree.layout.blobs / "sha256").iterdir())

    def counted(self) -> int | None:
        """What a daemon believes that there is."""
        with Tally(self.tree.layout).open() as book:
            return book.content

    def assert_counted(self) -> None:
        """It is what there is, and not what there was."""
        self.assertEqual(self.counted(), self.held())

    def damage(self, data: bytes, size: int) -> None:
        """Somebody has written to content, which has so many bytes now; a daemon has counted since."""
        path = self.tree.content(data)
        path.chmod(0o640)
        path.write_bytes(b"?" * size)
        with Tally(self.tree.layout).open() as book:
            book.content = self.held()

    def test_pruned(self) -> None:
        """What is pruned counts no more; of what a dry run tells, all does."""
        before = self.held()
        self.done("prune", "--matching", "a.example/x:1", "--dry-run")
        self.assertEqual(self.counted(), before)
        self.done("prune", "--matching", "a.example/x:1")
        self.assertLess(self.held(), before - len(ONE))
        self.assert_counted()
        self.done("prune", "--to-size", "0")
        self.assertEqual(self.held(), 0)
        self.assert_counted()

    def test_quarantined(self) -> None:
        """What is taken to quarantine is content no more."""
        self.damage(BASE, 60_000)
        before = self.held()
        self.assertEqual(self.run_main("verify")[0], 1)
        self.assertEqual(self.held(), before - 60_000)
        self.assert_counted()

    def test_rejected(self) -> None:
        """Nor is what an export has found to be damaged, and dropped."""
        path = self.tree.content(ONE)
        seal = path.stat()
        path.chmod(0o640)
        path.write_bytes(b"?" * len(ONE))
        os.utime(path, ns=(seal.st_atime_ns, seal.st_mtime_ns))
        out = self.tree.layout.root.parent / "a.tar"
        self.assertEqual(self.run_main("export", "-o", str(out), "a.example/x:1")[0], 1)
        self.assertFalse(out.exists() or path.exists())
        self.assert_counted()

    def test_nobody_counts(self) -> None:
        """Where nobody has counted, nobody is told anything; that the count cannot be kept is no failure."""
        os.unlink(self.tree.layout.eviction / "tally")
        os.rmdir(self.tree.layout.eviction)
        self.tree.layout.eviction.write_bytes(b"")
        self.done("prune", "--matching", "a.example/x:1")
        self.assertFalse(self.tree.layout.content(Digest.of(ONE)).exists())
        self.assertIn(self.counted(), (None, self.held()))
