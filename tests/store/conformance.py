"""What every store must do: one suite, run by each implementation."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from typing import Any, cast

from crcache.facts import Membership, Privacy, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository, Tag
from tests.store.conformance_fills import Fills, Vanishing
from tests.store.conformance_private import Apart, Given, Privacies, Turned
from tests.store.stores import ALPINE, DATA, DIGEST, GHCR, LATEST, NGINX, StoreCase, content_of, descriptors


class Content(StoreCase):
    """Content."""

    async def test_ready(self) -> None:
        """A store that has been started is ready."""
        await self.store.ready()

    async def test_nothing(self) -> None:
        """What was never put there is a miss, each in its way, and taking it away is no error."""
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertIsNone(await self.store.read(DIGEST, 1 << 30))
        self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
        await self.store.drop(DIGEST)
        await self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)

    async def test_put(self) -> None:
        """Small content is there whole, verified, and again after a second put."""
        for data in (b"", b"{}", DATA):
            digest = Digest.of(data)
            for _ in range(2):
                await self.store.put(digest, data)
                body = await self.body(digest)
                self.assertEqual((body.size, body.verdict), (len(data), Verdict.VERIFIED))
                self.assertEqual(content_of(body), data)
                self.assertEqual(await self.store.read(digest, len(data)), data)

    async def test_sha512(self) -> None:
        """Content goes by either algorithm, and one is not the other."""
        digest = Digest.of(b"abc", "sha512")
        await self.store.put(digest, b"abc")
        self.assertEqual(await self.store.read(digest, 10), b"abc")
        self.assertIsNone(await self.store.find(Digest.of(b"abc")))

    async def test_read_limit(self) -> None:
        """More than the limit is not read."""
        await self.store.put(Digest.of(b"abc"), b"abc")
        self.assertIsNone(await self.store.read(Digest.of(b"abc"), 2))
        self.assertIsNotNone(await self.store.find(Digest.of(b"abc")))

    async def test_damaged(self) -> None:
        """Content whose bytes are not its digest's is not read, and is forgotten."""
        await self.store.put(DIGEST, DATA)
        self.damage(DIGEST)
        self.assertIsNone(await self.store.read(DIGEST, len(DATA)))
        self.assertIsNone(await self.store.find(DIGEST))
        await self.store.put(DIGEST, DATA)
        self.assertEqual(await self.store.read(DIGEST, len(DATA)), DATA)

    async def test_drop(self) -> None:
        """What is dropped is gone for those who come; those who have it read on."""
        await self.store.put(DIGEST, DATA)
        body = await self.body()
        await self.store.drop(DIGEST)
        await self.store.drop(DIGEST)
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertEqual(content_of(body), DATA)

    async def test_drop_damaged(self) -> None:
        """What has been put in the place of what proved damaged stays."""
        await self.store.put(DIGEST, DATA)
        old, same = await self.body(), await self.body()
        await self.store.drop(DIGEST, old)
        self.assertIsNone(await self.store.find(DIGEST))
        await self.store.drop(DIGEST, same)
        await self.store.put(DIGEST, DATA)
        await self.store.drop(DIGEST, same)
        self.assertEqual(await self.store.read(DIGEST, len(DATA)), DATA)
        await self.store.drop(DIGEST, await self.body())
        self.assertIsNone(await self.store.find(DIGEST))

    async def test_replaced_while_read(self) -> None:
        """Nothing is ever truncated in place: a descriptor goes on giving what it gave."""
        await self.store.put(DIGEST, DATA)
        fd = (await self.body()).open()
        self.addCleanup(os.close, fd)
        await self.store.put(DIGEST, DATA)
        self.assertEqual(os.pread(fd, len(DATA) + 1, 0), DATA)

    async def test_body(self) -> None:
        """Committed content is all there; nobody need be told of anything."""
        await self.store.put(DIGEST, DATA)
        body = await self.body()
        self.assertEqual(body.readable(0), len(DATA))
        self.assertEqual(body.readable(len(DATA) + 5), len(DATA) + 5)
        watcher = cast(Any, object())
        body.unwatch(watcher)
        body.watch(watcher)
        body.unwatch(watcher)
        body.unwatch(watcher)

    async def test_descriptors(self) -> None:
        """Each open is a descriptor of its own, not inherited by programs; those of the body end with it."""
        await self.store.put(DIGEST, DATA)
        gc.collect()
        before = descriptors()
        body = await self.body()
        first, second = body.open(), body.open()
        self.assertNotEqual(first, second)
        self.assertFalse(os.get_inheritable(first))
        os.close(first)
        del body
        self.assertEqual(os.pread(second, 3, 0), DATA[:3])
        os.close(second)
        await self.back_to(before)


