"""What L{crcache.store.filesystem} leaves on disk, and what it makes of what it finds there."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

from twisted.logger import formatEvent

from crcache import events
from crcache.errors import StoreAway, StoreError
from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag
from crcache.interfaces import IIngest
from crcache.store import filesystem
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline
from tests.store.case import DirectoryCase, logged_by
from tests.store.stores import ALPINE, DATA, DIGEST, LATEST, descriptors

HOUR = 3600.0
CONTENT = f"blobs/sha256/{DIGEST.hex}"
MEMBER = f"registries/docker.io/library/alpine/_digests/sha256-{DIGEST.hex}"
TAG = "registries/docker.io/library/alpine/_tags/latest"
FILL = f"ingest/{hashlib.sha256(b'docker.io').hexdigest()[:16]}-sha256-{DIGEST.hex}"


class LayoutTests(DirectoryCase):
    """Where things are: a promise to administrators, and to the next release."""

    async def test_fresh(self) -> None:
        """A new directory says its layout's version, and nothing else."""
        self.assertEqual(self.files(), {"VERSION"})
        self.assertEqual((self.root / "VERSION").read_text(), "1\n")

    async def test_content(self) -> None:
        """Content is below blobs by algorithm and hex, and read-only."""
        digest = Digest.of(DATA, "sha512")
        await self.store.put(DIGEST, DATA)
        await self.store.put(digest, DATA)
        self.assertEqual(self.files(), {"VERSION", CONTENT, f"blobs/sha512/{digest.hex}"})
        self.assertEqual((self.root / CONTENT).read_bytes(), DATA)
        self.assertEqual(stat.S_IMODE((self.root / CONTENT).stat().st_mode) & 0o337, 0)

    async def test_fill(self) -> None:
        """A fill is data at its offsets, and marks; committed, it is read-only content and a membership."""
        fill = await self.ingest()
        self.assertEqual(self.files(), {"VERSION", FILL, FILL + ".marks"})
        fill.settle(len(DATA))
        await fill.write(1 << 20, [DATA[1 << 20 :]])
        self.assertEqual((self.root / FILL).stat().st_size, len(DATA))
        self.assertLess((self.root / FILL).stat().st_blocks * 512, len(DATA) - (1 << 19), "there is a hole")
        await fill.write(0, [DATA])
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST, None, len(DATA)))])
        self.assertEqual(self.files(), {"VERSION", CONTENT, MEMBER})
        self.assertEqual(stat.S_IMODE((self.root / CONTENT).stat().st_mode) & 0o337, 0)

    async def test_two_registries(self) -> None:
        """Registries' fills are told apart by a hash of their canonical names, which makes one file name of any."""
        await self.ingest()
        await self.ingest(Registry("[2001:db8::1]:5000"))
        names = [name for name in self.files() if not name.endswith(".marks") and name != "VERSION"]
        hashed = hashlib.sha256(b"[2001:db8::1]:5000").hexdigest()[:16]
        self.assertEqual(sorted(names), sorted([FILL, f"ingest/{hashed}-sha256-{DIGEST.hex}"]))

    async def test_discarded(self) -> None:
        """A discarded fill leaves nothing."""
        await (await self.filled()).discard()
        self.assertEqual(self.files(), {"VERSION"})

    async def test_member(self) -> None:
        """A membership is small JSON that says how it was obtained."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, "a/b", 5, since=7.5)])
        self.assertEqual(self.files(), {"VERSION", MEMBER})
        said = {
            "digest": str(DIGEST),
            "mediaType": "a/b",
            "size": 5,
            "obtained": "open",
            "since": 7.5,
            "fetched": "never",
            "named": False,
        }
        self.assertEqual(json.loads((self.root / MEMBER).read_text()), said)
        other = Digest.of(b"", "sha512")
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(other, open=False)])
        path = self.root / f"registries/docker.io/library/alpine/_digests/sha512-{other.hex}"
        self.assertEqual(json.loads(path.read_text())["obtained"], "private")

    async def test_tag(self) -> None:
        """A tag is small JSON, too."""
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        self.assertEqual(self.files(), {"VERSION", TAG})
        said = {"digest": str(DIGEST), "mediaType": "a/b", "size": 5, "checked": 7.5, "open": True}
        self.assertEqual(json.loads((self.root / TAG).read_text()), said)

    async def test_nested_repositories(self) -> None:
        """A repository within another's name, or of the longest there is, does not collide with anything."""
        for name in ("a", "a/b", "a/b/c", "tags", "a/digests", "/".join(["x" * 63] * 4)):
            repository = Repository(name)
            await self.store.set_tag(DOCKER_IO, repository, Tag("a"), TagEntry(DIGEST, "a/b", len(name), 7.5))
            await self.store.enrol(DOCKER_IO, repository, [Membership(DIGEST, "a/b")])
        for name in ("a", "a/b", "a/b/c"):
            found = await self.store.tag(DOCKER_IO, Repository(name), Tag("a"))
            assert found is not None
            self.assertEqual(found.size, len(name))

    async def test_restart(self) -> None:
        """Another process on the same directory finds everything."""
        await self.store.put(DIGEST, DATA)
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, since=1.0)])
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        other = self.another()
        other.start()
        self.assertEqual(await other.read(DIGEST, len(DATA)), DATA)
        self.assertEqual(await other.member(DOCKER_IO, ALPINE, DIGEST), Membership(DIGEST, since=1.0))
        self.assertEqual(await other.tag(DOCKER_IO, ALPINE, LATEST), TagEntry(DIGEST, "a/b", 5, 7.5))


