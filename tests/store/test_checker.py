"""L{crcache.store.checker}: all content is hashed again, piece by piece."""

from __future__ import annotations

import gc
import os
import shutil
from typing import Any

from crcache import events
from crcache.grammar.digest import Digest
from crcache.store import checker as module
from crcache.store.checker import PIECE, Checker, Piece
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline
from tests.store.case import DirectoryCase, logged_by
from tests.store.stores import DATA, DIGEST, descriptors

LONG = Digest.of(b"long", "sha512")
CONTENT = f"blobs/sha256/{DIGEST.hex}"


class CheckerCase(DirectoryCase):
    """Some content, and one who checks it."""

    def setUp(self) -> None:
        """Make it."""
        super().setUp()
        self.store: Any
        self.checker = Checker(self.store.contents)
        self.addCleanup(self.checker.release)

    async def fill(self, count: int = 5) -> list[str]:
        """So many small files and two others; their names in order."""
        data = {Digest.of(bytes([number])): bytes([number]) for number in range(count)}
        data |= {DIGEST: DATA, LONG: b"long"}
        for digest, each in data.items():
            await self.store.put(digest, each)
        return [f"{digest.algorithm}/{digest.hex}" for digest in sorted(data)]

    def walked(self, after: str = "") -> list[Piece]:
        """The contents checked to their ends, after this name."""
        return [piece for piece in self.checker.walk(after) if piece.name is not None]


class WalkTests(CheckerCase):
    """What is checked."""

    async def test_all(self) -> None:
        """Every file once, in order, of either algorithm, from wherever one begins; nothing that is not content."""
        names = await self.fill()
        for odd in ("blobs/sha256/.draft", "blobs/sha256/short", f"blobs/sha256/{'A' * 64}", "blobs/else"):
            (self.root / odd).write_bytes(b"x")
        self.assertEqual([piece.name for piece in self.walked()], names)
        for at, name in enumerate(names):
            self.assertEqual([piece.name for piece in self.walked(name)], names[at + 1 :])
        self.assertEqual([piece.damaged for piece in self.walked()], [False] * len(names))

    async def test_nothing(self) -> None:
        """An empty cache, one without directories, and one with files in their places, has no content."""
        self.assertEqual(self.walked(), [])
        shutil.rmtree(self.root / "blobs")
        self.assertEqual(self.walked(), [])
        (self.root / "blobs").touch()
        self.assertEqual(self.walked(), [])

    async def test_batches(self) -> None:
        """More files than are kept in memory are all checked, once each."""
        self.patch(module, "BATCH", 3)
        self.patch(module, "NAMES", 4)
        names = await self.fill(40)
        self.assertEqual([piece.name for piece in self.walked()], names)

    async def test_pieces(self) -> None:
        """A file is read in pieces, whose sizes are told; looking costs something as well."""
        await self.store.put(DIGEST, DATA)
        pieces = list(self.checker.walk(""))
        self.assertEqual(sum(piece.cost for piece in pieces) - module.LOOK, len(DATA))
        self.assertLessEqual(max(piece.cost for piece in pieces), PIECE)
        self.assertEqual(pieces[-1], Piece(module.LOOK, f"sha256/{DIGEST.hex}", len(DATA), False))

    async def test_vanishing(self) -> None:
        """Files that go while it looks are nothing to it, also the one that is being read."""
        names = await self.fill()
        walk = self.checker.walk("")
        first = next(walk)
        shutil.rmtree(self.root / "blobs" / "sha256")
        found = [first.name, *(piece.name for piece in walk)]
        self.assertEqual([name for name in found if name in names[1:-1]], [])
        self.assertEqual(found[-1], names[-1])

    async def test_closed(self) -> None:
        """One that is given up in the middle of a file keeps nothing open."""
        await self.store.put(DIGEST, DATA)
        gc.collect()
        before = descriptors()
        walk = self.checker.walk("")
        next(walk)
        self.assertEqual(descriptors(), before + 1)
        walk.close()
        self.assertEqual(descriptors(), before)


