"""What nobody expects of libraries, disks, services and clocks: none of it costs a pull, or stops uploads for good."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from crcache.asks import Client, PullBlob
from crcache.errors import CrcacheError
from crcache.facts import TagEntry
from crcache.flow.collect import collect
from crcache.outcomes import Relayed
from crcache.settings import Bounds
from crcache.store.records import tag_from, tag_record
from crcache.testing.bucket import FakeBucket
from crcache.testing.script import Fault
from crcache.tier import sending, uploads
from crcache.tier.bucket import Bucket
from crcache.tier.queue import Queue
from tests.tier.scene import APP, LAYER, REGISTRY, TAG, TierCase
from tests.web.cases import pause, reactor


class LibraryTests(TierCase):
    """botocore is there and cannot be used."""

    async def test_broken(self) -> None:
        """A library that is taken away, or lacks one of its own, is a bucket that is missing."""
        import botocore.auth

        node = self.node()
        self.addCleanup(sys.modules.__setitem__, "botocore.auth", botocore.auth)
        sys.modules["botocore.auth"] = None  # type: ignore[assignment]
        await self.pulled(node)
        self.assertEqual(len(self.events("bucket-failing")), 1)
        self.assertEqual([event for event in self.logged if event.get("log_failure")], [])


class DiskTests(TierCase):
    """What is to be uploaded cannot be read."""

    async def test_unreadable(self) -> None:
        """A file in a bad place of the disk is put off; what comes after it is uploaded."""
        whole = sending._sums

        def sums(file: Any, digest: Any, part: int, stop: Any) -> Any:
            if digest == self.layer:
                raise OSError(errno.EIO, "Input/output error")
            return whole(file, digest, part, stop)

        self.patch(sending, "_sums", sums)
        node = self.node()
        await self.pulled(node)
        await self.until("only that waits", lambda: len(node.waiting()) == 1)
        self.assertEqual(len(self.bucket.keys("blobs/")), 2)
        (name,) = node.waiting()
        tries = lambda: json.loads((node.root / "uploads" / name).read_text())["tries"]  # noqa: E731
        await self.until("it is put off", lambda: tries() == 1)
        self.assertEqual([event for event in self.logged if event.get("log_failure")], [])
        self.patch(sending, "_sums", whole)
        self.patch(Queue, "due", _everything(Queue.due))
        await self.uploaded(node)
        self.assertEqual(len(self.bucket.keys("blobs/")), 3)


class ServiceTests(TierCase):
    """A service that does odd things."""

    async def test_one_fails_for_ever(self) -> None:
        """When what failed is not tried any more nothing is said to be wrong any more."""
        self.patch(uploads, "GIVEN_UP", -1.0)
        self.bucket.fault(Fault(status=500), "content", method="PUT", path=self.layer.hex, times=None)
        node = self.node()
        await self.pulled(node)
        await self.uploaded(node)
        await self.until("it was given up", lambda: self.events("upload-dropped"))
        described = node.engine.tier.describe
        await self.until("nothing is wrong", lambda: (described() or {})["problem"] is None)

    async def test_upload_gone(self) -> None:
        """A multipart upload that somebody ends from outside is begun again, and nothing else has to wait for it."""
        self.patch(sending, "LARGE", 200_000)
        self.patch(uploads, "PAUSES", (0.01, 0.01))
        self.patch(sending.Sending.__init__, "__defaults__", (200_000, 100_000))
        gone = Fault(status=404, body=b"<Error><Code>NoSuchUpload</Code></Error>")
        self.bucket.fault(gone, "content", method="PUT", path=self.layer.hex)
        node = self.node()
        await self.pulled(node)
        await self.uploaded(node)
        self.assertEqual(len(self.bucket.keys("blobs/")), 3)
        self.assertEqual(self.events("bucket-refused"), [])

    async def test_always_slow(self) -> None:
        """One that answers just in time each time is left alone after a few answers."""
        node = await self.cold()
        running = node.engine.tier._running
        assert running is not None
        running.health._slow = 0.2
        ask = Bucket.ask

        async def slowly(bucket: Bucket, *arguments: Any, **more: Any) -> Any:
            await pause(0.3)
            return await ask(bucket, *arguments, **more)

        self.patch(Bucket, "ask", slowly)
        await self.pulled(node)
        self.assertFalse(running.health.usable)
        asked = [each for each in self.bucket.requests if each.method == "GET"]
        self.assertLessEqual(len(asked), 4)

    async def test_cut_without_registry(self) -> None:
        """With the registry down, a body that breaks off in the bucket is gone on with there."""
        node = await self.cold()
        await self.origin.stop()
        self.bucket.fault(Fault(cut=100_000, reset=True), "content", path=self.layer.hex)
        await node.manifest()
        self.assertTrue(await node.blob(self.layer) == LAYER)
        self.assertEqual(len(self.bucket.asked("content", "GET")), 3)

    async def test_lies_without_registry(self) -> None:
        """But not if it is wrong: that ends."""
        node = await self.cold()
        await self.origin.stop()
        self.bucket.objects[f"blobs/sha256/{self.layer.hex}"] = b"x" + LAYER[1:]
        await node.manifest()
        try:
            await node.blob(self.layer)
        except CrcacheError:
            pass
        else:
            self.fail("it was served")


class RelayTests(TierCase):
    """What is not kept is relayed."""

    async def test_lies(self) -> None:
        """Of what no fill checks before its client has it nothing is taken from the bucket."""
        node = await self.cold()
        self.bucket.objects[f"blobs/sha256/{self.layer.hex}"] = b"x" + LAYER[1:]
        await node.manifest()
        bounds = Bounds(100_000, 0, 1.0, 0.9)
        node.engine.use(replace(node.engine.config.now, bounds=bounds))
        found = await node.ask(PullBlob(Client("an-id"), REGISTRY, APP, self.layer, True))
        self.assertIsInstance(found, Relayed)
        self.assertTrue(await collect(found.answer, 1 << 20) == LAYER)


class ClockTests(TierCase):
    """A node whose clock is wrong."""

    async def test_from_the_future(self) -> None:
        """What it says of a tag is replaced by those whose clocks are right."""
        node = await self.warm()
        (key,) = self.bucket.keys("_tags/")
        right = tag_from(json.loads(self.bucket.objects[key]))
        assert right is not None
        wrong = TagEntry(self.layer, right.media_type, right.size, time.time() + 1e8, True)
        self.bucket.objects[key] = json.dumps(tag_record(wrong)).encode()
        other = self.node()
        await other.engine.store.forget_tag(*_where(self))
        await node.engine.tier._running.noting.tag(*_where(self))  # type: ignore[union-attr]
        await self.uploaded(node)
        self.assertEqual(tag_from(json.loads(self.bucket.objects[key])), right)


class EndTests(TierCase):
    """Things come to an end."""

    async def test_reloads(self) -> None:
        """Of buckets that reloads have replaced nothing is left."""
        other = FakeBucket()
        other.start(reactor)
        self.addCleanup(other.stop)
        node = await self.warm()
        config = node.engine.config.now
        for number in range(6):
            url = other.url if number % 2 == 0 else self.bucket.url
            node.engine.use(replace(config, s3=self.settings(endpoint=url)))
            await self.pulled(node)
        tier = node.engine.tier
        await self.until("none is left", lambda: not tier._before)
        await self.pulled(self.node())

    async def test_hashing_ends(self) -> None:
        """Whoever stops does not wait until a large file has been hashed."""
        steps: list[int] = []
        real = os.preadv

        def slow(*arguments: Any) -> Any:
            steps.append(1)
            time.sleep(0.05)
            return real(*arguments)

        self.patch(sending, "_PIECE", 1000)
        self.patch(os, "preadv", slow)
        node = self.node()
        await self.pulled(node)
        await self.until("it is hashed", lambda: len(steps) > 3)
        running = node.engine.tier._running
        assert running is not None
        stopping: Deferred[None] = running._uploads.stop()
        with contextlib.suppress(CancelledError):
            await stopping
        await pause(0.2)
        count = len(steps)
        await pause(0.3)
        self.assertEqual(len(steps), count)


def _where(case: TierCase) -> Any:
    return REGISTRY, APP, TAG


def _everything(due: Any) -> Any:
    def everything(queue: Queue, most: int) -> Any:
        return queue._names(), None

    return everything
