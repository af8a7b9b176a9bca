"""A bucket that is slow, fails, lies, cuts or is not there at all costs a moment, and never a pull."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from crcache.facts import TagEntry
from crcache.flow.tools import Tools
from crcache.grammar.digest import Digest
from crcache.store.records import tag_record
from crcache.testing.script import Fault
from crcache.tier import answer, health
from tests.tier.scene import APP, LAYER, REGISTRY, TAG, Node, TierCase
from tests.web.cases import pause, reactor


class Timed:
    """How long something takes."""

    def __enter__(self) -> Timed:
        self.began = reactor.seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = reactor.seconds() - self.began


class AwayTests(TierCase):
    """It does not answer as it should."""

    patience = 0.3

    async def test_silent(self) -> None:
        """One that takes questions and never answers costs its time once; then it is left alone."""
        node = await self.cold()
        self.bucket.fault(Fault(hold=True), times=None)
        with Timed() as pull:
            await self.pulled(node)
        self.assertLess(pull.seconds, 2 * self.patience + 1)
        asked = len(self.bucket.requests)
        self.assertLessEqual(asked, 2)
        await self.pulled(node)
        self.assertEqual(len(self.bucket.requests), asked)
        self.assertEqual(len(self.events("bucket-failing")), 1)
        described = node.engine.tier.describe()
        assert described is not None
        self.assertIn("did not answer", str(described["problem"]))

    async def test_back(self) -> None:
        """A question of nobody's finds out that it answers again."""
        self.patch(health, "REST", 0.1)
        node = await self.cold()
        held = self.bucket.fault(Fault(hold=True), times=None)
        await node.manifest()
        self.assertEqual(len(self.events("bucket-failing")), 1)
        self.bucket.script.clear()
        self.assertTrue(held.released)
        await self.until("it answers", lambda: self.events("bucket-answers"))
        self.origin.requests.clear()
        self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertEqual(self.origin.requests, [])

    async def test_still_away(self) -> None:
        """As long as it does not, it is asked by nobody else."""
        self.patch(health, "REST", 0.05)
        node = await self.cold()
        self.bucket.fault(Fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>"), times=None)
        await self.pulled(node)
        await self.until("probes", lambda: len([each for each in self.bucket.requests if "probe" in each.path]) > 3)
        self.assertFalse([each for each in self.bucket.requests[8:] if "probe" not in each.path])

    async def test_errors(self) -> None:
        """Errors, hang-ups and resets send each pull to the registry; after a few it is left alone."""
        for fault in (
            Fault(status=500),
            Fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>"),
            Fault(hang_up=True),
            Fault(hang_up=True, reset=True),
            Fault(status=403, body=b"<Error><Code>SignatureDoesNotMatch</Code></Error>"),
            Fault(status=404, body=b"<Error><Code>NoSuchBucket</Code></Error>"),
            Fault(redirect="http://127.0.0.1:9/elsewhere"),
        ):
            node = await self.cold()
            self.bucket.fault(fault, times=None)
            await self.pulled(node)
            self.bucket.script.clear()
            self.assertLess(len(self.bucket.asked(method="GET")), 9, fault)
            await node.stop()
            node.stop = _nothing  # type: ignore[method-assign]
            self.bucket.objects.clear()

    async def test_nobody_listens(self) -> None:
        """A service that is not there at all."""
        node = await self.cold()
        await self.bucket.stop()
        with Timed() as pull:
            await self.pulled(node)
        self.assertLess(pull.seconds, 2)
        self.assertNotEqual(node.waiting(), [])

    async def test_denied(self) -> None:
        """Without the right to list, all that is missing is denied: it is missing, and that is told once."""
        node = self.node()
        self.bucket.fault(Fault(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"), method="GET", times=None)
        await self.pulled(node)
        self.assertEqual(len(self.events("bucket-refused")), 1)
        self.assertEqual(self.events("bucket-failing"), [])

    async def test_no_keys(self) -> None:
        """Without keys registries are asked, and one line says why."""
        import os

        from crcache.tier import signing

        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.patch(signing, "_find", lambda: None)
        node = self.node()
        await self.pulled(node)
        self.assertIn("there are no keys", str(self.logged))
        self.assertEqual(self.bucket.requests, [])

    async def test_slow_body(self) -> None:
        """A body that trickles is given up, and fetched on from the registry."""
        self.patch(answer, "WINDOW", 0.3)
        node = await self.cold()
        self.bucket.fault(Fault(rate=20_000), "content", path=self.layer.hex, times=None)
        await node.manifest()
        with Timed() as pull:
            self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertLess(pull.seconds, 3)
        self.assertEqual(len(self.origin.asked("blob")), 1)

    async def test_stalled_body(self) -> None:
        """So is one that stops coming."""
        self.patch(answer, "WINDOW", 0.3)
        node = await self.cold()
        self.bucket.fault(Fault(stall=100_000), "content", path=self.layer.hex, times=None)
        await node.manifest()
        with Timed() as pull:
            self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertLess(pull.seconds, 3)


class LyingTests(TierCase):
    """What is in the bucket is not what its name says: it is told once, by its name, and nobody gets it."""

    async def lie(self, part: str, data: bytes) -> Node:
        """A cold node, and an object with other bytes."""
        node = await self.cold()
        (key,) = [key for key in self.bucket.objects if part in key]
        self.bucket.objects[key] = data
        return node

    def told(self, part: str) -> None:
        """That very object was named, once."""
        found = self.events("bucket-wrong")
        self.assertEqual([part in event["path"] for event in found], [True], found)

    async def test_layer(self) -> None:
        """A layer with other bytes costs no pull; it is replaced by what the registry has, and then is right."""
        node = await self._wrong_layer()
        await self.pulled(node)
        self.told(self.layer.hex)
        self.assertEqual(len(self.origin.asked("blob")), 1)
        key = f"blobs/sha256/{self.layer.hex}"
        await self.until("it is right again", lambda: self.bucket.objects.get(key) == LAYER)
        self.origin.requests.clear()
        await self.pulled(self.node())
        self.assertEqual(self.origin.requests, [])

    async def _wrong_layer(self) -> Node:
        node = await self.cold()
        self.bucket.objects[f"blobs/sha256/{self.layer.hex}"] = LAYER[:-1] + bytes([LAYER[-1] ^ 1])
        return node

    async def test_layer_in_two_processes(self) -> None:
        """Nor does it cost that of another process' client, who follows the same fill."""
        first = await self._wrong_layer()
        second = self.node(first.root.name)
        await first.manifest()
        held = self.bucket.fault(Fault(stall=200_000, wrong=True), "content", path=self.layer.hex)
        pulls: list[Deferred[bytes]] = [Deferred.fromCoroutine(first.blob(self.layer))]
        await self.until("it comes", lambda: first.engine.fills.running(REGISTRY, self.layer) is not None)
        pulls.append(Deferred.fromCoroutine(second.blob(self.layer)))
        await self.until("it is followed", lambda: any(fill.follows for fill in _fills(second)))
        await pause(0.1)
        held.release()
        for pull in pulls:
            self.assertTrue(await pull == LAYER)

    async def test_layer_undeletable(self) -> None:
        """If it cannot be removed it is overwritten all the same."""
        node = await self._wrong_layer()
        self.bucket.fault(
            Fault(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"), method="DELETE", times=None
        )
        await self.pulled(node)
        key = f"blobs/sha256/{self.layer.hex}"
        await self.until("it is right again", lambda: self.bucket.objects.get(key) == LAYER)

    async def test_layer_of_another_size(self) -> None:
        """One that is too long is not even begun."""
        await self._sized(LAYER + b"more")

    async def test_layer_cut(self) -> None:
        """Nor is one that is too short."""
        await self._sized(LAYER[:1000])

    async def test_layer_empty(self) -> None:
        """Nor an empty one."""
        await self._sized(b"")

    async def _sized(self, data: bytes) -> None:
        node = await self.cold()
        self.bucket.objects[f"blobs/sha256/{self.layer.hex}"] = data
        await self.pulled(node)
        self.told(self.layer.hex)
        self.assertEqual(len(self.origin.asked("blob")), 1)

    async def test_range_ignored(self) -> None:
        """Another range than was asked for is a lie as well."""
        node = await self.cold()
        self.bucket.fault(Fault(cut=100_000), "content", path=self.layer.hex)
        self.bucket.fault(Fault(headers=(("Content-Range", "bytes 5-10/300000"),)), "content", times=None)
        await self.pulled(node)

    async def test_manifest(self) -> None:
        """A manifest with other bytes is the registry's to send."""
        node = await self.cold()
        self.bucket.objects[f"blobs/sha256/{self.top.hex}"] = self.image.manifest.replace(b"{", b"{ ", 1)
        await self.pulled(node)
        self.told(self.top.hex)

    async def test_huge_manifest(self) -> None:
        """One that is larger than any is not read."""
        node = await self.cold()
        self.bucket.objects[f"blobs/sha256/{self.top.hex}"] = b" " * (9 << 20)
        await self.pulled(node)
        self.told(self.top.hex)

    async def test_records(self) -> None:
        """Records that are none, of other things, or huge are as good as nothing."""
        other = Digest.of(b"another")
        for part in ("_tags/", f"_digests/sha256-{self.layer.hex}"):
            for data in (
                b"",
                b"[]",
                b"\xff\xfe",
                b"[" * 60_000,
                b" " * (70 << 10),
                b'{"digest": 7}',
                json.dumps({"digest": str(other), "fetched": "openly", "obtained": "open"}).encode(),
            ):
                self.logged.clear()
                self.bucket.objects.clear()
                node = await self.lie(part, data)
                await self.pulled(node)
                self.told(part)
                self.assertNotEqual(self.origin.requests, [])

    async def test_tag_of_what_is_not_there(self) -> None:
        """A tag that means what neither bucket nor registry has means what the registry says."""
        node = await self.cold()
        entry = TagEntry(Digest.of(b"nothing"), self.image.media_type, 7, 2e9)
        (key,) = self.bucket.keys("_tags/")
        self.bucket.objects[key] = json.dumps(tag_record(entry)).encode()
        self.assertEqual((await node.manifest()).digest, self.top)

    async def test_given_by_nobody(self) -> None:
        """Who is said to give content and does not, gives nothing."""
        node = await self.cold()
        for key in self.bucket.keys("openly/"):
            self.bucket.objects[key] = json.dumps({"registry": "..", "repository": "../x"}).encode()
        await self.pulled(node)

    async def test_kept_waiting(self) -> None:
        """Clients get nothing of a body from the bucket before its verdict; not for longer than a while, though."""
        node = await self.cold()
        held = self.bucket.fault(Fault(stall=200_000), "content", path=self.layer.hex)
        await node.manifest()
        fills = node.engine.fills
        pulling = node.blob(self.layer)
        pull: Deferred[bytes] = Deferred.fromCoroutine(pulling)
        await self.until("it comes", lambda: fills.running(REGISTRY, self.layer) is not None)
        fill = fills.running(REGISTRY, self.layer)
        assert fill is not None
        await self.until("most is there", lambda: fill.readable(0) > 100_000)
        self.assertFalse(fill.opened().called)
        held.release()
        self.assertTrue(await pull == LAYER)

    async def test_not_for_ever(self) -> None:
        """After that while they are let in, and trust the bucket with their time."""
        self.patch(Tools, "doubt", 0.2)
        node = await self.cold()
        object.__setattr__(node.engine.fills._tools, "doubt", 0.2)
        held = self.bucket.fault(Fault(stall=200_000), "content", path=self.layer.hex)
        await node.manifest()
        from crcache.asks import Client, PullBlob

        await node.ask(PullBlob(Client("an-id"), REGISTRY, APP, self.layer))
        self.assertIsNotNone(node.engine.fills.running(REGISTRY, self.layer))
        held.release()
        self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertEqual((await node.manifest(TAG)).digest, self.top)


def _fills(node: Node) -> list[Any]:
    fill = node.engine.fills.running(REGISTRY, Digest.of(LAYER))
    return [] if fill is None else [fill]


async def _nothing() -> None:
    """It has been stopped."""
