"""A cache directory that is damaged under the daemon, or by a power cut: clients get the right bytes, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from twisted.logger import formatEvent

from crcache import events, scrub
from crcache.flow.window import HELD
from crcache.grammar.digest import Digest
from crcache.store.content import Content
from crcache.store.contents import Contents
from crcache.store.marks import HEADER, SEGMENT, Marks, State
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, REPO, ClientCase, blob_path, eventually, manifest_path, remove
from tests.web.cases import pause

MIB = 1 << 20
DATA = noise(3 * MIB + 77)


def truncate(path: Path) -> None:
    """Cut it."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leave nothing."""
    os.truncate(path, 0)


def zero(path: Path) -> None:
    """Zeros over all of it, in place."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))


def overwrite(path: Path) -> None:
    """Some other bytes in its middle, in place."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"garbage")


def directory(path: Path) -> None:
    """An empty directory in its place."""
    path.unlink()
    path.mkdir()


def full_directory(path: Path) -> None:
    """A directory with a file in its place."""
    directory(path)
    (path / "file").write_bytes(b"x")


def symlink(path: Path) -> None:
    """A link to another file in its place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    """Something in its place that whoever reads it waits for."""
    path.unlink()
    os.mkfifo(path)


def same(path: Path) -> None:
    """Its own bytes over it, in place."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data)


DAMAGES: tuple[Callable[[Path], None], ...] = (
    truncate, empty, zero, overwrite, directory, full_directory, symlink, fifo,
)  # fmt: skip


class DamageCase(ClientCase):
    """A cache that holds a blob."""

    async def cached(self, data: bytes = DATA) -> Path:
        """Have a blob of these bytes cached, and say where."""
        self.data = data
        self.digest = self.origin.content.add_blob(REPO, data)
        self.target = blob_path(self.digest)
        self.assertEqual((await self.ask(self.target)).body, data)
        await self.settled()
        self.assertHit(await self.ask(self.target))
        path = self.cache.config.cache_directory / "blobs" / "sha256" / self.digest[7:]
        self.assertEqual(path.read_bytes(), data)
        return path

    def damages(self) -> list[str]:
        """The lines of the log that tell of damage."""
        return [formatEvent(event) for event in self.events if event.get("event") is events.CONTENT_DAMAGED]


