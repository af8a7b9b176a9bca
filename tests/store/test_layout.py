"""The layout is a promise: what one release has written the next ones serve, or they give theirs another number."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

from crcache.facts import Fetched, Membership, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.interfaces import IIngest
from crcache.policy.scrub import resumed
from crcache.store import version
from crcache.store.checker import Checker
from crcache.store.filesystem import Filesystem
from crcache.store.layout import VERSION, Layout
from crcache.store.pins import Pins
from crcache.workers import Inline
from tests.store import layout_tree as tree
from tests.store.stores import SEGMENT, content_of
from tests.web.cases import AsyncTestCase

ROOT = Path(__file__).resolve().parents[2]
CHANGED = (
    "what this release writes is not what the packed tree has: "
    "the layout needs another number, and a tree of its own (docs/format.md)"
)
FILL = f"ingest/3530c4415dd857fb-sha256-{Digest.of(tree.PARTLY).hex}"


def described(root: Path) -> dict[str, tuple[int, object]]:
    """All that is below a directory: modes, and what files hold, without what differs from one writing to another."""
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), stat.S_IMODE(path.stat().st_mode)
        found[name] = mode, None if path.is_dir() else _said(name, path.read_bytes())
    return found


def _said(name: str, data: bytes) -> object:
    if name.endswith(".marks"):
        # The inode is the file's own.
        return data[:24] + data[40:]
    if "/_pins/" in name:
        return [(key, type(value)) for key, value in json.loads(data).items()]
    return data


class TreeCase(AsyncTestCase):
    """A store on the tree that the first release with this layout has written, long after."""

    def setUp(self) -> None:
        """Unpack it, as another file system and another boot would have it."""
        self.directory = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.root = self.directory / "cache"
        tree.unpack(tree.PACKED, self.root)
        self.layout = Layout(self.root)
        self.checks: list[Digest] = []
        self.store = self.another()
        self.store.start()

    def another(self) -> Filesystem:
        """A store on the same directory. What it has hashed is in C{checks}."""
        store = Filesystem(self.root, Inline(), lambda: tree.NOW + 30 * 86400)
        check = store.contents.check

        def counted(digest: Digest) -> None:
            self.checks.append(digest)
            check(digest)

        store.contents.check = counted  # type: ignore[method-assign]
        return store


class ServeTests(TreeCase):
    """Everything in the tree is what it was."""

    async def test_content(self) -> None:
        """All content is there, whichever algorithm names it; its seal was of another file, so it is hashed, once."""
        for digest, data in tree.WHOLE.items():
            found = await self.store.find(digest)
            assert found is not None
            self.assertEqual(content_of(found), data)
            self.assertIs(found.verdict, Verdict.VERIFIED)
            self.assertEqual(await self.store.read(digest, 1 << 20), data)
        self.assertEqual(self.checks, list(tree.WHOLE))
        other = self.another()
        other.start()
        for digest in tree.WHOLE:
            self.assertIsNotNone(await other.find(digest))
        self.assertEqual(self.checks, list(tree.WHOLE))

    async def test_damaged(self) -> None:
        """What was damaged under way is not served."""
        path = self.layout.content(Digest.of(tree.LAYER))
        path.chmod(0o640)
        path.write_bytes(tree.LAYER[:-1] + b"x")
        self.assertIsNone(await self.store.find(Digest.of(tree.LAYER)))

    async def test_members(self) -> None:
        """What repositories hold, and how they came by it."""
        for (registry, repository), members in tree.MEMBERS.items():
            for member in members:
                self.assertEqual(await self.store.member(registry, repository, member.digest), member)
        other = Repository("library/other")
        self.assertIsNone(await self.store.member(DOCKER_IO, other, Digest.of(tree.LAYER)))

    async def test_given(self) -> None:
        """What everyone is given is so still, through another repository too; what only credentials opened is not."""
        other = Repository("library/other")
        for digest, given in (
            (Digest.of(tree.LAYER), True),
            (Digest.of(tree.LONG, "sha512"), True),
            (Digest.of(tree.SECRET_LAYER), False),
            (Digest.of(tree.PARTLY), False),
        ):
            self.assertIs((await self.store.holding(DOCKER_IO, other, digest)).given, given, digest)

    async def test_privacy(self) -> None:
        """The private repository is private, with the challenge that it was told; the other is open."""
        self.assertEqual(await self.store.privacy(tree.HARBOR, tree.TEAM), tree.PRIVACY)
        self.assertIsNone(await self.store.privacy(DOCKER_IO, tree.ALPINE))

    async def test_tags(self) -> None:
        """What tags mean."""
        for (registry, repository, tag), entry in tree.TAGS.items():
            pinned = (registry, repository, tag) == (DOCKER_IO, tree.ALPINE, tree.LATEST)
            self.assertEqual(await self.store.tag(registry, repository, tag), replace(entry, pinned=pinned))

    def test_pins(self) -> None:
        """What is pinned."""
        long = Digest.of(tree.LONG, "sha512")
        pinned = [(long, long), (tree.LATEST, Digest.of(tree.INDEX))]
        self.assertEqual(list(Pins(self.layout).of(DOCKER_IO, tree.ALPINE)), pinned)

    def test_scrub(self) -> None:
        """How far the background check had come."""
        checker = Checker(self.store.contents)
        self.assertTrue(checker.hold())
        self.addCleanup(checker.release)
        self.assertEqual(resumed(checker.load(tree.NOW), tree.NOW), tree.ROUND)

    async def test_fill_elsewhere(self) -> None:
        """A fill whose files were copied belongs to other files: nothing of it is believed, and it begins anew."""
        fill = await self.store.ingest(DOCKER_IO, Digest.of(tree.PARTLY))
        assert IIngest.providedBy(fill)
        self.addCleanup(fill.close)
        self.assertTrue(fill.owner)
        self.assertEqual(fill.hole(0), (0, None))

    async def test_fill_resumed(self) -> None:
        """In the very same files, after a restart of the machine, it goes on behind what was safe on the disk."""
        inode = (self.root / FILL).stat().st_ino
        with open(self.root / f"{FILL}.marks", "r+b") as marks:
            # As docs/format.md has it.
            marks.seek(24)
            marks.write(struct.pack("<Qq", ~inode & (1 << 64) - 1, inode))
        digest = Digest.of(tree.PARTLY)
        fill = await self.store.ingest(DOCKER_IO, digest)
        assert IIngest.providedBy(fill)
        self.addCleanup(fill.close)
        self.assertTrue(fill.owner)
        self.assertEqual(fill.hole(0), (SEGMENT, len(tree.PARTLY)))
        await fill.write(SEGMENT, [tree.PARTLY[SEGMENT:]])
        member = Membership(digest, None, None, True, None, Fetched.OPENLY)
        await fill.commit(len(tree.PARTLY), [(tree.ALPINE, member)])
        found = await self.store.find(digest)
        assert found is not None
        self.assertEqual(content_of(found), tree.PARTLY)
        holding = await self.store.holding(DOCKER_IO, tree.ALPINE, digest)
        self.assertTrue(holding.given)
        self.assertEqual(
            holding.member, Membership(digest, tree.LAYER_TYPE, len(tree.PARTLY), True, tree.NOW - 4, member.fetched)
        )


class WriteTests(TreeCase):
    """What this release writes."""

    def test_same(self) -> None:
        """The very same names, modes and contents."""
        again = self.directory / "again"
        tree.make(again)
        old, new = described(self.root), described(again)
        self.assertEqual(sorted(old), sorted(new), CHANGED)
        for name, what in old.items():
            self.assertEqual(what, new[name], f"{name}: {CHANGED}")

    def test_number(self) -> None:
        """The tree is of the layout that this release has."""
        self.assertEqual((self.root / "VERSION").read_text(), f"{VERSION}\n")
        self.assertTrue(version.check(self.layout))

    def test_seals(self) -> None:
        """The fraction of a content's time is its seal, as the documents say: other releases must not hash it all."""
        again = self.directory / "again"
        tree.make(again)
        sealed = Filesystem(again, Inline(), lambda: tree.NOW)
        sealed.start()
        for digest in tree.WHOLE:
            found = sealed.contents.find(digest)
            assert found is not None
            self.assertTrue(found.sealed)


