"""L{crcache.store.fileingest}: what another process sees between two steps of the owner's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crcache.errors import StoreError
from crcache.facts import Verdict
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IIngest
from crcache.store import fileingest, files, marks
from tests.store.case import ProcessCase
from tests.store.other import now
from tests.store.stores import DATA, DIGEST, SEGMENT, content_of

CHANGES = ("pwrite", "ftruncate", "rename", "link", "unlink")


class Watched:
    """The C{os} module, where something happens before each change."""

    def __init__(self, before: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._before = before

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in CHANGES:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name, args)
            return function(*args, **kwargs)

        return call


class BetweenTests(ProcessCase):
    """Another process asks in between."""

    def setUp(self) -> None:
        """Do not look again for long."""
        super().setUp()
        self.patch(fileingest, "_ATTEMPTS", 2)
        self.asked = 0

    def ask(self) -> None:
        """What another process gets is never bytes that claim to be all and right, and are not."""
        self.asked += 1
        other = self.another()
        other.start()
        try:
            found: Any = now(other.ingest(DOCKER_IO, DIGEST))
        except StoreError:
            return
        if found.state is Verdict.VERIFIED:
            self.assertTrue(content_of(found) == DATA)

    async def test_other_boot(self) -> None:
        """While a verified fill of another boot is taken over, its old verdict is not believed at any moment."""
        fill = await self.filled()
        await fill.synced(SEGMENT)
        fill.close()
        data, marked = self.paths()
        with open(marked, "r+b") as file:
            file.seek(56)
            file.write((2).to_bytes(4, "little") + (2 ^ 0xFFFFFFFF).to_bytes(4, "little"))
            file.seek(8)
            file.write(bytes(16))
        # What a power cut may leave of it: the size, but not the bytes.
        with open(data, "r+b") as file:
            file.truncate(SEGMENT)
            file.truncate(len(DATA))
        with self.watched(lambda name, args: self.ask()):
            again = await self.ingest()
            self.ask()
        self.assertGreater(self.asked, 2)
        self.assertEqual((again.owner, again.state), (True, Verdict.FILLING))
        self.assertEqual(again.hole(0), (SEGMENT, len(DATA)))

    async def test_order(self) -> None:
        """The boot id is the last thing that taking over writes."""
        fill = await self.filled()
        fill.close()
        with open(self.paths()[1], "r+b") as file:
            file.seek(56)
            file.write((2).to_bytes(4, "little") + (2 ^ 0xFFFFFFFF).to_bytes(4, "little"))
            file.seek(8)
            file.write(bytes(16))
        written: list[int] = []
        with self.watched(lambda name, args: written.append(args[2] if name == "pwrite" else -1)):
            await self.ingest()
        self.assertEqual((written[0], written[-1]), (56, 8), written)

    async def test_verdict_with_a_hole(self) -> None:
        """A verdict over a body of which something is missing is not followed."""
        fill = await self.ingest()
        fill.settle(len(DATA))
        await fill.write(0, [DATA[:SEGMENT]])
        with open(self.paths()[1], "r+b") as file:
            file.seek(56)
            file.write((2).to_bytes(4, "little") + (2 ^ 0xFFFFFFFF).to_bytes(4, "little"))
        self.assertIs(fill.state, Verdict.VERIFIED)
        await self.fails(self.another_started().ingest(DOCKER_IO, DIGEST), StoreError)
        await fill.write(SEGMENT, [DATA[SEGMENT:]])
        found: Any = await self.another_started().ingest(DOCKER_IO, DIGEST)
        self.assertEqual(content_of(found), DATA)

    async def test_content_is_there(self) -> None:
        """Between putting the content in its place and removing the marks, others get the content, and at once: as the
        fill that brings it, verified, until it is noted whose it is; then as what it is."""
        fill = await self.filled()
        found: list[Any] = []

        def look(directory: Path) -> None:
            found.append(now(self.another_started().ingest(DOCKER_IO, DIGEST)))

        self.patch(fileingest, "sync_directory", look)
        self.patch(fileingest, "_ATTEMPTS", 1)
        await fill.commit(len(DATA), [])
        self.assertEqual(len(found), 2)
        self.assertEqual([IIngest.providedBy(each) for each in found], [True, False])
        self.assertEqual((found[0].owner, found[0].state), (False, Verdict.VERIFIED))
        for each in found:
            self.assertEqual(content_of(each), DATA)

    async def test_another_begins(self) -> None:
        """What is committed is the owner's own file, even if its path is someone else's growing data by then."""
        fill = await self.filled()
        data, _ = self.paths()

        def replace(name: str, args: tuple[Any, ...]) -> None:
            if name == "rename" and data.exists() and data.stat().st_size:
                data.unlink()
                data.write_bytes(b"")

        with self.watched(replace):
            await fill.commit(len(DATA), [])
        self.assertEqual(content_of(await self.body()), DATA)
        self.assertEqual(data.read_bytes(), b"")
        data.unlink()
        self.assertEqual({name for name in self.files() if "/" in name}, {f"blobs/sha256/{DIGEST.hex}"})

    async def test_no_links(self) -> None:
        """On a file system without hard links content is committed all the same; what is somebody else's is not."""

        def refuse(name: str, args: tuple[Any, ...]) -> None:
            if name == "link":
                raise OSError(errno.EPERM, "Operation not permitted")

        fill = await self.filled()
        with self.watched(refuse):
            await fill.commit(len(DATA), [])
        self.assertEqual(content_of(await self.body()), DATA)
        self.assertEqual([name for name in self.files() if name.startswith(("ingest/", "blobs/sha256/."))], [])
        await self.store.drop(DIGEST)

        def replace(name: str, args: tuple[Any, ...]) -> None:
            refuse(name, args)
            if name == "rename":
                Path(args[0]).unlink()
                Path(args[0]).write_bytes(b"growing")

        fill = await self.filled()
        with self.watched(replace):
            await self.fails(fill.commit(len(DATA), []), StoreError)
        self.assertIsNone(await self.store.find(DIGEST))

    def another_started(self) -> Any:
        """Another store, as good as another process."""
        other = self.another()
        other.start()
        return other

    def watched(self, before: Callable[[str, tuple[Any, ...]], None]) -> Watching:
        """While this lasts, have that happen before each change."""
        return Watching(before)


class Watching:
    """Puts L{Watched} in place, and takes it away. Nothing is watched from within what happens."""

    def __init__(self, before: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._before = before
        self._within = False

    def __enter__(self) -> None:
        for module in (fileingest, files, marks):
            vars(module)["os"] = Watched(self._happen)

    def __exit__(self, *error: object) -> None:
        for module in (fileingest, files, marks):
            vars(module)["os"] = os

    def _happen(self, name: str, args: tuple[Any, ...]) -> None:
        if self._within:
            return
        self._within = True
        try:
            self._before(name, args)
        finally:
            self._within = False
