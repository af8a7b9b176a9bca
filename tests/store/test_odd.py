"""L{crcache.store.filesystem}: things in files' places."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from twisted.logger import formatEvent

from crcache import events
from crcache.errors import StoreError
from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IBody, IIngest
from tests.store.case import DirectoryCase, logged_by
from tests.store.stores import ALPINE, DATA, DIGEST, LATEST, content_of

CONTENT = f"blobs/sha256/{DIGEST.hex}"
MEMBER = f"registries/docker.io/library/alpine/_digests/sha256-{DIGEST.hex}"
TAG = "registries/docker.io/library/alpine/_tags/latest"
FILL = f"ingest/{hashlib.sha256(b'docker.io').hexdigest()[:16]}-sha256-{DIGEST.hex}"


DIRECTORIES = ("directory", "full")
LINKS = ("symlink", "dangling", "loop")
ODD = (*DIRECTORIES, *LINKS, "fifo")


class OddTests(DirectoryCase):
    """Whatever is in a file's place, nothing waits for it, nothing crashes on it, and nothing of it is served."""

    def _odd(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _put(self, kind: str, name: str) -> None:
        """Put something odd there, instead of what may be there."""
        self._take_away(name)
        path = self._odd(name)
        (self.root / "secret").write_bytes(DATA)
        if kind in DIRECTORIES:
            path.mkdir()
        if kind == "full":
            (path / "file").touch()
        if kind == "fifo":
            os.mkfifo(path)
        if kind in LINKS:
            os.symlink({"symlink": self.root / "secret", "dangling": self.root / "nowhere", "loop": path}[kind], path)

    def _take_away(self, name: str) -> None:
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            for each in path.iterdir():
                each.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    async def test_content(self) -> None:
        """In content's place: a miss; it is taken away, and the log says so. What a directory holds is kept beside."""
        for kind in ODD:
            for find in (lambda: self.store.find(DIGEST), lambda: self.store.read(DIGEST, 1 << 30)):
                self._put(kind, CONTENT)
                logged = logged_by(self)
                self.assertIsNone(await find(), kind)
                self.assertFalse(os.path.lexists(self.root / CONTENT), kind)
                (line,) = [formatEvent(event) for event in logged if event["event"] is events.CONTENT_DAMAGED]
                self.assertIn(str(self.root / CONTENT), line)
                kept = list((self.root / "blobs").glob("sha256/.*/file"))
                self.assertEqual(len(kept), kind == "full")
                for each in kept:
                    self.assertIn(str(each.parent), line)
                    shutil.rmtree(each.parent)
        self.assertEqual((self.root / "secret").read_bytes(), DATA)

    async def test_records(self) -> None:
        """In a membership's or tag's place: a miss, and replaced."""
        for name in (MEMBER, TAG):
            for kind in ODD:
                self._put(kind, name)
                self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST), kind)
                self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST), kind)
                if name == MEMBER:
                    await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
                    self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST), kind)
                else:
                    await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
                    self.assertIsNotNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST), kind)
                self._take_away(name)
        self.assertFalse((self.root / "nowhere").exists())

    async def test_behind_symlinks(self) -> None:
        """What a link leads to is neither served nor written."""
        self._put("symlink", MEMBER)
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        self.assertEqual((self.root / "secret").read_bytes(), DATA)
        self.assertFalse((self.root / MEMBER).is_symlink())

    async def test_fill_data(self) -> None:
        """In a fill's data's place, with its marks or without: begun anew; never waited for."""
        for kind in ODD:
            for marked in (False, True):
                if marked:
                    (await self.filled()).close()
                self._put(kind, FILL)
                fill = await self.filled()
                self.assertTrue(fill.owner)
                self.assertEqual(content_of(fill), DATA)
                fill.close()
                self._take_away(FILL)
                self._take_away(FILL + ".marks")
        self.assertEqual((self.root / "secret").read_bytes(), DATA)

    async def test_fill_marks(self) -> None:
        """In the marks' place: begun anew."""
        for kind in ODD:
            self._put(kind, FILL + ".marks")
            fill = await self.filled()
            self.assertTrue(fill.owner)
            self.assertEqual(content_of(fill), DATA)
            fill.close()
            self._take_away(FILL + ".marks")
        self.assertFalse((self.root / "nowhere").exists())
        self.assertEqual((self.root / "secret").read_bytes(), DATA)

    async def test_target(self) -> None:
        """In the content's place when a fill is committed: replaced."""
        for kind in ODD:
            fill = await self.filled()
            self._put(kind, CONTENT)
            again = await self.store.ingest(DOCKER_IO, DIGEST)
            self.assertTrue(IIngest.providedBy(again), kind)
            await fill.commit(len(DATA), [])
            self.assertEqual(content_of(await self.body()), DATA, kind)
            del again
            self._take_away(CONTENT)
            self.assertEqual([name for name in self.files() if name.startswith("ingest/")], [], kind)

    async def test_file_for_directory(self) -> None:
        """A file in a directory's place makes misses and errors, not crashes."""
        for name in ("blobs", "ingest", "registries"):
            path = self.root / name
            self.vanish("content", "fills")
            if path.is_dir():
                path.rmdir()
            path.touch()
            self.assertIsNone(await self.store.find(DIGEST))
            self.assertIsNone(await self.store.read(DIGEST, 10))
            self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
            self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
            await self.store.drop(DIGEST)
            await self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)
        await self.fails(self.store.put(DIGEST, DATA), StoreError)
        await self.fails(self.store.ingest(DOCKER_IO, DIGEST), StoreError)
        await self.fails(self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)]), StoreError)
        await self.fails(self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a", 5, 7.5)), StoreError)

    async def test_garbage_json(self) -> None:
        """Records that are no records, or of something else, are misses."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, "a/b", 5)])
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        good = (self.root / TAG).read_bytes()
        garbage = [
            b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}", b"\x00" * 500, b"[" * 50_000,
            b'{"a":' * 10_000, good[:-1], good + b"x", b'{"digest": "md5:00"}', good.replace(b"sha256:", b"sha256:/"),
            good.replace(b"5", b'"5"', 1) if b": 5," not in good else good.replace(b": 5,", b': "5",'),
            good.replace(b": 5,", b": -5,"), good.replace(b": 5,", b": true,"), good.replace(b": 5,", b": 1e3,"),
            good.replace(b": 5,", b": %d," % (1 << 63)), good.replace(b": 5,", b": " + b"9" * 5000 + b","),
            good.replace(b"7.5", b"NaN"), good.replace(b"7.5", b"Infinity"), good.replace(b"7.5", b"-1"),
            good.replace(b'"a/b"', b"7"), b" " * 100_000 + good, good[:-1] + b', "x": "' + b"y" * (1 << 20) + b'"}',
        ]  # fmt: skip
        for data in garbage:
            (self.root / TAG).write_bytes(data)
            self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST), data[:80])
        for data in garbage[:13]:
            (self.root / MEMBER).write_bytes(data)
            self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST), data[:80])
        (self.root / MEMBER).write_text(json.dumps({"digest": str(Digest.of(b"")), "obtained": "open"}))
        self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))

    async def test_careless_member(self) -> None:
        """A membership's fields that make no sense are unknown; what does not say open is not."""
        said = {"digest": str(DIGEST), "mediaType": 7, "size": -1, "obtained": True, "since": "x"}
        self._odd(MEMBER).write_text(json.dumps(said))
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, None, None, False, None))

    async def test_truncated_content(self) -> None:
        """Content cut short is not read whole, but forgotten."""
        await self.store.put(DIGEST, DATA)
        os.chmod(self.root / CONTENT, 0o640)
        os.truncate(self.root / CONTENT, 100)
        self.assertIsNone(await self.store.read(DIGEST, len(DATA)))
        self.assertEqual(self.files(), {"VERSION"})

    async def test_drafts(self) -> None:
        """A draft that a dead process left is in nobody's way."""
        for name in (CONTENT, MEMBER, TAG, FILL):
            (self._odd(name).parent / ".0123456789abcdef").write_text("half")
        fill = await self.filled()
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST))])
        found = await self.store.ingest(DOCKER_IO, DIGEST)
        self.assertTrue(IBody.providedBy(found))
