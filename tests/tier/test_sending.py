"""L{crcache.tier.sending}: content in one piece or in parts, and nothing else."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any, BinaryIO

from crcache.grammar.digest import Digest
from crcache.settings import S3Settings, UpstreamSettings
from crcache.testing.bucket import FakeBucket
from crcache.testing.script import Fault
from crcache.tier.bucket import Bucket
from crcache.tier.problems import Elsewhere, Failed, Wrong
from crcache.tier.sending import Sending
from crcache.tier.signing import Signer
from crcache.workers import Workers
from tests.web.cases import AsyncTestCase, reactor

DATA = os.urandom(1_000_003)
DIGEST = Digest.of(DATA)


class Keys:
    """As botocore's credentials."""

    access_key, secret_key, token = "AKEY", "a-secret-key", None

    def get_frozen_credentials(self) -> Keys:
        """They do not change."""
        return self


class SendingTests(AsyncTestCase):
    """To a bucket in memory, in parts of 100,000 bytes from 300,000 on."""

    def setUp(self) -> None:
        """Begin it."""
        self.service = FakeBucket()
        self.service.start(reactor)
        self.addCleanup(self.service.stop)
        self.workers = Workers(reactor, 2, "test")
        self.workers.start()
        self.addCleanup(self.workers.stop)
        settings = S3Settings("cache", self.service.url)
        self.bucket = Bucket(reactor, settings, UpstreamSettings(), {}, self.workers, Signer("r", Keys))
        self.addCleanup(self.bucket.close)
        self.sending = Sending(self.bucket, self.workers, 300_000, 100_000)
        self.uploads: list[str] = []

    def file(self, data: bytes) -> BinaryIO:
        """With these bytes."""
        file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        file.write(data)
        self.addCleanup(file.close)
        return file  # type: ignore[no-any-return]

    async def put(self, data: bytes, digest: Digest | None = None, **more: Any) -> int | None:
        """Upload it."""

        async def began(upload: str) -> None:
            self.uploads.append(upload)

        return await self.sending.put("k", self.file(data), digest or Digest.of(data), began, **more)

    async def test_sizes(self) -> None:
        """Whatever the size, what is there is what was sent."""
        for size in (0, 1, 299_999, 300_000, 300_001, 400_000, len(DATA)):
            data = DATA[:size]
            self.service.objects.clear()
            self.assertEqual(await self.put(data), size)
            self.assertTrue(self.service.objects["k"] == data, size)
        self.assertEqual(self.service.uploads, {})
        self.assertEqual(self.uploads[-2:], ["upload-4", ""])
        parts = [record for record in self.service.asked(method="PUT") if "upload-4" in record.query]
        self.assertEqual(len(parts), 11)

    async def test_sha512(self) -> None:
        """Digests of the other algorithm as well."""
        await self.put(DATA, Digest.of(DATA, "sha512"))
        self.assertTrue(self.service.objects["k"] == DATA)

    async def test_wrong(self) -> None:
        """Other bytes than the digest's are not sent, in one piece or in parts."""
        for data in (DATA, DATA[:1000]):
            try:
                await self.put(data, Digest.of(b"another"))
            except Wrong:
                continue
            self.fail("it was uploaded")
        self.assertEqual(self.service.requests, [])

    async def test_part_fails(self) -> None:
        """A part that is refused ends all of it: nothing is there, and no parts are left behind."""
        self.service.fault(Fault(status=500), method="PUT", skip=4)
        try:
            await self.put(DATA)
        except Failed:
            pass
        else:
            self.fail("it was uploaded")
        self.assertEqual((self.service.objects, self.service.uploads), ({}, {}))

    async def test_completion_fails_late(self) -> None:
        """A completion that begins well and says then that it has failed has failed."""
        self.service.fault(Fault(status=200, body=b"<Error><Code>InternalError</Code></Error>"), method="POST", skip=1)
        try:
            await self.put(DATA)
        except Failed as problem:
            self.assertIn("200", problem.message)
        else:
            self.fail("it was uploaded")
        self.assertEqual(self.service.uploads, {})

    async def test_over(self) -> None:
        """What is there stays, and somebody was faster; unless it is to be replaced."""
        self.service.objects["k"] = b"before"
        self.assertIsNone(await self.put(b"after"))
        self.assertEqual(self.service.objects["k"], b"before")
        self.assertEqual(await self.put(b"after", over=True), 5)
        self.assertEqual(self.service.objects["k"], b"after")

    async def test_somebody_else(self) -> None:
        """Of those who upload the same in parts the first goes on; what was begun long ago is nobody's any more."""
        self.service.begun["other"] = "k", time.time() - 10
        self.service.uploads["other"] = {}
        try:
            await self.put(DATA)
        except Elsewhere:
            pass
        else:
            self.fail("it was uploaded")
        self.assertEqual(list(self.service.uploads), ["other"])
        self.assertEqual(self.uploads, ["upload-1", ""])
        for key, ago in (("k", -10), ("k", 2 * 3600), ("kk", 10)):
            self.service.objects.clear()
            self.service.begun["other"] = key, time.time() - ago
            self.assertEqual(await self.put(DATA), len(DATA))
            self.assertTrue(self.service.objects["k"] == DATA)

    async def test_done_meanwhile(self) -> None:
        """Of what somebody else has come to an end with while it was hashed no part is sent."""
        data = os.urandom(400_000)
        begin = FakeBucket._multipart

        def multipart(bucket: FakeBucket, method: str, key: str, *more: Any) -> Any:
            bucket.objects[key] = data
            return begin(bucket, method, key, *more)

        self.patch(FakeBucket, "_multipart", multipart)
        self.assertIsNone(await self.put(data))
        self.assertEqual(self.service.asked(method="PUT"), [])
        self.assertEqual((self.service.uploads, self.uploads[-1]), ({}, ""))

    async def test_not_told(self) -> None:
        """Where nobody says who else uploads it, it is uploaded."""
        self.service.fault(Fault(status=403), method="GET")
        self.assertEqual(await self.put(DATA), len(DATA))

    async def test_cut_meanwhile(self) -> None:
        """A file that becomes shorter while it is sent is not completed."""
        file = self.file(DATA)

        async def began(upload: str) -> None:
            os.ftruncate(file.fileno(), 150_000)

        try:
            await self.sending.put("k", file, DIGEST, began)
        except (Failed, Wrong):
            pass
        else:
            self.fail("it was uploaded")
        self.assertEqual(self.service.objects, {})

    async def test_changed_meanwhile(self) -> None:
        """Nor is one that is changed."""
        file = self.file(DATA)

        async def began(upload: str) -> None:
            os.pwrite(file.fileno(), b"xxx", 500_000)

        try:
            await self.sending.put("k", file, DIGEST, began)
        except Failed as problem:
            self.assertIn("BadDigest", problem.message)
        else:
            self.fail("it was uploaded")
        self.assertEqual((self.service.objects, self.service.uploads), ({}, {}))
