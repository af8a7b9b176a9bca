"""C{crcache prune}."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

from crcache.commands import prune, removing
from crcache.commands.references import parse_name
from crcache.evictor import Evictor
from crcache.facts import Privacy
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.inventory.plan import Plan
from crcache.inventory.plan import plan as make_plan
from crcache.inventory.stock import Stock, Unit
from crcache.settings import Bounds
from crcache.store import removal
from crcache.store.layout import Layout
from crcache.store.marks import Marks, State, boot_id
from crcache.workers import Inline
from tests.commands.tree import DAY, TreeCase

BASE, ONE, TWO, THREE = b"b" * 50_000, b"1" * 7000, b"2" * 9000, b"3" * 11_000


class PruneCase(TreeCase):
    """Three images of one base."""

    def setUp(self) -> None:
        """They were last used one, two and three days ago."""
        super().setUp()
        self.one = self.tree.image("a.example/x:1", [BASE, ONE])
        self.two = self.tree.image("a.example/x:2", [BASE, TWO])
        self.three = self.tree.image("b.example/y:3", [BASE, THREE])
        # The first two share a repository, whose files are all aged: the latest last.
        self.use("b.example/y:3", self.three, THREE, 3)
        self.use("a.example/x:2", self.two, TWO, 2)
        self.use("a.example/x:1", self.one, ONE, 1)
        self.use("a.example/x:1", self.one, BASE, 1)

    def use(self, name: str, manifest: bytes, layer: bytes, days: float) -> None:
        """An image, and one of its layers, were used so long ago."""
        said = parse_name(name)
        then = self.tree.now - days * DAY
        layout, home = self.tree.layout, (said.registry, said.repository)
        config = Digest.parse(json.loads(manifest)["config"]["digest"])
        for digest in (Digest.of(manifest), Digest.of(layer), config):
            os.utime(layout.member(*home, digest), (then, then))
            fd = os.open(layout.content(digest), os.O_RDONLY)
            self.tree.contents.seals.set(fd, digest, then)
            os.close(fd)
        path = layout.registries / str(said.registry) / str(said.repository) / "_tags" / str(said.image)
        if path.exists():
            os.utime(path, (then, then))

    def images(self) -> list[str]:
        """Those that are left, all of which are to be complete."""
        found = self.json("ls", "--digests")
        self.assertEqual([each["name"] for each in found if not each["complete"]], [])
        return [each["name"] for each in found]

    def content(self) -> int:
        """Bytes of content."""
        return sum(path.stat().st_size for path in (self.tree.layout.blobs / "sha256").iterdir())


class CriteriaTests(PruneCase):
    """What goes."""

    def test_counted(self) -> None:
        """What has gone is counted as gone at once: a daemon beside it would have more go, for room that there is."""
        evictor = Evictor(self.tree.layout.root, lambda: Bounds(1 << 40, 0), Inline(), None)
        self.addCleanup(evictor.stop)
        evictor.alone()
        self.done("prune", "--older-than", "36h")
        with evictor.tally.open() as book:
            self.assertEqual(book.content, sum(path.stat().st_size for path in self.tree.layout.root.glob("blobs/*/*")))

    def test_older_than(self) -> None:
        """What was not used for so long goes, with what nothing else needs; and no more."""
        before = self.content()
        found = self.json("prune", "--older-than", "36h")
        self.assertEqual([each["name"] for each in found["images"]], ["b.example/y:3", "a.example/x:2"])
        self.assertEqual(self.images(), ["a.example/x:1"])
        self.assertTrue(self.tree.content(BASE).exists())
        self.assertEqual((found["before"], found["freed"]), (before, before - self.content()))
        self.assertEqual(sum(each["bytes"] for each in found["images"]), found["freed"])
        self.assertFalse((self.tree.layout.registries / "b.example").exists())
        held = self.tree.layout.held(parse_name("a.example/x").registry, parse_name("a.example/x").repository)
        self.assertEqual(len(held), 4)
        given = [path for path in self.tree.layout.openly.rglob("*") if path.is_file()]
        self.assertEqual(len(given), 4)

    def test_report(self) -> None:
        """C{--json} has these words."""
        found = self.json("prune", "--matching", "b.example/*", "--dry-run")
        words = {"dryRun", "images", "blobs", "unheld", "fills", "spared", "before", "freed", "lacking"}
        self.assertEqual((set(found), found["lacking"]), (words, 0))
        self.assertEqual(set(found["images"][0]), {"name", "used", "bytes"})
        self.assertEqual((found["fills"], found["unheld"]), ({"count": 0, "bytes": 0},) * 2)

    def test_dry_run(self) -> None:
        """C{--dry-run} tells the same, and touches nothing."""
        before = {path: path.lstat().st_mtime_ns for path in self.tree.layout.root.rglob("*")}
        dry = self.json("prune", "--older-than", "1h", "--dry-run")
        self.assertEqual({path: path.lstat().st_mtime_ns for path in self.tree.layout.root.rglob("*")}, before)
        wet = self.json("prune", "--older-than", "1h")
        self.assertEqual({**dry, "dryRun": False}, wet)
        self.assertEqual((self.images(), self.content()), ([], 0))

    def test_matching(self) -> None:
        """What matches goes, whenever it was used; criteria hold together."""
        out = self.done("prune", "--matching", "a.example/x:*", "--older-than", "36h")
        self.assertIn("a.example/x:2  ", out)
        self.assertRegex(out.splitlines()[-1], r"^freed: [0-9.]+ KiB$")
        self.assertEqual(self.images(), ["a.example/x:1", "b.example/y:3"])
        self.done("prune", "--matching", "a.example/x", "b.example/nothing")
        self.assertEqual(self.images(), ["b.example/y:3"])

    def test_to_size(self) -> None:
        """The least recently used go first, until content is as small as was said; no more than is needed."""
        before = self.content()
        found = self.json("prune", "--to-size", f"{before - 10}B")
        self.assertEqual([each["name"] for each in found["images"]], ["b.example/y:3"])
        self.assertLess(found["freed"], 1000)
        self.assertEqual(self.content(), before - found["freed"])
        # Its layers are left, and go before the next image's manifest.
        self.assertEqual(self.images(), ["a.example/x:1", "a.example/x:2"])
        self.json("prune", "--to-size", f"{self.content() - len(THREE) + 1}B")
        self.assertEqual(self.images(), ["a.example/x:1", "a.example/x:2"])
        self.assertFalse(self.tree.content(THREE).exists())
        self.assertEqual(self.json("prune", "--to-size", "1TiB")["freed"], 0)
        self.assertEqual(self.json("prune", "--to-size", "100%")["freed"], 0)
        self.done("pin", "a.example/x:1")
        found = self.json("prune", "--to-size", "1B")
        self.assertEqual(found["lacking"], self.content() - 1)
        self.done("unpin", "a.example/x:1")
        self.json("prune", "--to-size", "0%")
        self.assertEqual((self.content(), self.images()), (0, []))

    def test_pinned(self) -> None:
        """What is pinned stays with all of it, whatever is said; so does what an index that is pinned leads to."""
        name = "c.example/i:1"
        under = self.tree.image("c.example/i", [BASE, b"under"], tagged=False)
        self.tree.index(name, {"linux/amd64": under})
        self.done("pin", name, "a.example/x:2")
        self.json("prune", "--to-size", "0")
        self.assertIn(" KiB more than that: what is left is pinned", self.done("prune", "--to-size", "0"))
        self.json("prune", "--matching", "*")
        self.assertEqual(self.images(), ["a.example/x:2", name])

    def test_untagged(self) -> None:
        """What no tag leads to can be told apart; a tag that has moved on leaves its old manifest as such."""
        new = self.tree.image("a.example/x:1", [BASE, b"new"])
        found = self.json("prune", "--untagged")
        self.assertEqual([each["name"] for each in found["images"]], [f"a.example/x@{Digest.of(self.one)}"])
        self.assertTrue(self.tree.content(new).exists())
        self.assertEqual(len(self.images()), 3)

    def test_loose(self) -> None:
        """Blobs that no image here names, and content that nobody is known to hold, go by their own last use."""
        name = parse_name("d.example/z")
        self.tree.enrol(name, b"loose blob", "application/octet-stream")
        self.tree.put(b"nobody's")
        self.assertEqual(self.json("prune", "--older-than", "12h", "--matching", "d.example/*")["freed"], 0)
        found = self.json("prune", "--matching", "d.example/*")
        self.assertEqual(found["blobs"], [{"repository": "d.example/z", "count": 1, "bytes": 10}])
        self.assertTrue(self.tree.content(b"nobody's").exists())
        then = self.tree.now - 9 * DAY
        os.utime(self.tree.content(b"nobody's"), (then, then))
        found = self.json("prune", "--older-than", "8d")
        self.assertEqual((found["unheld"], found["freed"]), ({"count": 1, "bytes": 8}, 8))

    def test_held_elsewhere(self) -> None:
        """What another repository has fetched as a blob alone stays with it."""
        self.tree.enrol(parse_name("d.example/z"), THREE, "application/octet-stream")
        self.done("prune", "--matching", "b.example/*")
        self.assertTrue(self.tree.content(THREE).exists())

    def test_called_a_layer(self) -> None:
        """An image that calls another one's manifest a layer takes nothing of it along."""
        self.tree.image("z.example/evil:1", [self.two, self.one])
        self.done("prune", "--matching", "z.example/*")
        self.assertEqual(self.images(), ["a.example/x:1", "a.example/x:2", "b.example/y:3"])
        self.tree.image("0.example/evil:1", [self.two, self.one])
        self.done("pin", "a.example/x:1", "a.example/x:2")
        self.done("prune", "--older-than", "1h")
        self.assertIn("a.example/x:2", self.images())
        self.assertTrue(self.tree.content(TWO).exists())

    def test_private(self) -> None:
        """A private repository that is emptied is gone with the note that it is; one that is not stays private."""
        home = parse_name("a.example/x")
        self.tree.repositories.set_privacy(home.registry, home.repository, Privacy(self.tree.now))
        self.done("prune", "--matching", "a.example/x:1")
        self.assertTrue(self.json("ls")[0]["private"])
        self.done("prune", "--matching", "a.example/x:2")
        self.assertFalse((self.tree.layout.registries / "a.example").exists())

    def test_misuse(self) -> None:
        """Without a criterion, or with one that is none, it is misused, and nothing goes."""
        for arguments in (
            [],
            ["--dry-run"],
            ["--older-than", "7"],
            ["--to-size", "20"],
            ["--to-size", "140%"],
            ["--to-size", "x%"],
            ["--matching", "NO"],
            ["--matching"],
        ):
            status, out, err = self.run_main("prune", *arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertNotEqual(err, "")
        self.assertEqual(len(self.images()), 3)


class MeanwhileTests(PruneCase):
    """What happens between the plan and its end."""

    def meanwhile(self, *changes: Callable[[], object]) -> None:
        """Have something happen once the plan is made."""

        def plan(stock: Stock, wanted: Callable[[Unit], bool], free: int | None) -> Plan:
            made = make_plan(stock, wanted, free)
            for change in changes:
                change()
            return made

        self.patch(prune, "plan", plan)

    def test_used(self) -> None:
        """What is pulled meanwhile stays whole, and is said to."""
        said = parse_name("a.example/x")
        self.meanwhile(lambda: self.tree.repositories.tag(said.registry, said.repository, Tag("2")))
        found = self.json("prune", "--older-than", "36h")
        self.assertEqual(found["spared"], ["a.example/x:2"])
        self.assertEqual(self.images(), ["a.example/x:1", "a.example/x:2"])

    def test_pinned(self) -> None:
        """So does what is pinned meanwhile."""
        self.meanwhile(lambda: self.done("pin", "b.example/y:3"))
        self.assertEqual(self.json("prune", "--matching", "*")["spared"], ["b.example/y:3"])
        self.assertEqual(self.images(), ["b.example/y:3"])

    def test_needed(self) -> None:
        """Content that somebody uses meanwhile stays, whoever it was of."""
        self.meanwhile(lambda: self.tree.contents.find(Digest.of(TWO)))
        self.json("prune", "--matching", "*")
        self.assertEqual([path.name for path in (self.tree.layout.blobs / "sha256").iterdir()], [Digest.of(TWO).hex])

    def test_gone(self) -> None:
        """What has gone meanwhile is no error, and frees nothing."""
        self.meanwhile(lambda: self.tree.content(THREE).unlink(), lambda: self.tree.content(self.three).unlink())
        before = self.content()
        found = self.json("prune", "--matching", "b.example/*")
        self.assertEqual(found["freed"], before - len(THREE) - len(self.three) - self.content())

    def test_order(self) -> None:
        """Manifests go before what they name."""
        gone: list[Digest] = []
        remove = removal.remove_content

        def noted(layout: Layout, digest: Digest, used: int) -> int | None:
            gone.append(digest)
            return remove(layout, digest, used)

        self.patch(removing, "remove_content", noted)
        self.done("prune", "--matching", "*")
        for manifest, layer in ((self.one, ONE), (self.two, TWO), (self.three, THREE), (self.three, BASE)):
            self.assertLess(gone.index(Digest.of(manifest)), gone.index(Digest.of(layer)))

    def test_stuck(self) -> None:
        """What cannot be removed is told, with its path, and is status 1; all else goes."""
        path = self.tree.content(THREE)

        def replace() -> None:
            path.unlink()
            path.mkdir()
            os.utime(path, (1, 1))

        self.meanwhile(replace)
        status, _, err = self.run_main("prune", "--matching", "*")
        self.assertEqual((status, err), (1, f"crcache: {path}: Is a directory\n"))
        self.assertEqual(list((self.tree.layout.blobs / "sha256").iterdir()), [path])


class FillTests(PruneCase):
    """C{--fills}."""

    def fill(self, name: str, marks: bool = True) -> Path:
        """A fill in progress of four KiB."""
        place = self.tree.layout.ingest
        place.mkdir(exist_ok=True)
        data = place / name
        data.write_bytes(b"x" * 4096)
        if marks:
            fd = os.open(place / f"{name}.marks", os.O_RDWR | os.O_CREAT)
            Marks(fd, boot_id()).create(data.stat().st_ino)
            self.addCleanup(os.close, fd)
        return data

    def test_abandoned(self) -> None:
        """Those that nobody works on go, and whoever still reads is told; those that somebody works on stay."""
        idle, busy, bare, fresh = (
            self.fill("idle"),
            self.fill("busy"),
            self.fill("bare", marks=False),
            self.fill("fresh", marks=False),
        )
        os.utime(bare, (1, 1))
        fd = os.open(f"{busy}.marks", os.O_RDWR)
        self.addCleanup(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        reader = os.open(f"{idle}.marks", os.O_RDWR)
        self.addCleanup(os.close, reader)
        dry = self.json("prune", "--fills", "--dry-run")
        self.assertEqual(dry["fills"]["count"], 2)
        found = self.json("prune", "--fills")
        self.assertEqual((found["fills"]["count"], found["images"]), (2, []))
        self.assertGreaterEqual(found["freed"], 8192)
        self.assertEqual(
            sorted(path.name for path in self.tree.layout.ingest.iterdir()), ["busy", "busy.marks", "fresh"]
        )
        self.assertIs(Marks(reader, boot_id()).state, State.FAILED)
        self.assertTrue(fresh.exists())

    def test_old(self) -> None:
        """With C{--older-than} those that have grown since stay."""
        fill = self.fill("f")
        self.done("prune", "--fills", "--older-than", "12h")
        self.assertTrue(fill.exists())
        for path in self.tree.layout.ingest.iterdir():
            os.utime(path, (1, 1))
        self.done("prune", "--fills", "--older-than", "12h")
        self.assertFalse(fill.exists())

    def test_odd(self) -> None:
        """Links and pipes in the fills' place are followed nowhere, and waited for by nobody."""
        self.fill("f")
        os.mkfifo(self.tree.layout.ingest / "p.marks")
        (self.tree.layout.ingest / "l.marks").symlink_to("/etc/passwd")
        before = Path("/etc/passwd").read_bytes()
        self.assertEqual(self.json("prune", "--fills")["fills"]["count"], 1)
        self.assertEqual(Path("/etc/passwd").read_bytes(), before)
