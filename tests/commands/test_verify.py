"""C{crcache verify}."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from crcache.commands import hashing
from crcache.commands.references import parse_name
from crcache.evictor import Evictor
from crcache.grammar.digest import Digest
from crcache.settings import Bounds
from crcache.store import quarantine as quarantining
from crcache.store.checker import read_sparing
from crcache.store.files import is_at
from crcache.store.seal import Seals
from crcache.workers import Inline
from tests.commands.tree import TreeCase

BASE, ONE, TWO = b"b" * 3_000_000, b"1" * 700, b"2" * 900


class VerifyTests(TreeCase):
    """What is found, and what becomes of it."""

    def setUp(self) -> None:
        """Two images that share a layer."""
        super().setUp()
        self.one = self.tree.image("nginx:1", [BASE, ONE])
        self.two = self.tree.image("ghcr.io/a/b:2", [BASE, TWO])

    def damage(self, data: bytes, found: bytes = b"wrong") -> Path:
        """Somebody has written to content."""
        path = self.tree.content(data)
        path.chmod(0o640)
        path.write_bytes(found)
        return path

    def test_fine(self) -> None:
        """Where all is right, all of it was read, status is 0, and no more is said than that."""
        held = list((self.tree.layout.blobs / "sha256").iterdir())
        found = self.json("verify")
        self.assertEqual(
            found,
            {
                "dryRun": False,
                "checked": len(held),
                "bytes": sum(path.stat().st_size for path in held),
                "wrong": [],
                "records": [],
                "failed": [],
            },
        )
        self.assertEqual(self.done("verify"), f"{len(held)} checked, 2.9 MiB: 0 wrong\n")
        self.assertFalse(self.tree.layout.quarantine.exists())

    def test_wrong(self) -> None:
        """What is wrong is taken to quarantine with its bytes, told with both paths, and is status 1, once."""
        path = self.damage(BASE)
        status, out, err = self.run_main("verify")
        aside = self.tree.layout.quarantine / f"sha256-{Digest.of(BASE).hex}"
        self.assertEqual(status, 1)
        self.assertIn(": 1 wrong\n", out)
        self.assertEqual(err, f"crcache: {path} holds other bytes than its name says; it is {aside} now\n")
        self.assertEqual((aside.read_bytes(), path.exists()), (b"wrong", False))
        self.assertEqual(self.json("verify")["wrong"], [])

    def test_counted(self) -> None:
        """What is taken away is counted as content no more, at once."""
        self.damage(BASE)
        evictor = Evictor(self.tree.layout.root, lambda: Bounds(1 << 40, 0), Inline(), None)
        self.addCleanup(evictor.stop)
        evictor.alone()
        self.run_main("verify")
        with evictor.tally.open() as book:
            self.assertEqual(book.content, sum(path.stat().st_size for path in self.tree.layout.root.glob("blobs/*/*")))

    def test_report(self) -> None:
        """C{--json} says the same, in these words; a name that is taken is not used again."""
        aside = self.tree.layout.quarantine / f"sha256-{Digest.of(ONE).hex}"
        aside.parent.mkdir()
        aside.write_bytes(b"older")
        path = self.damage(ONE)
        status, out, _ = self.run_main("verify", "--json")
        (found,) = json.loads(out)["wrong"]
        taken = found.pop("quarantined")
        self.assertEqual(status, 1)
        self.assertEqual(
            found, {"digest": str(Digest.of(ONE)), "path": str(path), "problem": "holds other bytes than its name says"}
        )
        self.assertTrue(taken.startswith(f"{aside}."))
        self.assertEqual((aside.read_bytes(), Path(taken).read_bytes()), (b"older", b"wrong"))

    def test_dry_run(self) -> None:
        """C{--dry-run} only tells: all stays where it is, broken seals too."""
        path = self.damage(ONE)
        os.utime(self.tree.content(TWO), (1e9, 1e9))
        (path.parent / ("e" * 64)).symlink_to("/etc/passwd")
        record = next((self.tree.layout.registries / "ghcr.io/a/b/_digests").iterdir())
        record.write_bytes(b"{}")
        before = self.tree.files()
        status, _, err = self.run_main("verify", "--dry-run")
        self.assertEqual((status, err.count("\n")), (1, 3))
        self.assertEqual(self.tree.files(), before)
        self.assertEqual(self.tree.content(TWO).stat().st_mtime, 1e9)

    def test_seals(self) -> None:
        """The seal of what is right is renewed; when it was last used stays."""
        path = self.tree.content(TWO)
        os.utime(path, (1e9, 1e9))
        self.assertFalse(Seals().holds(path.stat(), Digest.of(TWO)))
        self.done("verify")
        self.assertTrue(Seals().holds(path.stat(), Digest.of(TWO)))
        self.assertEqual(int(path.stat().st_mtime), 10**9)

    def test_some(self) -> None:
        """Of an image its own content is hashed, and no other; one that is not there is status 1."""
        self.damage(ONE)
        self.damage(TWO)
        status, _, err = self.run_main("verify", "ghcr.io/a/b:2")
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn(Digest.of(TWO).hex, err)
        self.assertTrue(self.tree.content(ONE).exists())
        self.assertEqual(self.json("verify", "ghcr.io/a/*")["checked"], 3)
        status, _, err = self.run_main("verify", "busybox")
        self.assertEqual((status, err), (1, "crcache: docker.io/library/busybox is not in the cache\n"))

    def test_manifest(self) -> None:
        """An image whose manifest is wrong is found so, although what it named is not known any more."""
        self.damage(self.one)
        status, _, err = self.run_main("verify", "nginx:1")
        self.assertEqual((status, err.count("\n")), (1, 1))
        self.assertIn(Digest.of(self.one).hex, err)

    def test_odd(self) -> None:
        """Links, pipes and directories in content's place are taken away as they are; nothing is followed."""
        place = self.tree.layout.blobs / "sha256"
        (place / ("d" * 64)).mkdir()
        (place / ("d" * 64) / "in").write_bytes(b"x")
        (place / ("e" * 64)).symlink_to("/etc/passwd")
        os.mkfifo(place / ("f" * 64))
        status, _, err = self.run_main("verify")
        self.assertEqual((status, err.count(" is no file; it is ")), (1, 3))
        aside = self.tree.layout.quarantine
        self.assertEqual(os.readlink(aside / f"sha256-{'e' * 64}"), "/etc/passwd")
        self.assertEqual((aside / f"sha256-{'d' * 64}" / "in").read_bytes(), b"x")
        self.assertEqual(self.json("verify")["wrong"], [])

    def test_records(self) -> None:
        """Records that cannot be read, are about something else, or say another size are removed; others stay."""
        name = parse_name("ghcr.io/a/b:2")
        home = self.tree.layout.registries / "ghcr.io/a/b"
        (home / "_tags" / "cut").write_bytes(b'{"digest": "sha256:')
        (home / "_tags" / "-bad").write_bytes(b"{}")
        (home / "_tags" / "link").symlink_to("/etc/passwd")
        wrong = self.tree.layout.member(name.registry, name.repository, Digest.of(TWO))
        wrong.write_text(wrong.read_text().replace(f'"size": {len(TWO)}', '"size": 901'))
        left = {path.name for path in home.rglob("*") if path.is_file()} - {"cut", "-bad", "link", wrong.name}
        status, _, err = self.run_main("verify")
        self.assertEqual((status, err.count("; it is removed\n"), err.count("\n")), (1, 4, 4))
        self.assertIn(f"{wrong}: says 901 bytes of {Digest.of(TWO)}, which has 900; it is removed", err)
        self.assertEqual({path.name for path in home.rglob("*") if not path.is_dir()}, left)
        self.assertTrue(Path("/etc/passwd").exists())
        self.assertEqual(self.json("verify")["records"], [])

    def test_stays(self) -> None:
        """What is wrong and cannot be taken away is told as such."""
        self.damage(ONE)
        self.tree.layout.quarantine.write_bytes(b"in the way")
        status, _, err = self.run_main("verify")
        self.assertEqual(status, 1)
        self.assertIn(f"{self.tree.content(ONE)}: ", err)
        self.assertTrue(self.tree.content(ONE).exists())

    def test_replaced(self) -> None:
        """What was fetched anew while the wrong bytes were hashed is left where it is."""
        path = self.damage(ONE)
        look = is_at

        def meanwhile(fd: int, where: Path) -> bool:
            found = look(fd, where)
            if where == path and found:
                self.tree.put(ONE)
            return found

        self.patch(quarantining, "is_at", meanwhile)
        status, _, _ = self.run_main("verify")
        self.assertEqual((status, path.read_bytes()), (1, ONE))
        self.assertEqual(list(self.tree.layout.quarantine.iterdir()), [])

    def test_unreadable(self) -> None:
        """What the disk has lost is wrong; a disk that fails otherwise is told, and nothing is taken away."""
        lost = self.tree.content(ONE)
        read = read_sparing

        def failing(number: int) -> None:
            def fail(fd: int, buffer: memoryview, at: int) -> int:
                if os.readlink(f"/proc/self/fd/{fd}") == str(lost):
                    raise OSError(number, os.strerror(number))
                return read(fd, buffer, at)

            self.patch(hashing, "read_sparing", fail)

        failing(errno.ENOMEM)
        status, _, err = self.run_main("verify")
        self.assertEqual((status, err), (1, f"crcache: {lost}: Cannot allocate memory\n"))
        self.assertTrue(lost.exists())
        failing(errno.EIO)
        status, _, err = self.run_main("verify")
        self.assertIn("cannot be read: Input/output error; it is ", err)
        self.assertFalse(lost.exists())

    def test_interrupted(self) -> None:
        """Ctrl-C ends it without a traceback, and soon: threads do not finish what they have begun."""
        begun: list[int] = []
        read = read_sparing

        def interrupt(fd: int, buffer: memoryview, at: int) -> int:
            begun.append(at)
            return read(fd, buffer, at)

        def told(done: object) -> None:
            raise KeyboardInterrupt

        self.patch(hashing, "read_sparing", interrupt)
        self.patch(hashing, "_told", told)
        status, out, err = self.run_main("verify")
        self.assertEqual((status, out, err), (130, "", "\n"))
        self.assertLess(len(begun), 12)
