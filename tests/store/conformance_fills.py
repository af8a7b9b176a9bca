"""What every store must do with fills: part of the suite in L{tests.store.conformance}."""

from __future__ import annotations

import gc
from typing import cast

from twisted.internet.defer import gatherResults

from crcache.errors import OriginLied, StoreError
from crcache.facts import Membership, TagEntry, Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IBody, IIngest
from tests.store.stores import (
    ALPINE,
    DATA,
    DIGEST,
    GHCR,
    LATEST,
    NGINX,
    SEGMENT,
    StoreCase,
    content_of,
    descriptors,
)


class Fills(StoreCase):
    """Fills."""

    async def test_begin(self) -> None:
        """A new fill is owned, has asked nobody, and lacks everything."""
        fill = await self.ingest()
        self.assertEqual((fill.owner, fill.size, fill.answered, fill.state), (True, None, False, Verdict.FILLING))
        self.assertEqual(fill.hole(0), (0, None))
        self.assertEqual(fill.readable(0), 0)

    async def test_settle(self) -> None:
        """The origin's word on the size is kept, and a second one must agree with it."""
        fill = await self.ingest()
        fill.settle(None)
        self.assertEqual((fill.size, fill.answered), (None, True))
        fill.settle(5)
        fill.settle(None)
        fill.settle(5)
        self.assertEqual((fill.size, fill.hole(0)), (5, (0, 5)))
        self.assertRaises(OriginLied, fill.settle, 6)
        self.assertEqual(fill.size, 5)

    async def test_absurd_size(self) -> None:
        """A size that no file can have is the origin's fault."""
        fill = await self.ingest()
        self.assertRaises(OriginLied, fill.settle, 1 << 63)
        self.assertEqual(fill.state, Verdict.FILLING)

    async def test_write(self) -> None:
        """Bytes are readable once they are written, from many buffers, over segments' borders, in any order."""
        fill = await self.ingest()
        fill.settle(len(DATA))
        await fill.write(2 * SEGMENT, [DATA[2 * SEGMENT :]])
        self.assertEqual(fill.hole(0), (0, 2 * SEGMENT))
        self.assertEqual(fill.readable(2 * SEGMENT + 5), len(DATA))
        pieces = [DATA[at : min(at + 1000, 2 * SEGMENT)] for at in range(0, 2 * SEGMENT, 1000)]
        await fill.write(0, pieces[:3])
        self.assertEqual(fill.readable(0), 3000)
        await fill.write(3000, pieces[3:])
        self.assertIsNone(fill.hole(0))
        self.assertEqual(content_of(fill), DATA)

    async def test_gap(self) -> None:
        """Bytes that leave a gap in their segment are refused."""
        fill = await self.ingest()
        await self.fails(fill.write(5, [b"x"]), StoreError)
        self.assertEqual(fill.readable(5), 5)

    async def test_follow(self) -> None:
        """A second party follows: it sees what the owner notes, and owns nothing."""
        fill = await self.ingest()
        follower = await self.ingest()
        self.assertEqual((fill.owner, follower.owner), (True, False))
        self.assertFalse(await follower.claim())
        fill.settle(len(DATA))
        await fill.write(0, [DATA[:1000]])
        self.assertEqual((follower.size, follower.answered, follower.readable(0)), (len(DATA), True, 1000))
        self.assertEqual(content_of(follower), DATA[:1000])

    async def test_registries(self) -> None:
        """Fills of one digest from two registries have nothing to do with each other."""
        fill, other = await self.ingest(), await self.ingest(GHCR)
        self.assertTrue(fill.owner and other.owner)
        await fill.write(0, [DATA])
        self.assertEqual(other.readable(0), 0)

    async def test_digests(self) -> None:
        """Fills of two digests from one registry have nothing to do with each other."""
        fill, other = await self.ingest(), await self.ingest(digest=Digest.of(DATA, "sha512"))
        self.assertTrue(fill.owner and other.owner)

    async def test_commit(self) -> None:
        """What is committed is content, with its memberships; the verdict is known before the disk is asked."""
        fill = await self.filled()
        follower = await self.ingest()
        committed = fill.commit(len(DATA), [(ALPINE, Membership(DIGEST, "a/b", len(DATA), since=1.0))])
        self.assertEqual((fill.state, follower.state), (Verdict.VERIFIED, Verdict.VERIFIED))
        await committed
        self.assertEqual(content_of(await self.body()), DATA)
        self.assertEqual(content_of(follower), DATA)
        found = await self.store.member(DOCKER_IO, ALPINE, DIGEST)
        self.assertEqual(found, Membership(DIGEST, "a/b", len(DATA), True, 1.0))
        self.assertIsNone(await self.store.member(GHCR, ALPINE, DIGEST))
        self.assertFalse(fill.owner)
        self.assertFalse(await follower.claim())

    async def test_commit_unsized(self) -> None:
        """A size that nobody gave is that of what was verified."""
        fill = await self.ingest()
        fill.settle(None)
        await fill.write(0, [DATA])
        follower = await self.ingest()
        await fill.commit(len(DATA), [])
        self.assertEqual(follower.size, len(DATA))
        self.assertEqual((await self.body()).size, len(DATA))

    async def test_commit_empty(self) -> None:
        """Nothing at all is content, too."""
        digest = Digest.of(b"")
        fill = await self.ingest(digest=digest)
        fill.settle(0)
        self.assertIsNone(fill.hole(0))
        await fill.commit(0, [])
        self.assertEqual((await self.body(digest)).size, 0)

    async def test_ingest_of_content(self) -> None:
        """Whoever begins a fill of what is there by now gets the content, from whatever registry it came."""
        fill = await self.filled()
        await fill.commit(len(DATA), [])
        for registry in (DOCKER_IO, GHCR):
            found = await self.store.ingest(registry, DIGEST, self.repository)
            assert IBody.providedBy(found), found
            self.assertEqual(content_of(found), DATA)

    async def test_committed_twice(self) -> None:
        """Two registries' fills of one digest are both committed, one after the other, to the same content."""
        fill, other = await self.filled(), await self.filled(GHCR)
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST))])
        await other.commit(len(DATA), [(NGINX, Membership(DIGEST))])
        self.assertEqual(content_of(await self.body()), DATA)
        self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertIsNotNone(await self.store.member(GHCR, NGINX, DIGEST))

    async def test_discard(self) -> None:
        """What is discarded has failed for all who follow, and the next begins with nothing."""
        fill = await self.filled()
        follower = await self.ingest()
        discarded = fill.discard()
        self.assertEqual((fill.state, follower.state), (Verdict.FAILED, Verdict.FAILED))
        await discarded
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertFalse(await follower.claim())
        again = await self.ingest()
        self.assertEqual((again.owner, again.size, again.readable(0)), (True, None, 0))

    async def test_close(self) -> None:
        """What is let go is resumed by the next, from where it had come."""
        fill = await self.ingest()
        fill.settle(len(DATA))
        await fill.write(0, [DATA[:SEGMENT]])
        await fill.synced(SEGMENT)
        fill.close()
        fill.close()
        self.assertFalse(fill.owner)
        self.assertEqual(content_of(fill), DATA[:SEGMENT])
        again = await self.ingest()
        self.assertEqual((again.owner, again.size, again.answered), (True, len(DATA), True))
        self.assertEqual(again.hole(0), (SEGMENT, len(DATA)))
        await again.write(SEGMENT, [DATA[SEGMENT:]])
        await again.commit(len(DATA), [])
        self.assertEqual(content_of(await self.body()), DATA)

    async def test_claim(self) -> None:
        """A follower takes over what its owner let go, once; others go on following."""
        fill = await self.ingest()
        first, second = await self.ingest(), await self.ingest()
        self.assertTrue(await fill.claim())
        await fill.write(0, [DATA[:1000]])
        fill.close()
        self.assertTrue(await first.claim())
        self.assertTrue(await first.claim())
        self.assertFalse(await second.claim())
        self.assertEqual((first.owner, second.owner, first.hole(0)), (True, False, (1000, None)))
        await first.write(1000, [DATA[1000:]])
        first.settle(len(DATA))
        self.assertEqual(content_of(second), DATA)
        await first.commit(len(DATA), [])
        self.assertEqual((second.state, content_of(await self.body())), (Verdict.VERIFIED, DATA))

    async def test_claim_many(self) -> None:
        """Of many who claim at once one gets it."""
        fill = await self.ingest()
        followers = [await self.ingest() for _ in range(10)]
        fill.close()
        claimed = await gatherResults([follower.claim() for follower in followers])
        self.assertEqual(sorted(claimed), [False] * 9 + [True])

    async def test_begin_many(self) -> None:
        """Of many who begin at once one owns the fill."""
        fills = await gatherResults([self.store.ingest(DOCKER_IO, DIGEST, self.repository) for _ in range(10)])
        self.assertEqual(sorted(cast(IIngest, fill).owner for fill in fills), [False] * 9 + [True])


