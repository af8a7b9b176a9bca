"""What L{crcache.store.repositories} leaves on disk of who may read what, and what it makes of what it finds there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline
from tests.store.case import DirectoryCase
from tests.store.stores import ALPINE, DATA, DIGEST, LATEST, NGINX

HOUR = 3600.0
OPENLY = Membership(DIGEST, since=1.0, fetched=Fetched.OPENLY)
ASKED = Privacy(1_700_000_000.0, ('Basic realm="y"',))


class PrivateCase(DirectoryCase):
    """Has the paths at hand."""

    def setUp(self) -> None:
        """Note them."""
        super().setUp()
        alpine = self.root / "registries/docker.io/library/alpine"
        self.marker = self.root / "openly/sha256" / DIGEST.hex
        self.private = alpine / "_private"
        self.member = alpine / "_digests" / f"sha256-{DIGEST.hex}"
        self.tag = alpine / "_tags/latest"

    async def known(self) -> None:
        """Have the repository known."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, since=1.0)])

    async def given(self, repository: Repository = NGINX) -> bool:
        """Whether the content has been given to everyone, as far as this repository's clients are told."""
        return (await self.store.holding(DOCKER_IO, repository, DIGEST)).given


class LayoutTests(PrivateCase):
    """Where things are: a promise to administrators, and to the next release."""

    async def test_marker(self) -> None:
        """Who gave content is an empty file for each giver, of 128 bits; of what is but named there is none."""
        await self.known()
        self.assertFalse(self.marker.exists())
        for repository in (ALPINE, NGINX):
            await self.store.enrol(DOCKER_IO, repository, [OPENLY])
        names = [hashlib.sha256(f"docker.io\0library/{name}".encode()).hexdigest() for name in ("alpine", "nginx")]
        expected = {f"openly/sha256/{DIGEST.hex}/{name[:32]}" for name in names}
        self.assertEqual({path for path in self.files() if path.startswith("openly")}, expected)
        self.assertEqual({(self.root / path).read_bytes() for path in expected}, {b""})
        self.assertEqual(json.loads(self.member.read_text())["fetched"], "openly")

    async def test_private(self) -> None:
        """That a repository is private is small JSON beside what it holds."""
        await self.known()
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        said = {"checked": ASKED.checked, "challenges": list(ASKED.challenges)}
        self.assertEqual(json.loads(self.private.read_text()), said)
        await self.store.set_privacy(DOCKER_IO, ALPINE, None)
        self.assertFalse(self.private.exists())
        self.assertTrue(self.member.exists())

    async def test_unknown(self) -> None:
        """Of a repository that clients have but named not even a directory is made."""
        await self.known()
        before = set(self.root.rglob("*"))
        for name in ("other", "library", "library/alpine/below"):
            await self.store.set_privacy(DOCKER_IO, Repository(name), ASKED)
            await self.store.set_privacy(DOCKER_IO, Repository(name), None)
            await self.store.holding(DOCKER_IO, Repository(name), DIGEST)
        self.assertEqual(set(self.root.rglob("*")), before)

    async def test_fill(self) -> None:
        """Of a repository's own fill the hash covers registry and repository, and is longer than of an open one."""
        await self.ingest_of(ALPINE)
        hashed = hashlib.sha256(b"docker.io/library/alpine").hexdigest()[:32]
        name = f"ingest/{hashed}-sha256-{DIGEST.hex}"
        self.assertEqual(self.files(), {"VERSION", name, name + ".marks"})

    async def test_modes(self) -> None:
        """Whatever the umask, nobody else can read any of it, and nobody at all but crcache what is in progress."""
        self.addCleanup(os.umask, os.umask(0))
        shutil.rmtree(self.root)
        self.store.start()
        await self.ingest_of(NGINX)
        fills = list(self.root.glob("ingest/*"))
        self.assertEqual([stat.S_IMODE(path.stat().st_mode) for path in fills], [0o600] * 2)
        shutil.rmtree(self.root / "blobs")
        fill = await self.ingest_of(ALPINE)
        await fill.write(0, [DATA])
        await fill.commit(len(DATA), [(ALPINE, OPENLY)])
        await self.store.put(Digest.of(b"small"), b"small")
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        found = [path for path in (self.root, *self.root.rglob("*")) if path != self.root / "VERSION"]
        self.assertGreater(len(found), 15)
        self.assertEqual([path for path in found if path.stat().st_mode & 0o027], [])

    async def test_restart(self) -> None:
        """Another process on the same directory finds everything."""
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5, False))
        other = self.another()
        other.start()
        self.assertEqual(await other.holding(DOCKER_IO, ALPINE, DIGEST), Holding(OPENLY, False, ASKED))
        await other.enrol(DOCKER_IO, NGINX, [OPENLY])
        self.assertEqual(await self.another().holding(DOCKER_IO, ALPINE, DIGEST), Holding(OPENLY, True, ASKED))
        self.assertEqual(await other.tag(DOCKER_IO, ALPINE, LATEST), TagEntry(DIGEST, "a/b", 5, 7.5, False))

    async def test_damaged_version(self) -> None:
        """A directory with marks in it is known as crcache's own when its VERSION was damaged."""
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        (self.root / "VERSION").write_text("")
        self.another().start()
        self.assertEqual((self.root / "VERSION").read_text(), "1\n")