class ContentTests(DamageCase):
    """Committed content."""

    async def test_blob(self) -> None:
        """However a blob's file is damaged, the next client gets the right bytes from the origin, and the one after
        that gets them from disk; the log tells of it once."""
        path = await self.cached()
        for damage in DAMAGES:
            path.chmod(0o600)
            damage(path)
            self.events.clear()
            answer = await self.ask(self.target)
            self.assertEqual((answer.status, answer.body == DATA, answer.complete), (200, True, True), damage.__name__)
            await self.settled()
            self.assertEqual(path.read_bytes(), DATA, damage.__name__)
            answer = await self.ask(self.target)
            self.assertHit(answer)
            self.assertEqual(answer.body, DATA)
            (line,) = self.damages()
            self.assertIn(str(path), line)

    async def test_range(self) -> None:
        """So it is for those who ask for a part, or for no body at all."""
        path = await self.cached()
        for damage in DAMAGES:
            path.chmod(0o600)
            damage(path)
            answer = await self.ask(self.target, ("Range", "bytes=1500000-1600000"))
            self.assertEqual((answer.status, answer.body), (206, DATA[1_500_000:1_600_001]), damage.__name__)
            await self.settled()
            path.chmod(0o600)
            damage(path)
            answer = await self.ask(self.target, method="HEAD")
            self.assertEqual((answer.status, answer.one("Content-Length")), (200, str(len(DATA))), damage.__name__)
            self.assertEqual((await self.ask(self.target)).body, DATA)
            await self.settled()

    async def test_crowd(self) -> None:
        """Many who ask at once for a damaged blob all get the right bytes, and the origin is asked once."""
        path = await self.cached()
        path.chmod(0o600)
        zero(path)
        before = len(self.origin.asked("blob"))
        answers = [await self.begin(self.target) for _ in range(20)]
        for answer in answers:
            self.assertEqual((await answer.end()).body, DATA)
        self.assertEqual(len(self.origin.asked("blob")) - before, 1)
        self.assertEqual(len(self.damages()), 1)

    async def test_manifest(self) -> None:
        """Damaged manifests are fetched again, by tag and by digest."""
        image = self.origin.add_image(REPO, "1.0")
        await self.ask(manifest_path("1.0"))
        await self.settled()
        path = self.cache.config.cache_directory / "blobs" / "sha256" / image.digest[7:]
        expected = path.read_bytes()
        for reference in ("1.0", image.digest):
            for damage in DAMAGES:
                path.chmod(0o600)
                damage(path)
                answer = await self.ask(manifest_path(reference))
                self.assertEqual((answer.status, answer.body), (200, expected), damage.__name__)
                self.assertEqual(path.read_bytes(), expected, damage.__name__)
        self.assertEqual(len(self.damages()), 2 * len(DAMAGES))

    async def test_records(self) -> None:
        """Damaged tags and memberships are found out anew, and written anew."""
        await self.cached()
        self.origin.add_image(REPO, "1.0")
        expected = (await self.ask(manifest_path("1.0"))).body
        registries = self.cache.config.cache_directory / "registries"
        records = [path for path in registries.rglob("*") if path.is_file()]
        self.assertGreater(len(records), 3)
        for damage in DAMAGES:
            for path in records:
                damage(path)
            for target, body in ((manifest_path("1.0"), expected), (self.target, DATA)):
                answer = await self.ask(target)
                self.assertEqual((answer.status, answer.body), (200, body), damage.__name__)
            await self.settled()
            for target in (manifest_path("1.0"), self.target):
                self.assertHit(await self.ask(target))
            # Those of the image's own blobs, which nobody has asked for, come with its manifest.
            self.assertEqual([path for path in records if not path.is_file()], [], damage.__name__)

    async def test_while_sent(self) -> None:
        """A blob that is overwritten while a client is being sent it never gets there whole and wrong."""
        path = await self.cached(noise(24 * MIB))
        path.chmod(0o600)
        slow = await self.begin(self.target)
        await slow.until(1)
        slow.pause()
        zero(path)
        slow.resume()
        await slow.end()
        self.assertFalse(slow.complete)
        self.assertLess(len(slow.raw), len(self.data))
        self.assertEqual((await self.ask(self.target)).body, self.data)

    async def test_touched_while_sent(self) -> None:
        """A blob that somebody touches, or writes the same to, while a client is being sent it arrives whole, be it
        all of it or what an open-ended range asks for; the origin is asked for no more than is missing."""
        path = await self.cached(noise(24 * MIB))
        path.chmod(0o600)
        for start, touch in ((0, os.utime), (5, same)):
            slow = await self.begin(self.target, *([("Range", f"bytes={start}-")] if start else []))
            await slow.until(1)
            slow.pause()
            touch(path)
            self.origin.requests.clear()
            slow.resume()
            await slow.end()
            self.assertTrue(slow.complete)
            self.assertEqual(slow.body, self.data[start:])
            (asked,) = self.origin.asked("blob")
            self.assertEqual(asked.header("Range"), f"bytes={len(self.data) - HELD}-")
            self.assertHit(await self.ask(self.target))

    async def test_touched_before(self) -> None:
        """One that is touched when it has been found, before the first byte is sent, is had from the origin."""
        path = await self.cached()
        find = Contents.find

        def found(store: Contents, digest: Digest) -> Content | None:
            body = find(store, digest)
            os.utime(path)
            return body

        self.patch(Contents, "find", found)
        answer = await self.ask(self.target)
        self.assertEqual((answer.status, answer.body == DATA, answer.complete), (200, True, True))

    async def test_cut_under_two(self) -> None:
        """A blob that is cut under two clients is fetched anew once: the second does not drop the new one."""
        path = await self.cached(noise(24 * MIB))
        path.chmod(0o600)
        slow = [await self.begin(self.target) for _ in range(2)]
        for each in slow:
            await each.until(1)
            each.pause()
        os.truncate(path, 20 * MIB)
        slow[0].resume()
        await slow[0].end()
        await eventually(lambda: not path.exists())
        self.assertEqual((await self.ask(self.target)).body, self.data)
        await self.settled()
        fresh = path.stat().st_ino
        slow[1].resume()
        await slow[1].end()
        self.assertEqual([each.complete and each.body == self.data for each in slow], [True, True])
        self.assertHit(await self.ask(self.target))
        self.assertEqual(path.stat().st_ino, fresh)

    async def test_replaced_while_sent(self) -> None:
        """Whoever is being sent a file whose name is another's by now, or nobody's, is not disturbed."""
        path = await self.cached(noise(24 * MIB))
        slow = await self.begin(self.target)
        await slow.until(1)
        slow.pause()
        full_directory(path)
        self.assertEqual((await self.ask(self.target)).body, self.data)
        slow.resume()
        await slow.end()
        self.assertTrue(slow.complete)
        self.assertEqual(slow.body, self.data)

    async def test_copied(self) -> None:
        """A copy of a cache is a cache: nothing is fetched, and what was damaged on the way is noticed."""
        path = await self.cached()
        copy = self.directory() / "copy"
        shutil.copytree(self.cache.config.cache_directory, copy)
        other = self.instance(copy)
        before = len(self.origin.requests)
        for _ in range(2):
            answer = await self.ask(self.target, to=other)
            self.assertHit(answer)
            self.assertEqual(answer.body, DATA)
        self.assertEqual(len(self.origin.requests), before)
        copied = copy / path.relative_to(self.cache.config.cache_directory)
        copied.chmod(0o600)
        overwrite(copied)
        shutil.copystat(path, copied)
        self.assertEqual((await self.ask(self.target, to=other)).body, DATA)
        self.assertEqual(len(self.origin.requests), before + 1)

    async def test_checked_in_the_background(self) -> None:
        """What nobody asks for is checked all the same: damage is dropped, and the log tells how much was checked."""
        self.patch(scrub, "FIRST", 0.01)
        path = await self.cached()
        await eventually(self.checked)
        await self.cache.stop()
        self.cache = self.instance(self.cache.config.cache_directory)
        (path.parents[2] / "scrub.json").unlink()
        path.chmod(0o600)
        before = path.stat()
        overwrite(path)
        # As a disk does it: nothing but the bytes tells.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.events.clear()
        await eventually(self.checked)
        self.assertEqual(self.checked(), f"all content has been checked: 1 files, {len(DATA)} bytes, 1 damaged")
        self.assertEqual(len(self.damages()), 1)
        self.assertFalse(path.exists())

    def checked(self) -> str:
        """The summary of a round."""
        found = [formatEvent(event) for event in self.events if event.get("event") is events.CONTENT_CHECKED]
        return found[0] if found else ""


