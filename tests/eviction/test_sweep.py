"""L{Sweep}: what is known of content that has gone goes after it, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from crcache.eviction.sweep import FORGOTTEN, HURRIED, UNUSED
from crcache.facts import Fetched, Membership, Privacy
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository, Tag
from crcache.store.fileingest import FileIngest
from tests.eviction.case import ALPINE, DAY, HOUR, LATEST, EvictionCase
from tests.store.other import now

NGINX = Repository("library/nginx")
ONE = Tag("1.0")


class SweepTests(EvictionCase):
    """Some of what is known is of content that is there, some is not."""

    def sweep(self, many: bool = False) -> int:
        """Go through it."""
        return self.evictor._sweep.run(self.pace(), many)

    def aged(self, *paths: Path, age: float = UNUSED + 10) -> None:
        """They were last used so many seconds ago."""
        for path in paths:
            os.utime(path, (self.now - age,) * 2)

    def test_members(self) -> None:
        """Memberships and givers of content that is not there go a day after their last use; others never do."""
        kept, gone, new = self.blob(1), Digest.of(b"gone"), Digest.of(b"new")
        paths = {each: self.member(each) for each in (kept, gone, new)}
        given = {each: self.layout.given(each) for each in (kept, gone, new)}
        self.aged(paths[kept], paths[gone], given[kept], given[gone])
        self.aged(paths[new], given[new], age=UNUSED - 10)
        self.assertEqual(self.sweep(), 1)
        self.assertEqual([paths[each].exists() for each in (kept, gone, new)], [True, False, True])
        self.assertEqual([given[each].exists() for each in (kept, gone, new)], [True, False, True])
        self.assertTrue(now(self.store.holding(DOCKER_IO, NGINX, kept)).given)

    def test_many(self) -> None:
        """If there are very many they go sooner, but none that somebody may be about to need."""
        gone = Digest.of(b"gone")
        path = self.member(gone)
        self.aged(path, self.layout.given(gone), age=HURRIED - 10)
        self.sweep(True)
        self.assertTrue(path.exists())
        self.aged(path, self.layout.given(gone), age=HURRIED + 10)
        self.sweep(True)
        self.assertFalse(path.exists() or self.layout.given(gone).exists())

    def test_committing(self) -> None:
        """Whatever is swept while a fill is committed, its content is its repository's afterwards."""
        data = b"x" * 100
        digest = Digest.of(data)
        path = self.member(digest)
        self.aged(path, self.layout.given(digest), age=9 * DAY)
        fill = now(self.store.ingest(DOCKER_IO, digest))
        assert isinstance(fill, FileIngest)
        fill.settle(len(data))
        now(fill.write(0, [data]))
        enrol = fill._finish.enrol

        def swept(members: Sequence[tuple[Repository, Membership]]) -> None:
            enrol(members)
            self.sweep(True)

        object.__setattr__(fill._finish, "enrol", swept)
        now(fill.commit(len(data), [(ALPINE, Membership(digest, fetched=Fetched.OPENLY))]))
        holding = now(self.store.holding(DOCKER_IO, ALPINE, digest))
        self.assertTrue(holding.given and holding.member is not None)

    def test_tags(self) -> None:
        """A tag goes when it can be served no more, even should its origin fail: a day after its last use if its
        manifest has gone, else after a month. A pinned one stays."""
        manifest, gone = self.manifest([]), Digest.of(b"gone")
        week = 7 * DAY
        cases = {
            "fresh-gone": (gone, 0.0, 2 * UNUSED, True),
            "stale-gone": (gone, week, 2 * UNUSED, True),
            "expired-gone": (gone, week + HOUR, 2 * UNUSED, False),
            "expired-gone-used": (gone, week + HOUR, UNUSED - 10, True),
            "expired-kept": (manifest, week + HOUR, FORGOTTEN - 10, True),
            "expired-kept-unused": (manifest, 5 * week, FORGOTTEN + 10, False),
            "pinned": (gone, 9 * week, 9 * week, True),
        }
        self.pin(gone, Tag("pinned"))
        for name, (digest, checked, used, _) in cases.items():
            self.tag(digest, Tag(name), checked)
            self.aged(self.layout.tag(DOCKER_IO, ALPINE, Tag(name)), age=used)
        self.sweep()
        left = {name: self.layout.tag(DOCKER_IO, ALPINE, Tag(name)).exists() for name in cases}
        self.assertEqual(left, {name: expected for name, (*_, expected) in cases.items()})

    def test_private(self) -> None:
        """That a repository is private stays as long as anything else is known of it; then it goes, and nothing that
        was private becomes public by it."""
        content = self.blob(1)
        now(self.store.enrol(DOCKER_IO, ALPINE, [Membership(content, open=False, fetched=Fetched.PRIVATELY)]))
        now(self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(self.now)))
        private = self.layout.privacy(DOCKER_IO, ALPINE)
        member = self.layout.member(DOCKER_IO, ALPINE, content)
        self.aged(private, member, age=9 * DAY)
        self.sweep()
        self.assertTrue(private.exists() and member.exists())
        self.path(content).unlink()
        self.sweep()
        self.assertFalse(member.exists())
        self.assertTrue(private.exists())
        self.aged(member.parent)
        self.sweep()
        self.assertFalse(private.exists())
        self.assertEqual(list((self.root / "registries").rglob("_*")), [])
        self.blob(1)
        self.assertFalse(now(self.store.holding(DOCKER_IO, ALPINE, content)).given)

    def test_private_young(self) -> None:
        """That a repository is private stays for a day even if nothing else is known of it: it may be soon."""
        self.member(Digest.of(b"gone")).unlink()
        now(self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(self.now)))
        private = self.layout.privacy(DOCKER_IO, ALPINE)
        self.aged(private.parent / "_digests")
        self.aged(private, age=UNUSED - 10)
        self.sweep()
        self.assertTrue(private.exists())

    def test_directories(self) -> None:
        """Empty directories go, by and by all that are above them; what others have put there stays."""
        member = self.member(Digest.of(b"gone"), Repository("a/b/c"))
        foreign = self.member(Digest.of(b"gone"), Repository("d")).parent / "README"
        foreign.write_text("mine")
        self.tag(Digest.of(b"x"), ONE, repository=Repository("a"))
        for _ in range(6):
            for path in [*self.root.rglob("registries/**/*"), *self.root.rglob("openly/**/*")]:
                if path != self.layout.tag(DOCKER_IO, Repository("a"), ONE):
                    self.aged(path, age=2 * UNUSED)
            self.sweep()
        self.assertFalse(member.parent.parent.parent.exists())
        self.assertTrue(foreign.exists() and self.layout.tag(DOCKER_IO, Repository("a"), ONE).exists())

    def test_damaged(self) -> None:
        """What is no record goes as one of content that is not there; drafts of killed processes go as well."""
        self.tag(Digest.of(b"x"))
        directory = self.layout.tag(DOCKER_IO, ALPINE, LATEST).parent
        for name in ("damaged", ".0123456789abcdef", ".new"):
            (directory / name).write_bytes(b"{")
        self.aged(directory / "damaged", directory / ".0123456789abcdef")
        self.sweep()
        self.assertEqual({path.name for path in directory.iterdir()}, {"latest", ".new"})

    def test_seldom(self) -> None:
        """It is done after a walk, four times a day at most, by whichever process."""
        gone = self.member(Digest.of(b"gone"))
        self.aged(gone)
        self.evictor.walk()
        self.assertFalse(gone.exists())
        gone = self.member(Digest.of(b"gone"))
        self.aged(gone)
        self.evictor, self.store = self.another()
        for hours in (1, 4.9, 1):
            self.assertTrue(gone.exists())
            self.now += hours * HOUR
            self.evictor.walk()
        self.assertFalse(gone.exists())