class WorkTests(PrivateCase):
    """What it costs."""

    async def test_one_job(self) -> None:
        """All that is known of a repository and a digest is one worker's job."""

        class Counting(Inline):
            jobs = 0

            def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                self.jobs += 1
                return super().run(work, *args, **kwargs)

        workers = Counting()
        await Filesystem(self.root, workers, self.clock).holding(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(workers.jobs, 1)

    async def test_marker_touched(self) -> None:
        """The marker's use is noted hourly when it is looked at, which nobody does who knows the answer."""
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        for age, repository, touched in (
            (HOUR - 1, NGINX, False),
            (HOUR + 1, ALPINE, False),
            (HOUR + 1, NGINX, True),
            (-2 * HOUR, NGINX, True),
        ):
            os.utime(self.marker, (self.now - age, self.now - age))
            self.assertTrue(await self.given(repository))
            self.assertEqual(self.marker.stat().st_mtime, self.now if touched else self.now - age)

    async def test_given_again(self) -> None:
        """Giving again what one gives makes no other mark; its use is noted."""
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        os.utime(self.marker, (1.0, 1.0))
        (mark,) = self.marker.iterdir()
        inode = mark.stat().st_ino
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        self.assertEqual((mark.stat().st_ino, self.marker.stat().st_mtime), (inode, self.now))

    async def test_rewritten(self) -> None:
        """A privacy is written anew if it has changed, or was last asked more than a few seconds before or after."""
        await self.known()
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        before = self.private.stat().st_ino
        now = ASKED.checked
        too_many = (*ASKED.challenges, "x" * 5000)
        for same in (ASKED, Privacy(now + 5, ASKED.challenges), Privacy(now - 5, too_many)):
            await self.store.set_privacy(DOCKER_IO, ALPINE, same)
            self.assertEqual(self.private.stat().st_ino, before)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), ASKED)
        for other in (Privacy(now + 6, ASKED.challenges), Privacy(now, ASKED.challenges), Privacy(now, ("Bearer",))):
            # Kept open, so that no other file gets its inode.
            kept = os.open(self.private, os.O_RDONLY)
            before = os.fstat(kept).st_ino
            await self.store.set_privacy(DOCKER_IO, ALPINE, other)
            self.assertNotEqual(self.private.stat().st_ino, before)
            os.close(kept)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), other)

    async def test_privacy_touched(self) -> None:
        """A privacy's use is noted as often as that of what it is about, lest it be cleaned away first."""
        await self.known()
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        os.utime(self.private, (1.0, 1.0))
        await self.store.holding(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(self.private.stat().st_mtime, self.now)


class DamageTests(PrivateCase):
    """Whatever is damaged opens nothing."""

    async def test_member(self) -> None:
        """Unless a record says in so many words how the content was fetched, it was not."""
        record = {"digest": str(DIGEST), "mediaType": None, "size": 5, "obtained": "open", "since": 1.0}
        await self.known()
        words = None, "", "never", "OPENLY", "openly ", "open", True, 2, ["openly"], {"openly": 1}
        for opened in ("open", "private"):
            for word in words:
                self.member.write_text(json.dumps({**record, "obtained": opened, "fetched": word}))
                found = await self.store.holding(DOCKER_IO, ALPINE, DIGEST)
                expected = Membership(DIGEST, None, 5, opened == "open", 1.0, Fetched.NEVER)
                self.assertEqual(found, Holding(expected, False, None), word)
        self.member.write_text(json.dumps(record))
        found = await self.store.holding(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Holding(Membership(DIGEST, None, 5, True, 1.0), False, None))

    async def test_member_openly_private(self) -> None:
        """What is private and says that everyone was given it opens nothing, also once it is noted again."""
        await self.known()
        record = {"digest": str(DIGEST), "obtained": "private", "fetched": "openly", "since": 1.0}
        for opened in (False, True):
            self.member.write_text(json.dumps(record))
            self.assertEqual(
                await self.store.member(DOCKER_IO, ALPINE, DIGEST), Membership(DIGEST, open=False, since=1.0)
            )
            await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, size=5, open=opened)])
            found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
            self.assertEqual(found, Membership(DIGEST, size=5, open=opened, since=1.0))
        self.assertFalse(self.marker.exists())
        self.assertFalse(await self.given(ALPINE))

    async def test_tag(self) -> None:
        """A tag that does not say is as old as those that were all open; one that says it wrongly is not open."""
        record = {"digest": str(DIGEST), "mediaType": "a/b", "size": 5, "checked": 7.5}
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 5, 7.5))
        self.tag.write_text(json.dumps(record))
        self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), TagEntry(DIGEST, "a/b", 5, 7.5))
        words: list[object] = [None, 0, 1, "true", "false", [True], {}, False]
        for word in words:
            self.tag.write_text(json.dumps({**record, "open": word}))
            found = await self.store.tag(DOCKER_IO, ALPINE, LATEST)
            self.assertEqual(found, TagEntry(DIGEST, "a/b", 5, 7.5, False), word)

    async def test_privacy(self) -> None:
        """A damaged privacy still says that the repository is private, and nothing else; it can be put right."""
        await self.known()
        good = {"checked": 5.0, "challenges": ["Basic"]}
        damaged = [{**good, "checked": word} for word in (None, "5", -1, 1e13, True, [5], float("nan"))]
        damaged += [{**good, "challenges": word} for word in (None, "Basic", {"Basic": 1}, ["Basic", 5], 7)]
        damaged += [{}, {"checked": 5.0}, {"challenges": []}]
        texts = [json.dumps(each) for each in damaged]
        texts += ["", "\0" * 40, '{"checked": 5.0, "chal', "[]", "null", "private", "[" * 60_000, "\xff"]
        texts += [json.dumps({**good, "challenges": ["x" * 70_000]})]
        for text in texts:
            await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
            self.private.write_text(text)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), Privacy(0.0), text[:80])
            self.assertEqual((await self.store.holding(DOCKER_IO, ALPINE, DIGEST)).privacy, Privacy(0.0))
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), ASKED)

    async def test_privacy_written_by_others(self) -> None:
        """No line of a record becomes a header line that crcache would not have kept."""
        await self.known()
        lines = ["Basic\r\nX: y", "Basic\n", *[f"Basic {n}" for n in range(20)], "x" * 4096]
        await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
        self.private.write_text(json.dumps({"checked": 5, "challenges": lines}))
        found = await self.store.privacy(DOCKER_IO, ALPINE)
        self.assertEqual(found, Privacy(5.0, tuple(f"Basic {n}" for n in range(8))))

    async def test_odd_privacy(self) -> None:
        """What is no file in a privacy's place says that the repository is private; a new one takes its place."""
        await self.known()
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/nowhere", path), _full):
            make(self.private)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), Privacy(0.0))
            await self.store.set_privacy(DOCKER_IO, ALPINE, ASKED)
            self.assertEqual(await self.store.privacy(DOCKER_IO, ALPINE), ASKED)
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)
            self.assertIsNone(await self.store.privacy(DOCKER_IO, ALPINE))

    async def test_odd_privacy_removed(self) -> None:
        """Of what is no file in a privacy's place nothing is left when the repository is open again."""
        await self.known()
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/nowhere", path), _full):
            make(self.private)
            await self.store.set_privacy(DOCKER_IO, ALPINE, None)
            self.assertIsNone(await self.store.privacy(DOCKER_IO, ALPINE))

    async def test_odd_marker(self) -> None:
        """What is no directory in the place of the marks says nothing, nor does what such a one holds and is no mark:
        the next mark is there all the same. So was a mark of a release that knew no givers."""
        self.marker.parent.mkdir(parents=True)
        odd: list[Callable[[Path], object]] = [os.mkfifo, Path.touch, _full, os.mkdir]
        odd += [partial(os.symlink, self.root / name) for name in ("VERSION", "nowhere")]
        for make in odd:
            make(self.marker)
            self.assertFalse(await self.given())
            await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
            self.assertTrue(await self.given())
            shutil.rmtree(self.marker)

    async def test_odd_giver(self) -> None:
        """What is no file in a giver's place says nothing, and the next mark takes its place."""
        await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
        (mark,) = self.marker.iterdir()
        for make in (os.mkdir, os.mkfifo, lambda path: os.symlink(self.root / "VERSION", path), _full):
            mark.unlink()
            make(mark)
            self.assertFalse(await self.given())
            await self.store.enrol(DOCKER_IO, ALPINE, [OPENLY])
            self.assertTrue(await self.given())

    async def test_odd_directories(self) -> None:
        """Nor does a file where the markers' directory should be."""
        self.vanish("given")
        (self.root / "openly").write_text("")
        self.assertFalse(await self.given())


def _full(path: Path) -> None:
    """A directory with something in it."""
    path.mkdir()
    (path / "something").write_text("")
