"""L{crcache.tier.signing} and L{crcache.tier.bucket}: what is asked, with which keys, and what of it is told."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.settings import S3Settings, UpstreamSettings
from crcache.testing.bucket import FakeBucket
from crcache.testing.certificates import Authority
from crcache.testing.script import Fault
from crcache.tier.bucket import Bucket, Reply
from crcache.tier.health import ERRORS, REST, Health
from crcache.tier.problems import Failed, Wrong
from crcache.tier.signing import Signer
from crcache.workers import Inline
from tests.store.case import logged_by
from tests.tier.test_sending import Keys
from tests.web.cases import AsyncTestCase, reactor


class SignerTests(SynchronousTestCase):
    """Signed URLs."""

    def test_signed(self) -> None:
        """The URL is the same but for its query, which has the signature, the scope and what has to be sent with it."""
        url = Signer("eu-x", Keys).sign("PUT", "https://s3.test/cache/a%3A1/b?partNumber=1", {"If-None-Match": "*"})
        self.assertTrue(url.startswith("https://s3.test/cache/a%3A1/b?partNumber=1&X-Amz-Algorithm=AWS4-HMAC-SHA256"))
        for part in ("eu-x%2Fs3%2Faws4_request", "X-Amz-SignedHeaders=host%3Bif-none-match", "X-Amz-Signature="):
            self.assertIn(part, url)
        self.assertNotIn("a-secret-key", url)

    def test_no_keys(self) -> None:
        """Without keys it says so, and looks again the next time."""
        found: list[Any] = [None, Keys()]
        signer = Signer("r", lambda: found.pop(0))
        problem = self.assertRaises(Failed, signer.sign, "GET", "http://s3.test/cache/x", {})
        self.assertIn("there are no keys", problem.message)
        self.assertTrue(problem.refused)
        self.assertIn("X-Amz-Signature", signer.sign("GET", "http://s3.test/cache/x", {}))

    def test_broken(self) -> None:
        """What goes wrong in finding them is told without what was said there."""

        def find() -> Any:
            raise ValueError("the-secret-of-somebody")

        problem = self.assertRaises(Failed, Signer("r", find).sign, "GET", "http://s3.test/cache/x", {})
        self.assertNotIn("the-secret", problem.message)
        self.assertIn("ValueError", problem.message)

    def test_file(self) -> None:
        """A shared credentials file is read, and read again when that is asked for."""
        path = Path(self.mktemp())
        environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self.patch(
            os, "environ", {**environ, "AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_EC2_METADATA_DISABLED": "1"}
        )
        signer = Signer("r")
        for key in ("FIRST", "SECOND"):
            path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n")
            self.assertIn(f"X-Amz-Credential={key}%2F", signer.sign("GET", "http://s3.test/cache/x", {}))
            signer.forget()


class MachineTests(SynchronousTestCase):
    """Keys that only the machine's metadata service has."""

    def test_role(self) -> None:
        """They are those of the machine's role, with its token, if there are none in the environment or a file."""
        role = {
            "Code": "Success",
            "AccessKeyId": "OFTHEROLE",
            "SecretAccessKey": "a-secret-key",
            "Token": "the-token",
            "Expiration": "2999-01-01T00:00:00Z",
        }
        said = {"": b"node", "node": json.dumps(role).encode()}

        class Metadata(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.answer(b"session" if self.path == "/latest/api/token" else None)

            def do_GET(self) -> None:
                name = self.path.removeprefix("/latest/meta-data/iam/security-credentials/")
                self.answer(said.get(name) if self.headers["X-aws-ec2-metadata-token"] == "session" else None)

            def answer(self, body: bytes | None) -> None:
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        service = HTTPServer(("127.0.0.1", 0), Metadata)
        self.addCleanup(service.server_close)
        thread = Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(service.shutdown)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        nowhere = dict.fromkeys(("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"), self.mktemp())
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{service.server_port}/"}
        self.patch(os, "environ", {**environ, **nowhere, **endpoint})
        url = Signer("r").sign("GET", "http://s3.test/cache/x", {})
        self.assertIn("X-Amz-Credential=OFTHEROLE%2F", url)
        self.assertIn("X-Amz-Security-Token=the-token", url)


class BucketTests(AsyncTestCase):
    """Single questions."""

    def setUp(self) -> None:
        """A service."""
        self.service = FakeBucket()
        self.addCleanup(lambda: self.service.listener and self.service.stop())
        self.logged = logged_by(self)

    def bucket(self, **more: Any) -> Bucket:
        """One at it."""
        settings = S3Settings(**{"bucket": "cache", "endpoint": self.service.url, "timeout": 0.5, **more})
        bucket = Bucket(reactor, settings, UpstreamSettings(), {}, Inline(), Signer("r", Keys))
        self.addCleanup(bucket.close)
        return bucket

    async def fails(self, asking: Deferred[Any]) -> Failed:
        """It does."""
        try:
            await asking
        except Failed as problem:
            return problem
        self.fail("it did not fail")

    async def test_names(self) -> None:
        """Whatever is in a name arrives as it is."""
        self.service.start(reactor)
        key = "a b/registries/127.0.0.1:5001/x+y/_tags/v1.0~&?#%41"
        self.service.objects[key] = b"found"
        reply = await self.bucket().reply("GET", key)
        self.assertEqual((reply.status, reply.body), (200, b"found"))

    async def test_tls(self) -> None:
        """The service's certificate has to be of the configured authority."""
        authority, other = Authority(), Authority()
        directory = Path(self.mktemp())
        directory.mkdir()
        self.service.start(reactor, authority.context())
        self.service.objects["k"] = b"found"
        good = self.bucket(ca=authority.write(directory, "good"), timeout=2.0)
        self.assertEqual((await good.reply("GET", "k")).body, b"found")
        for ca in (None, other.write(directory, "other")):
            problem = await self.fails(Deferred.fromCoroutine(self.bucket(ca=ca, timeout=2.0).reply("GET", "k")))
            self.assertIn("TLS", problem.message)

    async def test_virtual_host(self) -> None:
        """Without path style the bucket is in the host's name."""
        self.service.start(reactor)
        bucket = self.bucket(path_style=False)
        self.assertEqual(bucket._root, self.service.url.replace("//", "//cache.") + "/")

    async def test_too_late(self) -> None:
        """Neither head nor body is waited for longer than is configured; what was signed is in no line of the log."""
        self.service.start(reactor)
        self.service.objects["k"] = b"x" * 1000
        for fault in (Fault(hold=True), Fault(stall=500)):
            self.service.fault(fault)
            problem = await self.fails(Deferred.fromCoroutine(self.bucket().reply("GET", "k")))
            self.assertTrue(problem.silent)
        self.assertNotIn("X-Amz-Signature", str(self.logged))

    async def test_too_long(self) -> None:
        """A body that is longer than is taken is not read, whether its length is said or not."""
        self.service.start(reactor)
        self.service.objects["k"] = b"x" * 100_000
        for fault in (Fault(), Fault(unsized="chunked"), Fault(unsized="close")):
            self.service.fault(fault)
            try:
                await self.bucket().reply("GET", "k")
            except Wrong:
                continue
            self.fail("it was read")

    async def test_cut(self) -> None:
        """A body that breaks off is no body."""
        self.service.start(reactor)
        self.service.objects["k"] = b"x" * 1000
        self.service.fault(Fault(cut=500))
        problem = await self.fails(Deferred.fromCoroutine(self.bucket().reply("GET", "k")))
        self.assertIn("broke", problem.message)

    async def test_judged(self) -> None:
        """What says that something is missing, and what says that something is wrong."""
        self.service.start(reactor)
        bucket, headers = self.bucket(), (await self.bucket().reply("GET", "k")).headers
        for status, code, there in (
            (200, "", True),
            (206, "", True),
            (404, "NoSuchKey", False),
            (404, "", False),
            (403, "AccessDenied", False),
            (403, "InvalidObjectState", False),
        ):
            self.assertIs(bucket.judge(Reply(status, headers, b"", code)), there, (status, code))
        for status, code, refused in (
            (404, "NoSuchBucket", True),
            (403, "SignatureDoesNotMatch", True),
            (403, "RequestTimeTooSkewed", True),
            (301, "PermanentRedirect", True),
            (400, "ExpiredToken", True),
            (500, "InternalError", False),
            (503, "SlowDown", False),
        ):
            problem = self.assertRaises(Failed, bucket.judge, Reply(status, headers, b"", code))
            self.assertIs(problem.refused, refused, (status, code))
            self.assertIn(code, problem.message)


class HealthTests(SynchronousTestCase):
    """L{Health}."""

    def setUp(self) -> None:
        """One whose probes do not end by themselves."""
        self.clock = Clock()
        self.probes: list[Deferred[None]] = []
        self.health = Health(self.clock, "the bucket", self.probe)

    def probe(self) -> Deferred[None]:
        """Note it."""
        self.probes.append(Deferred())
        return self.probes[-1]

    def test_errors(self) -> None:
        """Some errors in a row close it, not some among others."""
        for _ in range(3 * ERRORS):
            self.health.failed(Failed("x"))
            self.health.answered()
        self.assertTrue(self.health.usable)
        for _ in range(ERRORS):
            self.health.failed(Failed("x"))
        self.assertFalse(self.health.usable)
        self.assertEqual(self.health.problem, "x")
        self.health.stop()

    def test_slow(self) -> None:
        """So do answers that take long, one after the other; not one among others."""
        for _ in range(3 * ERRORS):
            self.health.answered(1.5)
            self.health.answered(0.5)
        self.assertTrue(self.health.usable)
        for _ in range(ERRORS):
            self.health.answered(1.5)
        self.assertFalse(self.health.usable)
        self.assertEqual(self.health.problem, "the bucket takes 1.5 s to answer")
        self.health.stop()

    def test_probe_breaks(self) -> None:
        """A probe that fails as nobody expects is followed by another one all the same."""
        self.health.failed(Failed("x", silent=True))
        self.clock.advance(REST)
        self.probes[0].errback(RuntimeError("y"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.clock.advance(REST)
        self.probes[1].callback(None)
        self.assertTrue(self.health.usable)

    def test_silence(self) -> None:
        """One question without an answer does at once; a probe after a while opens it again, or tries again."""
        self.health.failed(Failed("x", silent=True))
        self.assertFalse(self.health.usable)
        self.clock.advance(REST - 1)
        self.assertEqual(self.probes, [])
        self.clock.advance(1)
        self.probes[0].errback(Failed("y"))
        self.assertEqual(self.health.problem, "y")
        self.clock.advance(REST)
        self.assertFalse(self.health.usable)
        self.probes[1].callback(None)
        self.assertTrue(self.health.usable)
        self.assertEqual(self.health.problem, "")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Once stopped it asks no more."""
        self.health.failed(Failed("x", silent=True))
        self.clock.advance(REST)
        self.health.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.health.failed(Failed("x", silent=True))
        self.assertEqual(self.clock.getDelayedCalls(), [])