class LastUseTests(DirectoryCase):
    """Last use is the files' mtime, noted at most hourly: eviction and `find -mtime` go by it."""

    def _aged(self, name: str, age: float) -> Path:
        path = self.root / name
        os.utime(path, (self.now - age, self.now - age))
        return path

    def _unused(self, age: float) -> Path:
        """Content that was last used so long ago."""
        path = self.root / CONTENT
        fraction = path.stat().st_mtime_ns % 10**9
        os.utime(path, ns=(0, int(self.now - age) * 10**9 + fraction))
        return path

    async def test_content(self) -> None:
        """Finding content touches it, if that was last done over an hour ago; so does reading it whole."""
        await self.store.put(DIGEST, DATA)
        for age, touched in ((HOUR - 1, False), (HOUR + 1, True), (30 * 24 * HOUR, True)):
            path = self._unused(age)
            await self.store.find(DIGEST)
            self.assertEqual(int(path.stat().st_mtime), self.now if touched else self.now - age)
        path = self._unused(2 * HOUR)
        await self.store.read(DIGEST, len(DATA))
        self.assertEqual(int(path.stat().st_mtime), self.now)

    async def test_clock_set_back(self) -> None:
        """A time in the future is put right."""
        await self.store.put(DIGEST, DATA)
        path = self._unused(-30 * 24 * HOUR)
        await self.store.find(DIGEST)
        self.assertEqual(int(path.stat().st_mtime), self.now)

    async def test_records(self) -> None:
        """Memberships and tags likewise."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        for age, touched in ((HOUR - 1, False), (HOUR + 1, True)):
            member, tag = self._aged(MEMBER, age), self._aged(TAG, age)
            await self.store.member(DOCKER_IO, ALPINE, DIGEST)
            await self.store.tag(DOCKER_IO, ALPINE, LATEST)
            self.assertEqual(member.stat().st_mtime, self.now if touched else self.now - age)
            self.assertEqual(tag.stat().st_mtime, self.now if touched else self.now - age)


class StartTests(DirectoryCase):
    """Starting."""

    def _refused(self, root: Path) -> str:
        error = self.assertRaises(StoreError, Filesystem(root, Inline(), self.clock).start)
        assert isinstance(error, StoreError)
        self.assertNotIsInstance(error, StoreAway)
        self.assertIn(str(root), error.message)
        self.assertNotIn("\n", error.message)
        return error.message

    def test_twice(self) -> None:
        """A directory that is there is used as it is."""
        before = (self.root / "VERSION").stat()
        self.another().start()
        self.assertEqual((self.root / "VERSION").stat(), before)

    def test_unwritable(self) -> None:
        """A directory that cannot be had is one line that names it."""
        (self.root / "file").write_text("")
        self.assertIn("Not a directory", self._refused(self.root / "file"))
        self.assertIn("Not a directory", self._refused(self.root / "file" / "below"))
        self._refused(Path("/proc/crcache"))
        self._refused(Path("/proc/self"))

    async def test_full(self) -> None:
        """A full disk keeps nobody from what is there, whose going would make room; a new directory is waited for."""
        await self.store.put(DIGEST, DATA)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):

            def refuse(directory: Path, number: int = number) -> None:
                raise OSError(number, os.strerror(number), str(directory))

            self.patch(filesystem, "probe", refuse)
            fresh = Filesystem(self.root / f"fresh-{number}", Inline(), self.clock)
            self.assertRaises(StoreAway, fresh.start)
            store = self.another()
            if number == errno.EIO:
                self.assertRaises(StoreAway, store.start)
                continue
            store.start()
            found = await store.find(DIGEST)
            self.assertIsNotNone(found)
            self.assertIn(os.strerror(number), (await self._not_ready(store)).message)

    async def _not_ready(self, store: Filesystem) -> StoreError:
        try:
            await store.ready()
        except StoreError as error:
            return error
        self.fail("it is ready")

    def test_other_layout(self) -> None:
        """Another release's directory is refused, and nothing in it is touched."""
        other = self.root / "other"
        other.mkdir()
        long = "1" + " " * 100 + "0"
        odd = (b"\n", b"\0\n\n", b"1 1", b"-1", b"\xff\xfe1", "\u0661".encode())
        for version in (b"2\n", b"x" * 100_000, long.encode(), *odd):
            (other / "VERSION").write_bytes(version)
            self.assertIn("layout", self._refused(other))
            self.assertEqual(os.listdir(other), ["VERSION"])
            self.assertEqual((other / "VERSION").read_bytes(), version)
        (other / "objects").mkdir()
        (other / "VERSION").write_text("")
        self.assertIn("layout", self._refused(other))
        self.assertEqual(sorted(os.listdir(other)), ["VERSION", "objects"])
        self.assertEqual((other / "VERSION").read_text(), "")

    def test_advice(self) -> None:
        """The line says what to do: a later release's directory is that release's; nobody knows whose another is.
        However much the file holds, the line is short."""
        path = self.root / "VERSION"
        for version, advice in (("2", "the later release, or an empty"), ("0", "another"), ("x" * 9000, "another")):
            path.write_text(version)
            line = self._refused(self.root)
            self.assertTrue(line.endswith(f": take {advice} directory"), line)
            self.assertLess(len(line), len(str(self.root)) + 150)

    async def test_damaged_version(self) -> None:
        """A VERSION that a power cut has left empty, or as zeros, is written anew, and the log says so; what is there
        stays."""
        await self.store.put(DIGEST, DATA)
        (self.root / ".draft").touch()
        for damage in ("", "\0\0", "\0" * 4096):
            (self.root / "VERSION").write_text(damage)
            logged = logged_by(self)
            store = self.another()
            store.start()
            self.assertEqual((self.root / "VERSION").read_text(), "1\n")
            self.assertIsNotNone(await store.find(DIGEST))
            (event,) = logged
            self.assertIs(event["event"], events.CONTENT_DAMAGED)
            self.assertIn(str(self.root / "VERSION"), formatEvent(event))

    async def test_made_again(self) -> None:
        """A directory that is removed under the daemon is made again, with its VERSION, and for nobody else to read."""
        for write in (
            lambda: self.store.put(DIGEST, DATA),
            lambda: self.store.ingest(DOCKER_IO, DIGEST),
            lambda: self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5)),
        ):
            shutil.rmtree(self.root)
            written = await write()
            if IIngest.providedBy(written):
                await written.discard()
            self.assertEqual((self.root / "VERSION").read_text(), "1\n")
            for path in (self.root, *self.root.rglob("*")):
                if path.is_dir():
                    self.assertEqual(stat.S_IMODE(path.stat().st_mode) & ~0o750, 0, path)
            self.another().start()

    def test_odd_version(self) -> None:
        """A VERSION that is no file is refused at once, and not kept open."""
        gc.collect()
        before = descriptors()
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
            path = self.root / "VERSION"
            path.unlink()
            make(path)
            self._refused(self.root)
            if path.is_dir():
                path.rmdir()
                path.touch()
        self.assertEqual(descriptors(), before)

    async def test_gone(self) -> None:
        """Without its directory the store is not ready; without those below it is, and makes them again."""
        self.vanish("content", "fills")
        await self.store.ready()
        os.rename(self.root, self.root.with_name("away"))
        error = await self.fails(self.store.ready(), StoreError)
        self.assertIn(str(self.root), str(error))
        self.assertEqual(os.listdir(self.root.parent), ["away"])

    async def test_no_leftovers(self) -> None:
        """Asking whether the store is ready leaves nothing."""
        await self.store.ready()
        self.assertEqual(self.files(), {"VERSION"})