class FillTests(DamageCase):
    """Fills, while they go on."""

    async def test_damaged(self) -> None:
        """However data or marks are damaged in mid-fill: nobody gets a wrong body whole, and the next gets the right
        one and has it kept."""
        self.cache = self.instance(upstream=IMPATIENT)
        for suffix in ("", ".marks"):
            for number, damage in enumerate((*DAMAGES, Path.unlink)):
                if damage in (zero, overwrite) and not suffix:
                    # The bytes are right until somebody reads them back: only the background check does.
                    continue
                await self._damaged(damage, suffix, noise(3 * MIB + 77, number + len(suffix) * 100))

    async def _damaged(self, damage: Callable[[Path], None], suffix: str, data: bytes) -> None:
        digest = self.origin.content.add_blob(REPO, data)
        target = blob_path(digest)
        rule = self.origin.fault(Fault(stall=2 * MIB), "blob")
        root = self.cache.config.cache_directory
        first = await self.begin(target)
        await first.until(2 * MIB)
        (path,) = [path for path in root.glob("ingest/*" + suffix) if path.suffix == suffix]
        damage(path)
        second = await self.begin(target)
        rule.release()
        for answer in (first, second):
            await answer.end()
            self.assertFalse(answer.complete and answer.body != data, (damage.__name__, suffix))
        kept = root / "blobs" / "sha256" / digest[7:]
        for _ in range(100):
            # The first may be served by the very fill whose files have gone, which is not kept.
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.body == data, answer.complete), (200, True, True), damage.__name__)
            if answer.one("Cache-Status") == "crcache; hit":
                break
            await pause(0.02)
        self.assertEqual(kept.read_bytes(), data)
        for left in root.glob("ingest/*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


class PowerCutTests(ClientCase):
    """What a fill leaves when the power goes: marks that are ahead of what reached the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)
        self.root = self.directory()

    def begun(self) -> Instance:
        """A daemon on the directory."""
        return self.instance(self.root, upstream=IMPATIENT)

    async def left(self, front: int) -> tuple[Path, Path]:
        """Data and marks of a fill that came to 2.5 MiB, of which so much was synced, before the machine went down."""
        self.origin.fault(Fault(cut=2 * MIB + MIB // 2), "blob")
        self.origin.fault(Fault(hang_up=True), "blob", times=None)
        daemon = self.begun()
        answer = await self.ask(self.target, to=daemon)
        self.assertFalse(answer.complete)
        await daemon.stop()
        self.origin.script.clear()
        self.origin.requests.clear()
        (marks,) = self.root.glob("ingest/*.marks")
        data = marks.with_suffix("")
        self.assertGreaterEqual(data.stat().st_size, 2 * MIB)
        with marks.open("r+b") as file:
            Marks(file.fileno(), b"").front = front
            os.pwrite(file.fileno(), bytes(range(16)), 8)
        return data, marks

    async def right(self, *spans: str | None) -> None:
        """Ask again; the bytes are right and kept, and the origin was asked for these ranges."""
        daemon = self.begun()
        answer = await self.ask(self.target, to=daemon)
        self.assertEqual((answer.status, answer.body == DATA, answer.complete), (200, True, True))
        self.assertEqual([record.header("Range") for record in self.origin.asked("blob")], list(spans))
        await self.settled(daemon)
        self.assertHit(await self.ask(self.target, to=daemon))
        await daemon.stop()
        remove(self.root)
        self.root.mkdir()

    async def test_zeros(self) -> None:
        """What the marks claim beyond the synced front is zeros: that is fetched again, and nothing before it."""
        for front, span in ((0, None), (MIB, f"bytes={MIB}-"), (2 * MIB, f"bytes={2 * MIB}-"), (MIB + 77, None)):
            data, _ = await self.left(front)
            size = data.stat().st_size
            os.truncate(data, front)
            os.truncate(data, size)
            await self.right(span or (f"bytes={front}-" if front else None))

    async def test_shorter(self) -> None:
        """The data ends at the synced front, or a bit behind it."""
        for front, kept in ((0, 0), (0, 5), (MIB, MIB), (MIB, MIB + 4096)):
            data, _ = await self.left(front)
            os.truncate(data, kept)
            await self.right(f"bytes={front}-" if front else None)

    async def test_shorter_than_promised(self) -> None:
        """The data ends before the synced front, which a disk should not do: all of it is fetched again."""
        data, _ = await self.left(2 * MIB)
        os.truncate(data, MIB)
        await self.right(None)

    async def test_other_bytes(self) -> None:
        """Before the front are other bytes, which a disk should not do: nobody gets them whole, and the next gets
        the right ones."""
        data, _ = await self.left(2 * MIB)
        overwrite(data)
        os.truncate(data, MIB // 2)
        os.truncate(data, 2 * MIB + MIB // 2)
        daemon = self.begun()
        answer = await self.ask(self.target, to=daemon)
        self.assertFalse(answer.complete and answer.body != DATA)
        await daemon.stop()
        self.origin.requests.clear()
        await self.right(None)

    async def test_more_marks(self) -> None:
        """The marks claim all of it, and that it is verified, and the data has nothing of that."""
        data, marks = await self.left(MIB)
        with marks.open("r+b") as file:
            written = Marks(file.fileno(), b"")
            written.add(MIB, len(DATA) - MIB)
            written.state = State.VERIFIED
        os.truncate(data, MIB)
        os.truncate(data, len(DATA))
        await self.right(f"bytes={MIB}-")

    async def test_marks_lost(self) -> None:
        """Marks of which only a part reached the disk, or nothing but zeros: the header alone says enough."""
        for kept, zeros in ((0, 0), (HEADER // 2, 0), (0, HEADER + 24), (HEADER, 0), (HEADER, HEADER + 8 * 4)):
            _, marks = await self.left(MIB)
            whole = marks.read_bytes()
            with marks.open("r+b") as file:
                file.truncate(kept)
                file.truncate(max(zeros, kept))
            self.assertNotEqual(marks.read_bytes(), whole)
            await self.right(f"bytes={MIB}-" if kept == HEADER else None)

    async def test_segment(self) -> None:
        """These tests mean whole segments where they say so."""
        self.assertEqual(SEGMENT, MIB)