class Records(StoreCase):
    """Memberships and tags."""

    async def test_member(self) -> None:
        """A membership is of one registry, repository and digest."""
        known = Membership(DIGEST, "a/b", 5, True, 12.5)
        await self.store.enrol(DOCKER_IO, ALPINE, [known])
        self.assertEqual(await self.store.member(DOCKER_IO, ALPINE, DIGEST), known)
        self.assertIsNone(await self.store.member(GHCR, ALPINE, DIGEST))
        self.assertIsNone(await self.store.member(DOCKER_IO, NGINX, DIGEST))
        self.assertIsNone(await self.store.member(DOCKER_IO, Repository("library"), DIGEST))
        self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, Digest.of(b"")))

    async def test_enrol_many(self) -> None:
        """Several at once, and none at all."""
        many = [Membership(Digest.of(bytes([n])), None, n, since=1.0) for n in range(20)]
        await self.store.enrol(DOCKER_IO, ALPINE, many)
        await self.store.enrol(DOCKER_IO, ALPINE, [])
        for each in many:
            self.assertEqual(await self.store.member(DOCKER_IO, ALPINE, each.digest), each)

    async def test_since(self) -> None:
        """The store notes when a membership was first known, and keeps that."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        self.now += 100
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, size=3)])
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, None, 3, True, self.now - 100))

    async def test_said_stays_said(self) -> None:
        """A later membership that knows less takes nothing away; what it knows better counts."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, "a/b", 5, since=1.0)])
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, "a/b", 5, True, 1.0))
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST, "c/d", 6)])
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, "c/d", 6, True, 1.0))

    async def test_open_stays_open(self) -> None:
        """Open is never replaced by private; private becomes open."""
        for first, second in ((True, False), (False, True), (True, True)):
            repository = Repository(f"r{int(first)}{int(second)}")
            await self.store.enrol(DOCKER_IO, repository, [Membership(DIGEST, open=first)])
            await self.store.enrol(DOCKER_IO, repository, [Membership(DIGEST, "a/b", open=second)])
            found = await self.store.member(DOCKER_IO, repository, DIGEST)
            assert found is not None
            self.assertTrue(found.open)
        await self.store.enrol(DOCKER_IO, NGINX, [Membership(DIGEST, open=False)])
        found = await self.store.member(DOCKER_IO, NGINX, DIGEST)
        self.assertFalse(found is None or found.open)

    async def test_tag(self) -> None:
        """A tag means what it was last set to, in its own registry and repository."""
        first = TagEntry(DIGEST, "a/b", 7, 1.5)
        second = TagEntry(Digest.of(b"", "sha512"), "c/d", 0, 2.0)
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, first)
        self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), first)
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, second)
        self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), second)
        self.assertIsNone(await self.store.tag(GHCR, ALPINE, LATEST))
        self.assertIsNone(await self.store.tag(DOCKER_IO, NGINX, LATEST))
        self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, Tag("Latest")))
        await self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)
        await self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)
        self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))


class Pinned(StoreCase):
    """Pins, which only the administrator's tool makes."""

    async def test_pinned(self) -> None:
        """A tag's entry says whether it is pinned, by now; whoever notes what it means does not change that."""
        entry = TagEntry(DIGEST, "a/b", 7, 1.5)
        pinned = replace(entry, pinned=True)
        self.pin(DOCKER_IO, ALPINE, LATEST)
        self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
        for noted in (entry, pinned):
            await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, noted)
            await self.store.set_tag(DOCKER_IO, NGINX, LATEST, noted)
            self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), pinned)
            self.assertEqual(await self.store.tag(DOCKER_IO, NGINX, LATEST), entry)
        self.pin(DOCKER_IO, ALPINE, LATEST, pinned=False)
        self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), entry)

    async def test_pinned_private(self) -> None:
        """A pin opens nothing."""
        entry = TagEntry(DIGEST, "a/b", 7, 1.5)
        self.pin(DOCKER_IO, ALPINE, LATEST)
        await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, entry)
        await self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(self.now))
        self.assertEqual(await self.store.tag(DOCKER_IO, ALPINE, LATEST), replace(entry, open=False, pinned=True))


class Conformance(Pinned, Content, Records, Given, Privacies, Turned, Fills, Apart, Vanishing):
    """All of it."""


class Private(Fills, Vanishing):
    """What fills must do, of those for one repository's clients."""

    repository = ALPINE
