"""L{crcache.tier.noting}: what is fetched is noted before it is in its place, and what came from the bucket is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crcache.facts import Fetched, Membership
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.store.filesystem import Filesystem
from crcache.tier.noting import SEEN, Noting
from crcache.tier.queue import CONTENT, Entry, Queue
from crcache.workers import Inline
from tests.store.case import DirectoryCase
from tests.store.stores import ALPINE, DATA, DIGEST, NGINX


class NotingTests(DirectoryCase):
    """A store on disk that tells of its news."""

    def another(self) -> Filesystem:
        """It does."""
        self.seconds = 0.0
        self.queue = Queue(self.root / "uploads", self.clock)
        self.noting = Noting(self.queue, Inline(), lambda: self.seconds)
        self.there: list[bool] = []

        def noted(registry: Registry, repository: Repository, member: Membership) -> None:
            self.there.append(self.path(member.digest).exists())
            self.noting.member(registry, repository, member)

        return Filesystem(self.root, self.workers(), self.clock, noted=noted)

    def path(self, digest: Digest) -> Path:
        """Of content."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    async def test_before_it_is_there(self) -> None:
        """A crash can leave an entry without its content, never the other way round."""
        fill = await self.filled()
        member = Membership(DIGEST, None, len(DATA), fetched=Fetched.OPENLY)
        await fill.commit(len(DATA), [(ALPINE, member)])
        self.assertEqual(self.there, [False])
        self.assertTrue(self.path(DIGEST).exists())
        self.assertEqual(self.queue.due(10)[0], [Entry(CONTENT, DOCKER_IO, ALPINE, str(DIGEST)).file])

    async def test_what_is_noted(self) -> None:
        """What repositories but name is not uploaded; what they have shown, openly or privately, is."""
        for fetched, count in ((Fetched.NEVER, 0), (Fetched.PRIVATELY, 1), (Fetched.OPENLY, 1)):
            member = Membership(DIGEST, open=fetched is not Fetched.PRIVATELY, fetched=fetched)
            await self.store.enrol(DOCKER_IO, NGINX, [member])
            self.assertEqual(self.queue.waiting(), count)

    async def test_known(self) -> None:
        """What the bucket has is not uploaded to it, as long as that may be so; what it has less openly is."""
        privately = Membership(DIGEST, open=False, fetched=Fetched.PRIVATELY)
        openly = Membership(DIGEST, fetched=Fetched.OPENLY)
        self.noting.known(DOCKER_IO, ALPINE, privately)
        await self.store.enrol(DOCKER_IO, ALPINE, [privately])
        self.assertEqual(self.queue.waiting(), 0)
        await self.store.enrol(DOCKER_IO, ALPINE, [openly])
        self.assertEqual(self.queue.waiting(), 1)
        self.noting.known(DOCKER_IO, NGINX, openly)
        await self.store.enrol(DOCKER_IO, NGINX, [openly])
        self.assertEqual(self.queue.waiting(), 1)
        self.seconds = SEEN + 1
        await self.store.enrol(DOCKER_IO, NGINX, [openly])
        self.assertEqual(self.queue.waiting(), 2)

    async def test_full_disk(self) -> None:
        """A queue that cannot be written fails nothing."""
        (self.root / "uploads").write_text("in its place")
        member: Any = Membership(DIGEST, fetched=Fetched.OPENLY)
        await self.store.enrol(DOCKER_IO, ALPINE, [member])
        self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