class FoundTests(CheckerCase):
    """What becomes of what is found."""

    async def test_damaged(self) -> None:
        """Damaged files are dropped, whatever their times say, each with a line; the others stay."""
        changed: list[tuple[Digest, int, int]] = []
        store = Filesystem(self.root, Inline(), self.clock, changed=lambda *each: changed.append(each))
        names = await self.fill(20)
        bad = sorted(Digest.of(bytes([number])) for number in range(10))
        for digest in bad:
            path = self.root / "blobs" / "sha256" / digest.hex
            path.chmod(0o600)
            before = path.stat()
            path.write_bytes(b"?")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        logged = logged_by(self)
        self.checker = Checker(store.contents)
        found = self.walked()
        self.assertEqual([piece.name for piece in found], names)
        self.assertEqual([piece.name for piece in found if piece.damaged], [f"sha256/{each.hex}" for each in bad])
        told = [event["digest"] for event in logged if event["event"] is events.CONTENT_DAMAGED]
        self.assertEqual(told, [str(digest) for digest in bad])
        self.assertEqual(changed, [(digest, 1, 0) for digest in bad])
        # The log keeps back what says the same as another line.
        self.assertEqual(len({event["problem"] for event in logged}), len(bad))
        self.assertEqual(len(self.walked()), len(names) - len(bad))

    async def test_odd(self) -> None:
        """What is no file is damage as well."""
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)):
            (self.root / "blobs" / "sha256").mkdir(exist_ok=True)
            make(self.root / CONTENT)
            self.assertEqual([piece.damaged for piece in self.walked()], [True])
            self.assertFalse(os.path.lexists(self.root / CONTENT))

    async def test_sealed(self) -> None:
        """What is right and was not sealed is sealed, so that nobody waits for its hashing; its last use stays."""
        await self.store.put(DIGEST, DATA)
        os.utime(self.root / CONTENT, (5, 5))
        self.assertEqual([piece.damaged for piece in self.walked()], [False])
        found = (self.root / CONTENT).stat()
        self.assertTrue(self.store.contents.seals.holds(found, DIGEST))
        self.assertEqual(int(found.st_mtime), 5)

    async def test_written_meanwhile(self) -> None:
        """What is written to while it is read is not sealed."""
        await self.store.put(DIGEST, DATA)
        walk = self.checker.walk("")
        next(walk)
        os.utime(self.root / CONTENT, (5, 5))
        self.assertEqual([piece.damaged for piece in walk][-1], False)
        self.assertFalse(self.store.contents.seals.holds((self.root / CONTENT).stat(), DIGEST))

    async def test_replaced_meanwhile(self) -> None:
        """Right content that has come into a damaged file's place meanwhile is not dropped."""
        await self.store.put(DIGEST, DATA)
        self.damage(DIGEST)
        walk = self.checker.walk("")
        next(walk)
        await self.store.put(DIGEST, DATA)
        self.assertEqual([piece.damaged for piece in walk][-1], True)
        self.assertEqual((self.root / CONTENT).read_bytes(), DATA)

    def _failing(self, number: int) -> None:
        class Failing:
            """The C{os} module on a disk that cannot read."""

            def __getattr__(self, name: str) -> Any:
                return self.preadv if name == "preadv" else getattr(os, name)

            def preadv(self, *args: Any) -> int:
                raise OSError(number, os.strerror(number))

        self.patch(module, "os", Failing())

    async def test_unreadable(self) -> None:
        """What the disk cannot read any more is dropped; what may be read another time is left, with a line."""
        await self.store.put(DIGEST, DATA)
        logged = logged_by(self)
        self._failing(13)
        self.assertEqual(self.walked(), [])
        self.assertEqual([event["event"] for event in logged], [events.CACHE_FAILED])
        self.assertTrue((self.root / CONTENT).exists())
        self._failing(5)
        self.assertEqual([piece.damaged for piece in self.walked()], [True])
        self.assertIn("Input/output error", logged[-1]["problem"])
        self.assertFalse((self.root / CONTENT).exists())

    async def test_stays(self) -> None:
        """Damaged content that cannot be removed is told of, and doesn't keep it from what comes behind."""
        names = await self.fill()
        digest = Digest.parse(names[0].replace("/", ":"))
        (self.root / "blobs" / names[0]).unlink()
        os.symlink("nowhere", self.root / "blobs" / names[0])

        def refuse(path: object) -> None:
            raise OSError(30, "Read-only file system")

        from crcache.store import contents

        self.patch(contents, "make_way", refuse)
        logged = logged_by(self)
        found = self.walked()
        self.assertEqual([piece.name for piece in found], names)
        self.assertEqual([piece.name for piece in found if piece.damaged], names[:1])
        (event,) = logged
        self.assertIn(digest.hex, event["problem"])
        self.assertIn("Read-only file system", event["problem"])


