"""What operators see of pulls: metrics, health, logs; and what nobody sees of credentials."""

from __future__ import annotations

import json
from base64 import b64encode

from twisted.logger import LogEvent, eventAsText

from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.content import digest_of, noise
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, eventually, manifest_path, remove
from tests.web.cases import pause

DATA = noise(100_000)


class MetricsTests(ClientCase):
    """`/metrics`."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)

    async def test_requests(self) -> None:
        """Requests and sent bytes are counted by registry, kind, status and cache."""
        for _ in range(2):
            await self.ask(blob_path(self.digest))
            await self.settled()
        await self.ask(blob_path(digest_of(b"absent")))
        requests = "crcache_requests_total"
        named = {"registry": NAME, "kind": "blob"}
        self.assertEqual(await self.metric(requests, **named, status="200", cache="miss"), 1.0)
        self.assertEqual(await self.metric(requests, **named, status="200", cache="hit"), 1.0)
        self.assertEqual(await self.metric(requests, **named, status="404", cache="none"), 1.0)
        for cache in ("miss", "hit"):
            self.assertEqual(await self.metric("crcache_sent_bytes_total", registry=NAME, cache=cache), len(DATA))
        self.assertEqual(await self.metric("crcache_time_to_first_byte_seconds_count", cache="hit"), 1.0)

    async def test_upstream(self) -> None:
        """So are questions put to origins, bytes that came from them, and what they say of their limits."""
        limit = Fault(headers=(("RateLimit-Remaining", "99;w=21600"),))
        self.origin.fault(limit, "blob", times=None)
        await self.ask(blob_path(self.digest))
        await self.settled()
        await self.ask(blob_path(self.digest), method="HEAD")
        asked = {"registry": NAME, "kind": "blob", "status": "200"}
        self.assertEqual(await self.metric("crcache_upstream_requests_total", **asked), 1.0)
        self.assertEqual(await self.metric("crcache_upstream_bytes_total", registry=NAME), len(DATA))
        self.assertEqual(await self.metric("crcache_upstream_rate_limit_remaining", registry=NAME), 99.0)

    async def test_labels_are_bounded(self) -> None:
        """A registry that nobody has configured is counted as C{other}."""
        self.cache = self.instance(upstream=IMPATIENT)
        for name in ("a.invalid", "b.invalid"):
            self.assertEqual((await self.ask(blob_path(self.digest, ns=name))).status, 502)
        self.assertEqual(await self.metric("crcache_requests_total", registry="other"), 2.0)
        self.assertNotIn(b"a.invalid", (await self.admin("/metrics")).body)

    async def test_status(self) -> None:
        """`/api/status` says what runs, and which fills."""
        stall = self.origin.fault(Fault(stall=70_000), "blob")
        answer = await self.begin(blob_path(self.digest))
        await answer.until(0)
        status = json.loads((await self.admin("/api/status")).body)
        (fill,) = status["fills"]
        self.assertEqual((fill["registry"], fill["digest"], fill["size"]), (NAME, self.digest, len(DATA)))
        self.assertIn(f"127.0.0.1:{self.cache.port}", status["listeners"])
        stall.release()
        await answer.end()


class HealthTests(ClientCase):
    """`/healthz` and `/readyz`."""

    async def test_ready(self) -> None:
        """Ready, until the cache directory is gone; then 503 with the reason, until it is back."""
        directory = self.cache.config.cache_directory
        self.assertEqual((await self.admin("/healthz")).status, 200)
        self.assertEqual((await self.admin("/readyz")).status, 200)
        remove(directory)
        answer = await self.admin("/readyz")
        self.assertEqual(answer.status, 503)
        (reason,) = json.loads(answer.body)["reasons"]
        self.assertIn(str(directory), reason)
        self.assertEqual((await self.admin("/healthz")).status, 200)
        directory.mkdir()
        self.assertEqual((await self.admin("/readyz")).status, 200)
        image = self.origin.add_image(REPO, "1.0")
        for cache in ("crcache; fwd=miss; stored", "crcache; hit"):
            answer = await self.ask(blob_path(image.layers[0]))
            self.assertEqual(answer.one("Cache-Status"), cache)
            await self.settled()

    async def test_pulls_without_it(self) -> None:
        """Pulls go on while the cache directory is gone."""
        image = self.origin.add_image(REPO, "1.0")
        remove(self.cache.config.cache_directory)
        for _ in range(2):
            self.assertEqual((await self.ask(manifest_path("1.0"))).body, image.manifest)
            answer = await self.ask(blob_path(image.layers[0]))
            self.assertTrue(answer.complete)
            self.assertEqual(digest_of(answer.body), image.layers[0])


class LogTests(ClientCase):
    """The log."""

    def lines(self, level: str | None = None) -> list[str]:
        """What has been logged, as text."""
        return [eventAsText(each) for each in self.events if level is None or each["log_level"].name == level]

    def requests(self) -> list[LogEvent]:
        """The events of requests."""
        return [event for event in self.events if event.get("log_namespace", "").startswith("crcache.web.requestlog")]

    async def test_one_line(self) -> None:
        """Each request is one line with all that one looks for."""
        image = self.origin.add_image(REPO, "1.0")
        layer = image.layers[1]
        await self.ask(manifest_path("1.0"), ("X-Request-Id", "pull-1"))
        await self.ask(blob_path(layer), ("X-Request-Id", "pull-2"))
        await self.ask(manifest_path("2.0"), ("X-Request-Id", "pull-3"))
        await eventually(lambda: len(self.requests()) == 3)
        fields = ("registry", "repository", "reference", "status", "bytes", "cache", "request_id")
        self.assertEqual(
            [tuple(event[field] for field in fields) for event in self.requests()],
            [
                (NAME, REPO, "1.0", 200, len(image.manifest), "miss", "pull-1"),
                (NAME, REPO, layer, 200, 2000, "miss", "pull-2"),
                (NAME, REPO, "2.0", 404, self.requests()[2]["bytes"], "none", "pull-3"),
            ],
        )
        self.assertTrue(all(event["seconds"] >= 0 for event in self.requests()))

    async def test_quiet(self) -> None:
        """An ordinary pull gives no reason to warn, and neither does a client that leaves."""
        image = self.origin.add_image(REPO, "1.0", [DATA])
        for _ in range(2):
            await self.ask(manifest_path("1.0"))
            await self.ask(blob_path(image.layers[0]))
        self.origin.fault(Fault(stall=70_000), "blob")
        leaving = await self.begin(blob_path(self.origin.content.add_blob(REPO, DATA[::-1])))
        await leaving.until(0)
        leaving.leave()
        await leaving.end()
        await self.cache.stop()
        for level in ("warn", "error", "critical"):
            self.assertEqual(self.lines(level), [])

    async def test_no_credentials(self) -> None:
        """No credential is in any event of any level: administrators', clients', tokens, right and wrong ones."""
        secrets = ["s3cr3t-of-the-admin", "s3cr3t-of-the-client", "s3cr3t-wrong"]
        registry = Registry(NAME)
        wrong = "s3cr3t-wrong"
        for password in ("s3cr3t-of-the-admin", wrong):
            for auth in (
                Tokens(users={"admin": "s3cr3t-of-the-admin", "alice": "s3cr3t-of-the-client"}, anonymous=()),
                Basic({"admin": "s3cr3t-of-the-admin", "alice": "s3cr3t-of-the-client"}),
            ):
                credential = Credential("admin", Secret(password))
                self.cache = self.instance(upstream=IMPATIENT, credentials=Credentials({(registry, ()): credential}))
                self.origin.auth = auth
                image = self.origin.add_image(REPO, "1.0", [DATA])
                authorizations = [basic("alice", "s3cr3t-of-the-client"), basic("alice", wrong)]
                if isinstance(auth, Tokens):
                    authorizations.append("Bearer " + auth.issue("alice", [f"repository:{REPO}:pull"]))
                self.origin.fault(Fault(cut=1000), "blob", skip=1)
                for authorization in authorizations:
                    for target in (manifest_path("1.0"), blob_path(image.layers[0]), blob_path(digest_of(b"absent"))):
                        await self.ask(target, ("Authorization", authorization))
                    await self.ask(f"/v2/UPPER/tags/list?ns={NAME}", ("Authorization", authorization))
                shown = [(await self.admin(path)).body.decode() for path in ("/api/status", "/metrics", "/readyz")]
                if isinstance(auth, Tokens):
                    secrets += list(auth._tokens)
                self.origin.script.clear()
        secrets += [
            b64encode(f"{user}:{each}".encode()).decode() for user in ("admin", "alice") for each in secrets[:3]
        ]
        await pause(0.02)
        everything = "\n".join([*self.lines(), *map(repr, self.events), *shown])
        self.assertIn(NAME, everything)
        self.assertGreater(len(secrets), 10)
        for secret in secrets:
            self.assertNotIn(secret, everything)
