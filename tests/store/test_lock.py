"""Who owns a fill, among real processes: the lock protocol of L{crcache.store.fileingest}."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from crcache.facts import Verdict
from tests.store.case import ProcessCase
from tests.store.stores import ALPINE, DATA, DIGEST, SEGMENT, content_of

SUM = hashlib.sha256(DATA).hexdigest()


def sum_of(stop: int) -> str:
    """The checksum of the data's beginning."""
    return hashlib.sha256(DATA[:stop]).hexdigest()


class LockTests(ProcessCase):
    """One process fetches, the others follow."""

    async def test_follow(self) -> None:
        """The second process is refused the lock, and reads the same data while the first writes it."""
        other = self.other()
        self.assertEqual(other.do("ingest"), "owner")
        fill = await self.ingest()
        self.assertFalse(fill.owner)
        fd = fill.open()
        self.addCleanup(os.close, fd)
        other.do("settle", len(DATA))
        self.assertEqual((fill.size, fill.answered), (len(DATA), True))
        for start in range(0, len(DATA), 700_000):
            stop = min(start + 700_000, len(DATA))
            other.do("write", start, stop)
            self.assertEqual(fill.readable(start), stop)
            self.assertEqual(os.pread(fd, stop - start, start), DATA[start:stop])
        self.assertFalse(await fill.claim())
        other.do("commit")
        self.assertIs(fill.state, Verdict.VERIFIED)
        self.assertEqual(content_of(fill), DATA)
        self.assertEqual(content_of(await self.body()), DATA)
        self.assertFalse(await fill.claim())

    async def test_discarded(self) -> None:
        """What the owner finds to be wrong has failed for the others, who own nothing by asking, and may begin anew."""
        other = self.other()
        other.do("ingest")
        other.do("write", 0, 1000)
        fill = await self.ingest()
        other.do("discard")
        self.assertIs(fill.state, Verdict.FAILED)
        self.assertFalse(await fill.claim())
        again = await self.ingest()
        self.assertEqual((again.owner, again.readable(0)), (True, 0))
        self.assertEqual(other.do("ingest"), "follower")

    async def test_killed(self) -> None:
        """When the owner is killed a follower takes over, and goes on from what was marked."""
        first, second = self.other(), self.other()
        first.do("ingest")
        first.do("settle", len(DATA))
        first.do("write", 0, SEGMENT + 5)
        fill = await self.ingest()
        second.do("ingest")
        self.assertFalse(await fill.claim())
        first.kill()
        self.assertTrue(await fill.claim())
        self.assertFalse(second.do("claim"))
        self.assertEqual(fill.hole(0), (SEGMENT + 5, len(DATA)))
        await fill.write(SEGMENT + 5, [DATA[SEGMENT + 5 :]])
        self.assertEqual(second.do("look")["checksum"], SUM)
        await fill.commit(len(DATA), [])
        self.assertEqual(second.do("look")["state"], "verified")
        self.assertEqual(second.do("find"), SUM)

    async def test_resumed(self) -> None:
        """A new process resumes what a killed one left."""
        first = self.other()
        first.do("ingest")
        first.do("write", 0, 2 * SEGMENT)
        first.kill()
        fill = await self.ingest()
        self.assertEqual((fill.owner, fill.hole(0)), (True, (2 * SEGMENT, None)))
        self.assertEqual(content_of(fill), DATA[: 2 * SEGMENT])

    async def test_other_boot(self) -> None:
        """After a restart of the machine only what was synced counts."""
        fill = await self.ingest()
        fill.settle(len(DATA))
        await fill.write(0, [DATA])
        await fill.synced(SEGMENT + 9)
        fill.close()
        _, marks = self.paths()
        with open(marks, "r+b") as file:
            file.seek(8)
            file.write(bytes(16))
        other = self.other()
        self.assertEqual(other.do("ingest"), "owner")
        seen = other.do("look")
        self.assertEqual((seen["hole"], seen["checksum"]), ([SEGMENT + 9, len(DATA)], sum_of(SEGMENT + 9)))

    async def test_race(self) -> None:
        """Of processes that begin at the same moment exactly one owns the fill, each time, however the last ended."""
        others = [self.other(), self.other()]
        for turn in range(50):
            for other in others:
                other.tell("ingest")
            roles = {other.answer(): other for other in others}
            self.assertEqual(set(roles), {"follower", "owner"}, turn)
            # The next beginning races with the end of this.
            roles["owner"].tell("discard" if turn % 2 else "close")
            roles["follower"].do("close")
            roles["owner"].answer()

    async def test_race_with_commit(self) -> None:
        """Whoever begins while another commits follows the verified bytes, or gets the content; never anything else."""
        first, second = self.other(), self.other()
        seen = set()
        for _ in range(10):
            first.do("ingest")
            first.do("write", 0, len(DATA))
            first.tell("commit")
            second.tell("ingest")
            first.answer()
            found = second.answer()
            seen.add(found)
            self.assertIn(found, ("content", "follower"))
            if found == "follower":
                look = second.do("look")
                self.assertEqual((look["state"], look["checksum"]), ("verified", SUM))
            self.assertEqual(second.do("find"), SUM)
            await self.store.drop(DIGEST)
        self.assertEqual(list(self.root.glob("ingest/*")), [])

    async def test_inherited(self) -> None:
        """A program that is started meanwhile does not hold the lock, nor any of the store's files."""
        fill = await self.filled()
        fd = fill.open()
        self.addCleanup(os.close, fd)
        # Not in subprocess' own way, which closes everything.
        child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(b"begun\n")
            child.stdin.flush()
            child.stdout.readline()
            files = [os.readlink(path) for path in Path(f"/proc/{child.pid}/fd").iterdir()]
            self.assertEqual([path for path in files if path.startswith(str(self.root))], [])
            fill.close()
            self.assertEqual(self.other().do("ingest"), "owner")
        finally:
            child.stdin.close()
            child.stdout.close()
            child.wait()


class PrivateLockTests(LockTests):
    """The same among those who fetch for one repository's clients."""

    repository = ALPINE

    async def test_apart(self) -> None:
        """Whoever fetches for everyone, for another repository's clients or from another registry owns a fill of his
        own, and sees nothing of this."""
        first, second = self.other(), self.other()
        self.assertEqual(first.do("ingest"), "owner")
        first.do("write", 0, SEGMENT)
        for registry, repository in (("docker.io", ""), ("docker.io", "library/nginx"), ("ghcr.io", "library/alpine")):
            self.assertEqual(second.do("ingest", registry, repository), "owner")
            self.assertEqual(second.do("look")["checksum"], sum_of(0))
        self.assertEqual(second.do("ingest"), "follower")
        self.assertEqual(second.do("look")["checksum"], sum_of(SEGMENT))
