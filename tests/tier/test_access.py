"""Who may read what came from the bucket: nobody whom the registry would not let in, on any node."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from crcache.asks import Client, PullBlob
from crcache.errors import CrcacheError, Unauthorized
from crcache.grammar.digest import Digest
from crcache.secret import Secret
from crcache.testing.auth import Open
from tests.tier.scene import APP, FORK, LAYER, REGISTRY, TAG, Node, TierCase

WRONG = Secret("Basic YWxpY2U6d3Jvbmc=")


class PrivateTests(TierCase):
    """An image that only a client's password opens, pulled by one node."""

    async def prepared(self) -> tuple[Node, Secret]:
        """Another node, and the password."""
        password = self.private()
        first = self.node()
        await self.pulled(first, authorization=password)
        await self.uploaded(first)
        self.origin.requests.clear()
        self.bucket.requests.clear()
        return self.node(), password

    async def refused(self, node: Node, digest: Digest, authorization: Secret | None = None, **how: Any) -> None:
        """The blob is not to be had."""
        try:
            found = await node.blob(digest, authorization=authorization, **how)
        except CrcacheError:
            return
        self.fail(f"{len(found)} bytes came")

    async def test_let_in(self) -> None:
        """Whom the registry lets in gets it from the bucket: the registry sends no body."""
        node, password = await self.prepared()
        await self.pulled(node, authorization=password)
        self.assertEqual([each for each in self.origin.requests if each.sent and each.status == 200], [])

    async def test_strangers(self) -> None:
        """Nobody else does: without a password, with a wrong one, before somebody had the right one and after."""
        node, password = await self.prepared()
        for authorization in (None, WRONG):
            for reference in (TAG, self.top):
                try:
                    await node.manifest(reference, authorization=authorization)
                except Unauthorized:
                    continue
                self.fail("a manifest came")
            await self.refused(node, self.layer, authorization)
        await self.pulled(node, authorization=password)
        for authorization in (None, WRONG):
            await self.refused(node, self.layer, authorization)

    async def test_head_and_ranges(self) -> None:
        """Nor by a HEAD, or a range."""
        node, _ = await self.prepared()
        for how in ({"body": False}, {"span": (0, 100)}, {"span": (5, None)}, {"suffix": 10}):
            for authorization in (None, WRONG):
                ask = PullBlob(Client("an-id", authorization=authorization), REGISTRY, APP, self.layer)
                try:
                    found = await node.ask(replace(ask, **how))
                except CrcacheError:
                    continue
                self.fail(f"{how}: {found!r}")

    async def test_origin_gone(self) -> None:
        """While the registry cannot be asked nobody is let in whom this host does not know."""
        node, password = await self.prepared()
        await self.origin.stop()
        for authorization in (None, password):
            await self.refused(node, self.layer, authorization)

    async def test_another_repository(self) -> None:
        """Through another repository, which names the digest alone, it does not come from the bucket."""
        node, password = await self.prepared()
        self.origin.auth = Open()
        self.origin.content.holds.pop(str(FORK), None)
        image = self.origin.add_image(str(FORK), str(TAG), [LAYER], seed=9)
        self.origin.content.holds[str(FORK)].discard(str(self.layer))
        self.assertEqual(str((await node.manifest(repository=FORK)).digest), image.digest)
        await self.refused(node, self.layer, repository=FORK)
        await self.refused(node, self.layer, password, repository=FORK)

    async def test_turned_private(self) -> None:
        """What one node finds private is closed on another that learns of it from the bucket."""
        first = await self.warm()
        self.private()
        entry = await first.engine.store.tag(REGISTRY, APP, TAG)
        assert entry is not None
        await first.engine.store.set_tag(REGISTRY, APP, TAG, replace(entry, checked=0.0))
        with contextlib.suppress(Unauthorized):
            await first.manifest()
        await self.until("it is noted", lambda: self.bucket.keys("_private"))
        node = self.node()
        await self.origin.stop()
        await self.refused(node, self.layer)
        try:
            await node.manifest()
        except CrcacheError:
            return
        self.fail("a manifest came")

    async def test_giver_turned_private(self) -> None:
        """What a repository gave everyone it gives nobody any more, through no other repository, once it is private."""
        first = await self.warm()
        self.assertNotEqual(self.bucket.keys("openly/"), [])
        self.private()
        entry = await first.engine.store.tag(REGISTRY, APP, TAG)
        assert entry is not None
        await first.engine.store.set_tag(REGISTRY, APP, TAG, replace(entry, checked=0.0))
        with contextlib.suppress(Unauthorized):
            await first.manifest()
        await self.until("it is noted", lambda: self.bucket.keys("_private"))
        self.origin.auth = Open()
        self.origin.add_image(str(FORK), str(TAG), [LAYER], seed=9)
        self.origin.content.holds[str(FORK)].discard(str(self.layer))
        node = self.node()
        await node.manifest(repository=FORK)
        await self.refused(node, self.layer, repository=FORK)
        self.assertEqual([each for each in self.bucket.asked("content", "GET") if self.layer.hex in each.path], [])

    async def test_opened_again(self) -> None:
        """And is open again when the registry says so to anybody."""
        _, password = await self.prepared()
        first = self.node("node-1b")
        await first.manifest(authorization=password)
        self.origin.auth = Open()
        self.assertNotEqual(self.bucket.keys("_private"), [])
        for _ in range(2):
            await first.engine._kept.forget_tag(REGISTRY, APP, TAG)
            first.engine._privacies._here.clear()
            first.engine._privacies._read.clear()
            await first.manifest()
        await self.until("it is noted", lambda: not self.bucket.keys("_private"))

    async def test_private_note_unreadable(self) -> None:
        """A note that cannot be read says that the repository is private."""
        await self.warm()
        self.bucket.objects[f"registries/{REGISTRY}/{APP}/_private"] = b"\x00" * 100_000
        node = self.node()
        await self.origin.stop()
        await self.refused(node, self.layer)