class DocumentTests(TreeCase):
    """`docs/format.md`."""

    def _named(self) -> str:
        return (ROOT / "docs/format.md").read_text(encoding="utf-8")

    def test_names(self) -> None:
        """It has each name that there may be at the top of a cache directory, and each directory of a repository's."""
        names = {path.name for path in vars(self.layout).values() if path != self.root}
        names |= {path.name for path in self.root.rglob("_*")}
        self.assertGreater(len(names), 10)
        for name in names:
            self.assertIn(f"`{name}", self._named())

    def test_keys(self) -> None:
        """It has each key of each record."""
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if path.is_file() and (name.startswith("registries/") or name == "scrub.json"):
                for key in json.loads(path.read_bytes()):
                    self.assertIn(f"`{key}`", self._named(), name)

    def test_by_hand(self) -> None:
        """What it says may be deleted by hand may be: the store goes on, and what is gone is a miss."""
        for name in ("scrub.json", "scrub.lock", "ingest", "registries", "openly", "blobs"):
            self.assertRegex(self._named(), rf"(?m)^\| `{name}[^|]*\|[^|]*\| yes", name)
            _gone(self.root / name)
            store = self.another()
            store.start()
            for digest in tree.WHOLE:
                self.assertIs(self.successResultOf(store.find(digest)) is None, name == "blobs")


def _gone(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
