"""A fill's owner dies at any moment, and the next who asks gets the right bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from crcache.facts import Fetched, Membership, Privacy, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IIngest
from crcache.store import fileingest, files, givers, ingest, marks, seal
from tests.store.case import DirectoryCase
from tests.store.dying import Dying, lived
from tests.store.other import now
from tests.store.stores import ALPINE, DATA, DIGEST, LATEST, NGINX, SEGMENT, content_of


class CrashTests(DirectoryCase):
    """Killed before each of its changes in turn."""

    def _lived(self, work: Callable[[], object], changes: int) -> bool:
        """Whether a process lives through the work."""
        return lived(work, Dying(changes), (fileingest, files, givers, ingest, marks, seal))

    def _fill(self, end: str) -> None:
        fill = now(self.store.ingest(DOCKER_IO, DIGEST, self.repository))
        assert IIngest.providedBy(fill)
        fill.settle(len(DATA))
        for start in range(0, len(DATA), SEGMENT):
            now(fill.write(start, [DATA[start : start + SEGMENT]]))
        now(fill.synced(SEGMENT))
        if end == "commit":
            now(fill.commit(len(DATA), [(ALPINE, Membership(DIGEST, None, len(DATA)))]))
        else:
            now(fill.discard())

    async def _finished(self) -> None:
        """Ask again, as a client's next pull does: fetch what is missing, and check all of it."""
        found = await self.store.ingest(DOCKER_IO, DIGEST, self.repository)
        if IIngest.providedBy(found):
            self.assertTrue(found.owner)
            self.assertIs(found.state, Verdict.FILLING)
            found.settle(len(DATA))
            while (hole := found.hole(0)) is not None:
                start, stop = hole
                await found.write(start, [DATA[start:stop]])
            self.assertEqual(content_of(found), DATA)
            await found.commit(len(DATA), [(ALPINE, Membership(DIGEST))])
        self.assertEqual(content_of(await self.body()), DATA)
        left = [name for name in self.files() if name.startswith("ingest/")]
        self.assertEqual(left, [])

    async def _at_each(self, end: str) -> int:
        changes = 0
        while not self._lived(lambda: self._fill(end), changes):
            found = await self.store.find(DIGEST)
            if found is not None:
                self.assertEqual(content_of(found), DATA)
            await self._finished()
            await self.store.drop(DIGEST)
            changes += 1
        return changes

    async def test_commit(self) -> None:
        """Up to the commit's end: what is content is right, what is not is resumed, and nothing is left behind."""
        self.assertGreater(await self._at_each("commit"), 30)

    async def test_discard(self) -> None:
        """Up to the end of discarding: the next begins with nothing, or with what was marked."""
        self.assertGreater(await self._at_each("discard"), 20)

    async def test_put(self) -> None:
        """While small content is put: it is there whole, or not at all."""
        changes, found = 0, None
        while not self._lived(lambda: now(self.store.put(DIGEST, DATA)), changes):
            found = await self.store.read(DIGEST, len(DATA))
            self.assertIn(found, (None, DATA))
            await self.store.put(DIGEST, DATA)
            self.assertEqual(content_of(await self.body()), DATA)
            await self.store.drop(DIGEST)
            changes += 1
        self.assertGreater(changes, 5)

    async def test_tag(self) -> None:
        """While a tag moves: it means what it meant, or what it means now."""
        old, new = (TagEntry(DIGEST, "a/b", size, 1.5) for size in (1, 2))
        changes = 0
        while True:
            await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, old)
            lived = self._lived(lambda: now(self.store.set_tag(DOCKER_IO, ALPINE, LATEST, new)), changes)
            found = await self.store.tag(DOCKER_IO, ALPINE, LATEST)
            self.assertIn(found, (new,) if lived else (old, new))
            if lived:
                break
            changes += 1
        self.assertGreater(changes, 2)

    async def test_enrol(self) -> None:
        """While content is noted as given openly: who gives it can be found when it is to be taken back."""
        known = Membership(DIGEST, fetched=Fetched.OPENLY)
        changes, seen = 0, set()
        while not self._lived(lambda: now(self.store.enrol(DOCKER_IO, ALPINE, [known])), changes):
            marked = (await self.store.holding(DOCKER_IO, NGINX, DIGEST)).given
            held = await self.store.member(DOCKER_IO, ALPINE, DIGEST) is not None
            seen.add((marked, held))
            self.vanish("given", "members")
            changes += 1
        # It gets the giver's name with its last change.
        self.assertEqual(seen, {(False, False), (False, True)})
        self.assertTrue((await self.store.holding(DOCKER_IO, NGINX, DIGEST)).given)

    async def test_privacy(self) -> None:
        """While a repository turns private: it was not, or is."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        new, changes = Privacy(5.0, ("Basic",)), 0
        while not self._lived(lambda: now(self.store.set_privacy(DOCKER_IO, ALPINE, new)), changes):
            self.assertIn(await self.store.privacy(DOCKER_IO, ALPINE), (None, new))
            changes += 1
        self.assertGreater(changes, 2)
        self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), new)

    async def test_taken_back(self) -> None:
        """While a repository turns private: no repository is noted as private that gives something all the same, and
        nothing is left behind of what it gave."""
        known = [Membership(Digest.of(name), fetched=Fetched.OPENLY) for name in (b"a", b"b")]
        new, changes, seen = Privacy(5.0, ("Basic",)), 0, set()
        lived = False
        while not lived:
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)
            await self.store.enrol(DOCKER_IO, ALPINE, known)
            lived = self._lived(lambda: now(self.store.set_privacy(DOCKER_IO, ALPINE, new)), changes)
            given = [(await self.store.holding(DOCKER_IO, NGINX, each.digest)).given for each in known]
            private = await self.store.privacy(DOCKER_IO, ALPINE) is not None
            self.assertFalse(private and any(given))
            seen.add((private, sum(given)))
            changes += 1
        self.assertEqual(seen, {(False, 2), (False, 1), (False, 0), (True, 0)})
        self.assertEqual([name for name in self.files() if name.startswith("openly")], [])

    async def test_opened(self) -> None:
        """While it is opened again: it gives nothing before it is open, and afterwards what was fetched openly, as
        soon as that is fetched again."""
        known = [Membership(Digest.of(name), fetched=Fetched.OPENLY) for name in (b"a", b"b")]
        changes, seen = 0, set()
        lived = False
        while not lived:
            await self.store.enrol(DOCKER_IO, ALPINE, known)
            await self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(5.0))
            lived = self._lived(lambda: now(self.store.set_privacy(DOCKER_IO, ALPINE, None)), changes)
            given = [(await self.store.holding(DOCKER_IO, NGINX, each.digest)).given for each in known]
            private = await self.store.privacy(DOCKER_IO, ALPINE) is not None
            seen.add((private, sum(given)))
            changes += 1
        self.assertEqual(seen, {(True, 0), (False, 0), (False, 1), (False, 2)})

    async def test_order(self) -> None:
        """First the verdict; then sync, membership, seal and rename; then the data's own name and the marks go.

        Each directory is synced after what has changed in it.
        """
        steps: list[str] = []
        fill = await self.filled()
        data, marked = sorted(self.root.glob("ingest/*"))

        class Noting(Dying):
            def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **kwargs: Any) -> Any:
                    fd = isinstance(args[0], int)
                    path = os.readlink(f"/proc/self/fd/{args[0]}") if fd else str(args[0])
                    steps.append(f"{function.__name__} {path}")
                    return function(*args, **kwargs)

                return call

        for module in (fileingest, files, ingest, marks, seal):
            self.patch(module, "os", Noting(0))
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST))])
        kinds = [step for step in steps if not step.startswith(("open", "write"))]
        self.assertEqual(kinds[0], f"pwrite {marked}")
        self.assertEqual(kinds[1], f"fdatasync {data}")
        self.assertIn("/_digests/.", kinds[2])
        sealed = kinds.index(f"fchmod {data}")
        self.assertEqual(kinds[sealed + 1], f"utime {data}")
        self.assertTrue(kinds[sealed + 2].startswith("link "), kinds)
        self.assertIn("rename " + str(self.root / "blobs/sha256/."), kinds[sealed + 3])
        after = [f"fsync {self.root}/blobs/sha256", f"unlink {data}", f"fsync {self.root}/ingest", f"unlink {marked}"]
        self.assertEqual(kinds[sealed + 4 :], after)

    async def test_failed_sync(self) -> None:
        """Data that could not be synced is not kept: nobody knows what the disk holds."""
        fill = await self.filled()

        class Failing(Dying):
            def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
                if function is os.fdatasync:
                    raise OSError(5, "Input/output error")
                return function

        self.patch(fileingest, "os", Failing(0))
        error = await self.fails(fill.commit(len(DATA), []), Exception)
        self.assertIn("Input/output error", str(error))
        self.assertEqual(self.files(), {"VERSION"})
        self.assertFalse(fill.owner)


class PrivateCrashTests(CrashTests):
    """Killed while it fetches for one repository's clients."""

    repository = ALPINE
