"""Nodes with directories of their own, and one bucket of a real S3 service, in front of a real registry."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from crcache.settings import S3Settings
from tests.real.daemon import Daemon
from tests.real.images import MIB, Image, make_image
from tests.real.processes import run, until
from tests.real.radosgw import KEY, SECRET, RadosGateway, gateway
from tests.real.registries import DockerRegistry, push
from tests.real.scene import CURL, Scene, digest_of
from tests.store import conformance
from tests.tier.case import BehindCase

_NAME = "registry.test"
_REPOSITORY = "team/app"


class NodesTests(Scene):
    """An image, one of whose layers goes to the bucket in parts."""

    def setUp(self) -> None:
        """Begin the registry, and have a bucket."""
        super().setUp()
        with ThreadPoolExecutor() as pushing:
            # The service takes a while to begin.
            pushed = pushing.submit(_pushed)
            self.gateway: RadosGateway = gateway()
            self.image, storage = pushed.result()
        self.origin = self.ending(DockerRegistry(self.place("origin"), storage))
        self.bucket = self.gateway.bucket()
        keys = self.directory / "keys"
        keys.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(keys)
        self.addCleanup(os.environ.pop, "AWS_SHARED_CREDENTIALS_FILE", None)

    def node(self, name: str, **more: Any) -> Daemon:
        """One with a directory of its own."""
        s3 = {"bucket": self.bucket, "endpoint": self.gateway.url, **more}
        registries = {_NAME: {"url": self.origin.url}}
        return self.crcache(self.directory / name, registries, settings={"cache": {"s3": s3}})

    def pull(self, node: Daemon) -> float:
        """All of the image, by its tag, as a client without a cache; the seconds that it took."""
        base, began = f"{node.url}/v2/{_REPOSITORY}", time.monotonic()
        body = self.directory / f"body-{node.port}"

        def get(path: str, digest: str) -> None:
            run([*CURL, "--fail", "--output", str(body), f"{base}/{path}?ns={_NAME}"])
            self.assertEqual(digest_of(body), digest)

        get(f"manifests/{self.image.tag}", self.image.top)
        get(f"manifests/{self.image.top}", self.image.top)
        for digest in self.image.blobs:
            get(f"blobs/{digest}", digest)
        return time.monotonic() - began

    def uploaded(self) -> None:
        """Wait until the image is in the bucket, with all that is known of it."""
        wanted = (("blobs/", 5), ("_digests/", 5), ("openly/", 5), ("_tags/", 1))

        def all_there() -> bool:
            return all(len(self.gateway.keys(self.bucket, part)) == count for part, count in wanted)

        until("the uploads", all_there, 30)

    def test_second_node(self) -> None:
        """Of two nodes that have pulled the same at once one uploads each thing. Bytes in the bucket that are not what
        their name says cost a third's pull no more than time, and are replaced. A fourth's cold pull sends nothing to
        the registry, which need not be there, by its tag either."""
        first, other = self.node("one"), self.node("other")
        with ThreadPoolExecutor() as pulling:
            for pulled in [pulling.submit(self.pull, node) for node in (first, other)]:
                pulled.result()
        self.uploaded()
        self.assertEqual(
            {key.rpartition("/")[2] for key in self.gateway.keys(self.bucket, "blobs/")},
            {digest.partition(":")[2] for digest in self.image.digests},
        )
        third = self._lied_to()
        self.origin.stop()
        fourth = self.node("four")
        self.pull(fourth)
        status = json.loads(fourth.admin("/api/status"))["s3"]
        self.assertEqual((status["problem"], status["uploads"], status["waiting"]), (None, 0, 0))
        self.assertGreater(status["received"], 70 * MIB)
        self.assertGreater(fourth.metrics("crcache_s3_answers_total", result="hit"), 5)
        self.assertEqual(fourth.metrics("crcache_upstream_requests_total"), 0)
        self._once()
        self.assertEqual(self.gateway.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", []), [])
        # In no line of theirs is a signature, or a key.
        for node in (first, other, third, fourth):
            self.assertNotIn("X-Amz-Signature", node.said())
            self.assertNotIn(SECRET, node.said())

    def _once(self) -> None:
        """Each content was uploaded once, but for what has been replaced."""
        for key in set(self.gateway.keys(self.bucket, "blobs/")) - {self.replaced}:
            parts = 3 if key.endswith(self.image.largest.partition(":")[2]) else 1
            done = [status for status in self.gateway.answered("PUT", f"{self.bucket}/{key}") if status == 200]
            self.assertEqual(len(done), parts, key)

    def _lied_to(self) -> Daemon:
        client = self.gateway.client()
        digest, size = next((each, size) for each, size in self.image.blobs.items() if 4 * MIB < size < 10 * MIB)
        (key,) = self.gateway.keys(self.bucket, f"blobs/sha256/{digest.partition(':')[2]}")
        self.replaced = key
        client.put_object(Bucket=self.bucket, Key=key, Body=b"\0" * size)
        node = self.node("three")
        self.pull(node)
        self.assertIn(key, node.said())

        def right() -> bool:
            keys = self.gateway.keys(self.bucket, key)
            return bool(keys) and client.get_object(Bucket=self.bucket, Key=key)["Body"].read(4) != b"\0" * 4

        until("it is right again", right, 30)
        return node

    def test_killed(self) -> None:
        """A service that dies costs a moment once; what is pulled meanwhile is uploaded when it is back, by another
        process even; and a daemon that is killed in mid-upload leaves nothing undone, and no parts behind."""
        self.gateway.kill()
        self.addCleanup(self._serve)
        node = self.node("one")
        self.assertLess(self.pull(node), 10)
        self.assertGreater(waiting(node), 0)
        node.stop()
        self._serve()
        for file in (node.cache / "uploads").iterdir():
            # As if the pause after a failure were over.
            file.write_text(json.dumps({**json.loads(file.read_text()), "after": 0}))
        node.restart()
        uploads = self.gateway.client()
        largest = self.image.largest.partition(":")[2]
        begun = lambda: uploads.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])  # noqa: E731
        until("parts are uploaded", lambda: bool(begun()) or bool(self.gateway.keys(self.bucket, largest)))
        node.kill()
        node.restart()
        self.uploaded()
        until("nothing waits", lambda: not waiting(node))
        self.assertEqual(begun(), [])

    def _serve(self) -> None:
        if not self.gateway.alive:
            self.gateway.serve()

    def test_wrong_keys(self) -> None:
        """With keys that open nothing registries are asked, and one line says what is wrong."""
        (self.directory / "keys").write_text("[default]\naws_access_key_id = x\naws_secret_access_key = y\n")
        node = self.node("one")
        self.assertLess(self.pull(node), 10)
        self.assertIn("InvalidAccessKeyId", node.said())
        self.assertEqual(self.gateway.keys(self.bucket), [])


@functools.cache
def _pushed() -> tuple[Image, Path]:
    """The image, and what a registry that has it keeps it in."""
    directory = Path(tempfile.mkdtemp(prefix="crcache-real-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    image = make_image(directory / "layout", "1.0", [MIB, 5 * MIB, 65 * MIB])
    registry = DockerRegistry(directory, directory / "storage")
    push(image, registry, _REPOSITORY)
    registry.stop()
    return image, directory / "storage"


def waiting(node: Daemon) -> int:
    """How many uploads wait."""
    return len(list(Path(node.cache / "uploads").glob("[0-9a-f]*")))


class RealCase(BehindCase):
    """Behind the directory, a bucket of the service; each test has a prefix of its own."""

    def s3(self) -> S3Settings:
        """Where it is."""
        self.set_keys(KEY, SECRET)
        return S3Settings(_shared(), gateway().url, prefix=f"{uuid.uuid4().hex}/")


class TieredTests(RealCase, conformance.Conformance):
    """A store in front of a real bucket."""


_buckets: list[str] = []


def _shared() -> str:
    if not _buckets:
        _buckets.append(gateway().bucket())
    return _buckets[0]
