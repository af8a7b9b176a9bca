"""C{crcache pin} and C{crcache unpin}."""

from __future__ import annotations

import os
from pathlib import Path

from crcache.grammar.digest import Digest
from crcache.store.seal import Seals
from tests.commands.tree import DAY, TreeCase

BASE, ONE = b"b" * 5000, b"1" * 700


class PinTests(TreeCase):
    """L{crcache.commands.pin}."""

    def setUp(self) -> None:
        """Two images."""
        super().setUp()
        self.one = self.tree.image("nginx:1", [BASE, ONE])
        self.two = self.tree.image("ghcr.io/a/b:2", [BASE])

    def pinned(self) -> list[str]:
        """What C{crcache pin} lists."""
        return [each["name"] for each in self.json("pin")]

    def listed(self, text: str | bytes) -> str:
        """A list of names in a file."""
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def test_round(self) -> None:
        """What is pinned is listed, with its digest, until it is unpinned."""
        found = self.json("pin", "nginx:1", f"ghcr.io/a/b@{Digest.of(self.two)}")
        expected = [
            {"name": "docker.io/library/nginx:1", "digest": str(Digest.of(self.one))},
            {"name": f"ghcr.io/a/b@{Digest.of(self.two)}", "digest": str(Digest.of(self.two))},
        ]
        self.assertEqual(found, expected)
        self.assertEqual(self.json("pin"), expected)
        self.assertIn("docker.io/library/nginx:1", self.done("pin"))
        self.assertIn("nginx:1: pinned (sha256:", self.done("pin", "nginx:1"))
        self.assertEqual(self.json("unpin", "nginx:1"), [{"name": "docker.io/library/nginx:1", "unpinned": True}])
        self.assertEqual(self.pinned(), [expected[1]["name"]])

    def test_file(self) -> None:
        """A list may have comments and empty lines, and goes with further names; each is pinned once."""
        path = self.listed("# ours\n\n nginx:1  # web\nghcr.io/a/b:2\r\n")
        self.assertEqual(len(self.json("pin", "--file", path, "nginx:1")), 2)
        self.assertEqual(len(self.pinned()), 2)
        self.assertEqual(self.run_main("unpin", "--file", path)[0], 0)
        self.assertEqual(self.pinned(), [])

    def test_wrong_lists(self) -> None:
        """A line that is wrong is refused by file and number, one line of message, and nothing is pinned."""
        for text, word in (
            ("nginx:1\nNGINX\n", ":2: "),
            ("nginx:1\n../../../etc/passwd\n", ":2: "),
            (b"\n\n\xff\xfe\n", ":3: "),
            (b"nginx:1\n" + b"a" * 100_000, ":2: "),
            (b"nginx:1\n" * (1 << 20), ": is larger than 4 MiB"),
        ):
            path = self.listed(text)
            status, out, err = self.run_main("pin", "--file", path)
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertIn(f"{path}{word}", err)
            self.assertLess(len(err), 600)
            self.assertEqual(self.pinned(), [])
        self.assertIn("No such file", self.run_main("pin", "--file", "/nowhere")[2])
        self.assertIn("Is a directory", self.run_main("pin", "--file", "/")[2])

    def test_absent(self) -> None:
        """What is not in the cache is not pinned, nor is anything beside it; one is told what to do."""
        self.tree.content(self.two).unlink()
        for name in ("nginx:9", "ghcr.io/a/b:2", "busybox"):
            status, out, err = self.run_main("pin", "nginx:1", name)
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertIn("'crcache pull' fetches it", err)
        self.assertEqual(self.pinned(), [])

    def test_touches(self) -> None:
        """All that is pinned was used just now, with its seals unbroken, so that an eviction that is planned leaves it;
        a broken seal stays broken."""
        self.tree.age("nginx:1", 30 * DAY)
        damaged = self.tree.content(ONE)
        damaged.chmod(0o640)
        damaged.write_bytes(b"2" * 700)
        os.utime(damaged, (1e9, 1e9))
        self.done("pin", "nginx:1")
        seals = Seals()
        for data in (self.one, BASE):
            found = self.tree.content(data).stat()
            self.assertLess(abs(found.st_mtime - self.tree.now), 60)
            self.assertTrue(seals.holds(found, Digest.of(data)))
        self.assertFalse(seals.holds(damaged.stat(), Digest.of(ONE)))
        self.assertEqual(damaged.stat().st_mtime, 1e9)

    def test_not_pinned(self) -> None:
        """Unpinning what is not pinned is told, with status 1; the others are unpinned."""
        self.done("pin", "nginx:1")
        status, out, err = self.run_main("unpin", "ghcr.io/a/b:2", "nginx:1")
        self.assertEqual((status, out), (1, "docker.io/library/nginx:1: unpinned\n"))
        self.assertEqual(err, "crcache: ghcr.io/a/b:2 was not pinned\n")
        self.assertEqual(self.run_main("unpin")[0], 2)

    def test_lies(self) -> None:
        """A pin that does not say what it is about is listed, told by name, and can be taken away."""
        pins = self.tree.layout.registries / "r.example" / "z" / "_pins"
        pins.mkdir(parents=True)
        (pins / "v1").write_text('{"digest": "\\u001b[2J"}')
        status, out, err = self.run_main("pin")
        self.assertEqual((status, out.splitlines()[1:]), (0, ["r.example/z:v1  ?"]))
        self.assertEqual(err, f"crcache: {pins / 'v1'}: does not say what is pinned: 'crcache unpin' removes it\n")
        self.done("unpin", "r.example/z:v1")
        self.done("pin")