class LockTests(CheckerCase):
    """Who checks, and what it notes."""

    def test_one(self) -> None:
        """One at a time; the next may when that one lets go."""
        other = Checker(self.another().contents)
        self.addCleanup(other.release)
        self.assertEqual([self.checker.hold(), other.hold(), self.checker.hold()], [True, False, True])
        self.checker.release()
        self.checker.release()
        self.assertEqual([other.hold(), self.checker.hold()], [True, False])

    def test_vanished(self) -> None:
        """A lock that somebody removed is another one: whoever holds it holds that."""
        other = Checker(self.another().contents)
        self.addCleanup(other.release)
        self.assertTrue(self.checker.hold())
        (self.root / "scrub.lock").unlink()
        self.assertTrue(other.hold())
        self.assertFalse(self.checker.hold())

    def test_odd_lock(self) -> None:
        """Something odd in the lock's place is an error, not a wait, and nothing is left open."""
        gc.collect()
        before = descriptors()
        for make in (os.mkdir, lambda path: os.symlink("nowhere", path)):
            path = self.root / "scrub.lock"
            make(path)
            self.assertRaises(OSError, self.checker.hold)
            self.assertEqual(descriptors(), before)
            path.rmdir() if path.is_dir() else path.unlink()

    def test_notes(self) -> None:
        """What is saved is loaded, by whichever process; what is no record is nothing."""
        record = {"began": 5.0, "after": "x"}
        self.assertIsNone(self.checker.load(self.now))
        self.checker.save(record)
        self.assertEqual(Checker(self.another().contents).load(self.now), record)
        for garbage in (b"", b"{", b"[]", b"\xff" * 99):
            (self.root / "scrub.json").write_bytes(garbage)
            self.assertIsNone(self.checker.load(self.now))

    def test_gone(self) -> None:
        """A cache directory that is gone, as with the mount that it was on, is an error, and is not made."""
        self.assertTrue(self.checker.hold())
        shutil.rmtree(self.root)
        self.assertRaises(OSError, self.checker.hold)
        self.checker.save({})
        self.assertFalse(self.root.exists())

    def test_disk_full(self) -> None:
        """A disk that refuses to take the note is no error."""
        shutil.rmtree(self.root)
        self.root.touch()
        self.checker.save({})
        self.assertIsNone(self.checker.load(self.now))
        self.root.unlink()


class MemoryTests(CheckerCase):
    """What it reads does not push out of memory what clients read."""

    def _advised(self) -> list[tuple[int, int]]:
        advised: list[tuple[int, int]] = []

        class Noting:
            """The C{os} module, noting what is to leave memory."""

            def __getattr__(self, name: str) -> Any:
                return self.posix_fadvise if name == "posix_fadvise" else getattr(os, name)

            def posix_fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
                if advice == os.POSIX_FADV_DONTNEED:
                    advised.append((offset, length))
                os.posix_fadvise(fd, offset, length, advice)

        self.patch(module, "os", Noting())
        return advised

    async def test_resident(self) -> None:
        """What was in memory stays there."""
        await self.store.put(DIGEST, DATA)
        (self.root / CONTENT).read_bytes()
        advised = self._advised()
        self.assertEqual(len(self.walked()), 1)
        self.assertEqual(advised, [])

    async def test_not_resident(self) -> None:
        """What had to be read from the disk leaves memory again."""
        await self.store.put(DIGEST, DATA)

        class Cold:
            """The C{os} module where nothing is in memory."""

            def __init__(self, under: object) -> None:
                self._under = under

            def __getattr__(self, name: str) -> Any:
                return getattr(self._under, name)

            def preadv(self, fd: int, buffers: list[Any], offset: int, flags: int = 0) -> int:
                if flags & os.RWF_NOWAIT:
                    raise BlockingIOError(11, "not now")
                return os.preadv(fd, buffers, offset)

        advised = self._advised()
        self.patch(module, "os", Cold(vars(module)["os"]))
        self.assertEqual([piece.damaged for piece in self.walked()], [False])
        self.assertEqual(sum(length for _, length in advised), len(DATA))