class Vanishing(StoreCase):
    """Any file may vanish at any time."""

    async def test_content_vanishes(self) -> None:
        """Content that somebody removes is a miss; who reads it reads on, and it can be put again."""
        await self.store.put(DIGEST, DATA)
        body = await self.body()
        self.vanish("content")
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertIsNone(await self.store.read(DIGEST, 1 << 30))
        await self.store.drop(DIGEST)
        self.assertEqual(content_of(body), DATA)
        await self.store.put(DIGEST, DATA)
        self.assertEqual(content_of(await self.body()), DATA)

    async def test_records_vanish(self) -> None:
        """Memberships and tags that somebody removes are misses, and can be noted again."""
        for _ in range(2):
            await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
            await self.store.set_tag(DOCKER_IO, ALPINE, LATEST, TagEntry(DIGEST, "a/b", 1, 2.0))
            self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
            self.assertIsNotNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
            self.vanish("members", "tags")
            self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
            self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
            await self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)

    async def test_fill_vanishes(self) -> None:
        """A fill that somebody removes is finished for those who have it, and is not kept; others begin anew."""
        fill = await self.ingest()
        follower = await self.ingest()
        fill.settle(len(DATA))
        self.vanish("fills")
        await fill.write(0, [DATA])
        self.assertEqual(content_of(follower), DATA)
        await fill.commit(len(DATA), [(ALPINE, Membership(DIGEST))])
        self.assertEqual(follower.state, Verdict.VERIFIED)
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertIsNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertTrue((await self.filled()).owner)

    async def test_two_generations(self) -> None:
        """A removed fill and the one begun after it touch nothing of each other."""
        old = await self.ingest()
        await old.write(0, [b"\0" * 1000])
        self.vanish("fills")
        new = await self.filled()
        self.assertTrue(new.owner)
        await old.write(1000, [b"\0" * 1000])
        await old.discard()
        self.assertEqual(new.state, Verdict.FILLING)
        self.assertEqual(content_of(new), DATA)
        self.assertFalse((await self.ingest()).owner)
        await new.commit(len(DATA), [])
        self.assertEqual(content_of(await self.body()), DATA)

    async def test_claim_of_vanished(self) -> None:
        """Nobody takes over what has gone without a verdict, and nobody waits for it for ever."""
        fill = await self.ingest()
        follower = await self.ingest()
        self.vanish("fills")
        self.assertFalse(await follower.claim())
        fill.close()
        await self.fails(follower.claim(), StoreError)
        self.assertFalse(follower.owner)
        self.assertTrue((await self.ingest()).owner)

    async def test_fills_leave_nothing(self) -> None:
        """However a fill ends, its descriptors end with it."""
        gc.collect()
        before = descriptors()
        for end in ("commit", "discard", "close"):
            fill = await self.store.ingest(GHCR, DIGEST, self.repository)
            assert IIngest.providedBy(fill)
            follower = await self.store.ingest(GHCR, DIGEST, self.repository)
            fill.settle(len(DATA))
            await fill.write(0, [DATA])
            if end == "commit":
                await fill.commit(len(DATA), [])
            elif end == "discard":
                await fill.discard()
            else:
                fill.close()
            del fill, follower
            await self.store.drop(DIGEST)
            self.vanish("fills")
            await self.back_to(before)
