"""L{crcache.store.fileingest}: files that are removed or damaged under those who use them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Any

from twisted.logger import formatEvent

from crcache.errors import StoreError
from crcache.facts import Verdict
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IBody, IIngest
from crcache.store import fileingest
from tests.store.case import ProcessCase, logged_by
from tests.store.stores import DATA, DIGEST, SEGMENT, content_of


def sum_of(stop: int) -> str:
    """The checksum of the data's beginning."""
    return hashlib.sha256(DATA[:stop]).hexdigest()


class RemovedTests(ProcessCase):
    """Files that somebody removes under those who use them."""

    async def test_begun_anew(self) -> None:
        """Of the old owner and the new one neither spoils the other's data, whichever of the two files went."""
        other = self.other()
        for gone in ("both", "marks", "data"):
            old = await self.ingest()
            old.settle(len(DATA))
            await old.write(0, [b"\0" * 5000])
            data, marks = self.paths()
            if gone != "marks":
                data.unlink()
            if gone != "data":
                marks.unlink()
            if gone == "data":
                # Its owner is alive, so nobody can begin; but nobody waits for it either.
                self.assertIn("StoreError", other.do("ingest"))
                await old.discard()
            self.assertEqual(other.do("ingest"), "owner")
            other.do("write", 0, SEGMENT)
            if gone != "data":
                await old.write(5000, [b"\0" * SEGMENT])
                await old.commit(len(DATA), [])
                self.assertIsNone(await self.store.find(DIGEST), gone)
            self.assertEqual(other.do("look")["checksum"], sum_of(SEGMENT))
            other.do("write", SEGMENT, len(DATA))
            other.do("commit")
            self.assertEqual(content_of(await self.body()), DATA)
            await self.store.drop(DIGEST)
            self.assertEqual(list(self.root.glob("ingest/*")), [], gone)

    async def test_replaced_data(self) -> None:
        """Data whose path is another file by now is not committed, nor is the other file; the log says which it was."""
        fill = await self.filled()
        data, _ = self.paths()
        data.unlink()
        data.write_bytes(b"something else")
        logged = logged_by(self)
        await fill.commit(len(DATA), [])
        self.assertIsNone(await self.store.find(DIGEST))
        (event,) = logged
        self.assertEqual((event["digest"], event["path"]), (str(DIGEST), str(data)))
        self.assertIn(str(DIGEST), formatEvent(event))
        self.assertIs(fill.state, Verdict.VERIFIED)
        self.assertEqual(data.read_bytes(), b"something else")
        self.assertEqual((await self.ingest()).readable(0), 0)

    async def test_marks_only(self) -> None:
        """Without its marks the data is its owner's still, and is committed."""
        fill = await self.filled()
        self.paths()[1].unlink()
        await fill.commit(len(DATA), [])
        self.assertEqual(content_of(await self.body()), DATA)

    async def test_orphans(self) -> None:
        """Data without marks, marks without data, and marks of other data are begun anew."""
        for gone in ("marks", "data", "swapped", "empty"):
            (await self.filled()).close()
            data, marks = self.paths()
            if gone == "marks":
                marks.unlink()
            elif gone == "data":
                data.unlink()
            elif gone == "swapped":
                data.rename(data.with_name("kept"))
                data.write_bytes(b"\0" * len(DATA))
                data.with_name("kept").unlink()
            else:
                os.truncate(marks, 0)
            fill = await self.filled()
            self.assertTrue(fill.owner, gone)
            self.assertEqual(content_of(fill), DATA)
            await fill.discard()

    async def test_damaged_marks(self) -> None:
        """Marks that were damaged while nobody looked are begun anew; cut ones claim only what is left of them."""
        size = self._marks_size()
        for at in (0, 24, 40, 56, 64):
            (await self.filled()).close()
            with open(self.paths()[1], "r+b") as file:
                file.seek(at)
                file.write(b"\xaa" * 16)
            fill = await self.ingest()
            self.assertEqual((fill.owner, fill.size, fill.readable(0)), (True, None, 0), at)
            await fill.discard()
        (await self.filled()).close()
        os.truncate(self.paths()[1], size - 8)
        fill = await self.ingest()
        self.assertEqual(fill.hole(0), (3 * SEGMENT, len(DATA)))

    async def test_cut_while_nobody_looked(self) -> None:
        """Data that is shorter than its marks say is begun anew; if only what they do not claim is missing, resumed."""
        for kept, resumed in ((2 * SEGMENT + 5, True), (2 * SEGMENT + 4, False), (0, False)):
            fill = await self.ingest()
            fill.settle(len(DATA))
            await fill.write(0, [DATA[:5]])
            await fill.write(2 * SEGMENT, [DATA[2 * SEGMENT : 2 * SEGMENT + 5]])
            fill.close()
            os.truncate(self.paths()[0], kept)
            fill = await self.ingest()
            self.assertEqual((fill.owner, fill.readable(0)), (True, 5 if resumed else 0), kept)
            await fill.discard()

    async def test_cut_between_writes(self) -> None:
        """Data that is cut in the middle of a fill is not filled further: it would be, with zeros in it."""
        for kept in (0, SEGMENT, 2 * SEGMENT - 1):
            fill = await self.ingest()
            fill.settle(len(DATA))
            await fill.write(SEGMENT, [DATA[SEGMENT : 2 * SEGMENT]])
            await fill.write(0, [DATA[:SEGMENT]])
            os.truncate(self.paths()[0], kept)
            error = await self.fails(fill.write(2 * SEGMENT, [DATA[2 * SEGMENT :]]), StoreError)
            self.assertIn("was cut", str(error))
            await fill.discard()

    async def test_another_stream(self) -> None:
        """What another stream writes at the same moment, further on, is no sign of a cut."""
        fill: Any = await self.ingest()
        fill.settle(len(DATA))
        await fill.write(0, [DATA[:SEGMENT]])
        lseek = os.lseek

        def interrupted(fd: int, position: int, whence: int) -> int:
            found = lseek(fd, position, whence)
            fill._written_to = 2 * SEGMENT
            return found

        self.patch(os, "lseek", interrupted)
        await fill.write(SEGMENT, [DATA[SEGMENT : SEGMENT + 5]])
        self.assertEqual(fill.readable(0), SEGMENT + 5)

    async def test_cut_under_owner(self) -> None:
        """Data that was cut is not committed."""
        fill = await self.filled()
        os.truncate(self.paths()[0], len(DATA) - 1)
        error = await self.fails(fill.commit(len(DATA), []), StoreError)
        self.assertIn("was cut", str(error))
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertEqual(list(self.root.glob("ingest/*")), [])

    def _marks_size(self) -> int:
        return 128 + 8 * -(-len(DATA) // SEGMENT)

    async def test_damaged_under_owner(self) -> None:
        """Marks that are cut or zeroed under their owner fail the fill in the cache's own words, and claim nothing."""
        for damage in (0, 60, 128):
            fill = await self.ingest()
            await fill.write(0, [DATA[: 2 * SEGMENT + 5]])
            marks = self.paths()[1]
            os.truncate(marks, damage)
            self.assertEqual(fill.readable(0), 0)
            await self.fails(fill.write(2 * SEGMENT + 5, [b"x"]), StoreError)
            if damage < 128:
                self.assertIs(fill.state, Verdict.FAILED)
                self.assertEqual((fill.size, fill.answered, fill.hole(0)), (None, False, (0, None)))
                self.assertRaises(StoreError, fill.settle, 5)
            if damage == 0:
                await self.fails(fill.commit(len(DATA), []), StoreError)
            await fill.discard()
            self.assertIsNone(await self.store.find(DIGEST))
            self.assertEqual(list(self.root.glob("ingest/*")), [])

    async def test_refused_claim_frees(self) -> None:
        """A claim that fails leaves the lock free for those who can use it."""
        fill = await self.ingest()
        follower = await self.ingest()
        self.paths()[0].unlink()
        fill.close()
        await self.fails(follower.claim(), StoreError)
        with open(self.paths()[1]) as marks:
            fcntl.flock(marks, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async def test_failed_begin_frees(self) -> None:
        """A fill that could not begin keeps no lock, however long its error is kept."""
        (await self.filled()).close()
        marks = self.paths()[1]
        os.truncate(marks, 0)

        def full(path: Path, mode: int) -> int:
            raise OSError(28, "No space left on device", str(path))

        self.patch(fileingest, "open_new", full)
        kept = await self.fails(self.store.ingest(DOCKER_IO, DIGEST), StoreError)
        self.assertTrue(marks.exists(), kept)
        with open(marks) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async def test_committed_elsewhere(self) -> None:
        """What a dead process left of content that is there by now is cleared away."""
        (await self.filled()).close()
        await self.store.put(DIGEST, DATA)
        found = await self.store.ingest(DOCKER_IO, DIGEST)
        self.assertTrue(IBody.providedBy(found) and not IIngest.providedBy(found))
        self.assertEqual(list(self.root.glob("ingest/*")), [])
