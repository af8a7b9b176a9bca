"""C{crcache du}."""

from __future__ import annotations

import os

from tests.commands.tree import TreeCase

BASE, ONE, TWO = b"b" * 50_000, b"1" * 7000, b"2" * 9000


class UsageTests(TreeCase):
    """How bytes are counted."""

    def setUp(self) -> None:
        """Images that share a layer, within a repository, a registry and beyond; content of nobody's; a fill."""
        super().setUp()
        self.tree.image("a.example/one:1", [BASE, ONE])
        self.tree.image("a.example/one:2", [BASE, TWO])
        self.tree.image("a.example/two:1", [BASE, b"3"])
        self.tree.image("b.example/x:1", [BASE, b"4"])
        self.tree.put(b"nobody's")
        self.tree.layout.ingest.mkdir()
        with (self.tree.layout.ingest / "f").open("wb") as fill:
            fill.truncate(1 << 30)
            fill.write(b"x" * 4096)
        self.tree.layout.quarantine.mkdir()
        (self.tree.layout.quarantine / "q").write_bytes(b"wrong")

    def test_adds_up(self) -> None:
        """Whoever the holders are, own bytes and shared ones, each once, are all; of fills what they have written."""
        content = sum(path.stat().st_size for path in (self.tree.layout.blobs / "sha256").iterdir())
        records = sum(
            size for name, size in self.tree.files().items() if not name.startswith(("blobs", "ingest", "quarantine"))
        )
        for by in ("registry", "repository", "image"):
            found = self.json("du", "--by", by)
            self.assertEqual(sum(each["own"] for each in found["holders"]), found["own"], by)
            self.assertEqual(found["own"] + found["shared"] + found["unheld"], content, by)
            self.assertEqual(found["content"], content)
            self.assertEqual(found["unheld"], len(b"nobody's"))
            self.assertGreaterEqual(found["shared"], len(BASE))
            self.assertEqual((found["records"], found["quarantine"]), (records, 5))
            self.assertTrue(4096 <= found["fills"] <= 64 << 10, found["fills"])
            self.assertEqual(
                found["total"],
                sum(found[part] for part in ("own", "shared", "unheld", "fills", "records", "quarantine")),
            )
            for each in found["holders"]:
                self.assertEqual(set(each), {"name", "total", "own", "shared"})
                self.assertEqual(each["total"], each["own"] + each["shared"])

    def test_own_and_shared(self) -> None:
        """A layer that two holders have is shared by both; one that two tags of one holder have is its own."""
        by_registry = {each["name"]: each for each in self.json("du")["holders"]}
        self.assertEqual(by_registry["a.example"]["shared"], by_registry["b.example"]["shared"])
        self.assertGreater(by_registry["a.example"]["own"], len(ONE) + len(TWO))
        os.unlink(self.tree.layout.registries / "b.example/x/_digests" / f"sha256-{self.tree.content(BASE).name}")
        by_registry = {each["name"]: each for each in self.json("du")["holders"]}
        self.assertGreater(by_registry["a.example"]["own"], len(ONE) + len(TWO) + len(BASE))

    def test_table(self) -> None:
        """People get the largest first, and the sums below."""
        lines = self.done("du", "--by", "repository").splitlines()
        self.assertEqual(
            [line.split()[0] for line in lines[:4]], ["REPOSITORY", "a.example/one", "a.example/two", "b.example/x"]
        )
        self.assertEqual(lines[-1].split()[0], "total")
        self.assertIn("fills in progress", "\n".join(lines))
