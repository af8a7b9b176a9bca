"""What a second node gets from the bucket, and its registry never hears of."""

from __future__ import annotations

import contextlib

from crcache.errors import CrcacheError
from crcache.facts import Fetched
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from tests.tier.scene import APP, FORK, LAYER, REGISTRY, TAG, TierCase


class PullTests(TierCase):
    """One node has pulled, another has not."""

    async def test_uploaded(self) -> None:
        """What a node has pulled is in the bucket: content, whose it is, and what the tag means; each once."""
        await self.warm()
        contents = [
            f"blobs/{digest.replace(':', '/')}" for digest in (self.image.digest, self.image.config, *self.image.layers)
        ]
        self.assertEqual(self.bucket.keys("blobs/"), sorted(contents))
        self.assertEqual(len(self.bucket.keys("_digests/")), 3)
        self.assertEqual(self.bucket.keys("_tags/"), [f"registries/{REGISTRY}/{APP}/_tags/{TAG}"])
        self.assertEqual(len(self.bucket.keys("openly/")), 3)
        self.assertEqual(len(self.bucket.asked("content", "PUT")), 3)

    async def test_cold(self) -> None:
        """Another node's cold pull sends nothing to the registry, by tag, by digest, or for blobs."""
        node = await self.cold()
        await self.pulled(node)
        self.assertEqual(self.origin.requests, [])

    async def test_origin_gone(self) -> None:
        """Nor does it need one."""
        node = await self.cold()
        await self.origin.stop()
        await self.pulled(node)

    async def test_nothing_again(self) -> None:
        """What came from the bucket is on disk then, and is not uploaded: neither is asked a second time."""
        node = await self.cold()
        await self.pulled(node)
        await self.uploaded(node)
        self.assertEqual([each for each in self.bucket.requests if each.method != "GET"], [])
        self.bucket.requests.clear()
        await self.pulled(node)
        self.assertEqual(self.bucket.requests, [])
        self.assertEqual(self.origin.requests, [])

    async def test_prefix(self) -> None:
        """Two prefixes of a bucket have nothing in common."""
        node = self.node(prefix="a/")
        await self.pulled(node)
        await self.uploaded(node)
        self.assertEqual({key.partition("/")[0] for key in self.bucket.objects}, {"a"})
        self.origin.requests.clear()
        await self.pulled(self.node(prefix="b/"))
        self.assertNotEqual(self.origin.requests, [])
        self.origin.requests.clear()
        await self.pulled(self.node(prefix="a/"))
        self.assertEqual(self.origin.requests, [])

    async def test_shared_layer(self) -> None:
        """A layer that one repository gave openly and another names comes from the bucket for both."""
        other = self.origin.add_image(str(FORK), str(TAG), [LAYER], seed=1)
        first = await self.warm()
        await first.manifest(repository=FORK)
        await first.blob(self.layer, FORK)
        await first.blob(Digest.parse(other.config), FORK)
        await self.uploaded(first)
        self.origin.requests.clear()
        node = self.node()
        await node.manifest(repository=FORK)
        self.assertTrue(await node.blob(self.layer, FORK) == LAYER)
        self.assertEqual(self.origin.requests, [])
        await self.until("it is kept", lambda: not len(node.engine.fills))
        # That it was somebody's who gives it is no proof that it is its own.
        member = await node.engine.store.member(REGISTRY, FORK, self.layer)
        assert member is not None
        self.assertIs(member.fetched, Fetched.NEVER)

    async def test_resumed(self) -> None:
        """A body that breaks off is fetched on from where it stopped."""
        from crcache.testing.script import Fault

        node = await self.cold()
        self.bucket.fault(Fault(cut=200_000), "content", path=self.layer.hex)
        await node.manifest()
        self.assertTrue(await node.blob(self.layer) == LAYER)
        asked = [record.headers.getRawHeaders("range") for record in self.origin.asked("blob")]
        self.assertEqual(len(asked), 1)
        self.assertIsNotNone(asked[0])

    async def test_evicted(self) -> None:
        """A lifecycle rule may take anything: what is not there is asked of the registry."""
        for part in ("blobs/", "_digests/", "_tags/", "openly/"):
            first = await self.warm()
            for key in self.bucket.keys(part):
                del self.bucket.objects[key]
            self.origin.requests.clear()
            await self.pulled(self.node())
            await self.uploaded(first)
            if part in ("blobs/", "_tags/"):
                self.assertNotEqual(self.origin.requests, [], part)
            self.bucket.objects.clear()

    async def test_retagged(self) -> None:
        """A tag that means something else is uploaded with its new meaning, and one that is gone is removed."""
        node = await self.warm()
        image = self.origin.add_image(str(APP), str(TAG), [b"another layer" * 10_000], seed=2)
        entry = await node.engine.store.tag(REGISTRY, APP, TAG)
        assert entry is not None
        from dataclasses import replace

        await node.engine.store.set_tag(REGISTRY, APP, TAG, replace(entry, checked=0.0))
        self.assertEqual(str((await node.manifest()).digest), image.digest)
        await self.uploaded(node)
        (key,) = self.bucket.keys("_tags/")
        await self.until("the tag", lambda: image.digest.encode() in self.bucket.objects[key])
        entry = await node.engine.store.tag(REGISTRY, APP, TAG)
        assert entry is not None
        await node.engine.store.set_tag(REGISTRY, APP, TAG, replace(entry, checked=0.0))
        self.origin.content.tags[str(APP)].clear()
        with contextlib.suppress(CrcacheError):
            await node.manifest()
        await self.until("the tag is gone", lambda: not self.bucket.keys("_tags/"))
        self.assertIsNone(await node.engine._kept.tag(REGISTRY, APP, Tag("1.0")))

    async def test_upload_once(self) -> None:
        """Of several nodes that pull at once only as many upload as begin before the first is done; another none."""
        await self.warm()
        puts = len(self.bucket.asked("content", "PUT"))
        node = self.node(prefix="")
        for key in self.bucket.keys("registries/"):
            del self.bucket.objects[key]
        await self.pulled(node)
        await self.uploaded(node)
        self.assertEqual(len(self.bucket.asked("content", "PUT")), puts)
        self.assertEqual(len(self.bucket.keys("_digests/")), 3)
