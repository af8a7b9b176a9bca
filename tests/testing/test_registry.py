"""The fake registry keeps the API."""

from __future__ import annotations

import hashlib
import json

from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.certificates import Authority
from crcache.testing.content import OCI_INDEX, Content, digest_of
from crcache.testing.registry import FakeRegistry
from tests.testing.harness import RegistryCase
from tests.upstream.harness import eventually


class Behaving(RegistryCase):
    """As the specification says."""

    async def test_ping(self) -> None:
        """The base is there."""
        self.start()
        self.assertEqual((await self.ask("/v2/")).status, 200)

    async def test_manifest(self) -> None:
        """A manifest by tag and digest; HEAD has the same headers and no body."""
        self.start()
        for reference in ("1.0", self.image.digest):
            for method in ("GET", "HEAD"):
                reply = await self.ask(f"/v2/team/app/manifests/{reference}", method)
                self.assertEqual(reply.header("Docker-Content-Digest"), self.image.digest)
                self.assertEqual(reply.header("Content-Type"), self.image.media_type)
                self.assertEqual(reply.body, self.image.manifest if method == "GET" else b"")
        self.assertEqual(digest_of(self.image.manifest), self.image.digest)

    async def test_image(self) -> None:
        """An image's manifest names blobs that are there, with their sizes."""
        self.start()
        manifest = json.loads(self.image.manifest)
        for descriptor in (manifest["config"], *manifest["layers"]):
            reply = await self.ask(f"/v2/team/app/blobs/{descriptor['digest']}")
            self.assertEqual(len(reply.body), descriptor["size"])
            self.assertEqual("sha256:" + hashlib.sha256(reply.body).hexdigest(), descriptor["digest"])

    async def test_index(self) -> None:
        """An index is served under its own media type."""
        fake = self.start()
        digest = fake.content.add_index("team/app", "all", [self.image])
        reply = await self.ask("/v2/team/app/manifests/all")
        self.assertEqual(reply.header("Content-Type"), OCI_INDEX)
        self.assertEqual(digest_of(reply.body), digest)

    async def test_unknown(self) -> None:
        """What is not there is a 404 with the specification's code; a repository does not admit to others' blobs."""
        fake = self.start()
        other = fake.content.add_blob("other", b"theirs")
        for path, code in [
            ("/v2/team/app/manifests/2.0", "MANIFEST_UNKNOWN"),
            (f"/v2/team/app/blobs/{other}", "BLOB_UNKNOWN"),
            ("/v2/nobody/tags/list", "NAME_UNKNOWN"),
            ("/v1/", "NAME_UNKNOWN"),
            ("/token", "NAME_UNKNOWN"),
        ]:
            reply = await self.ask(path)
            self.assertEqual((reply.status, json.loads(reply.body)["errors"][0]["code"]), (404, code))

    async def test_ranges(self) -> None:
        """Closed and open ranges are 206 with `Content-Range`; one behind the end is 416."""
        self.start()
        for spec, part, said in [
            ("bytes=10-19", slice(10, 20), "bytes 10-19/200000"),
            ("bytes=199990-", slice(199_990, None), "bytes 199990-199999/200000"),
            ("bytes=199990-300000", slice(199_990, None), "bytes 199990-199999/200000"),
        ]:
            reply = await self.ask(self.path, Range=spec)
            self.assertEqual((reply.status, reply.header("Content-Range")), (206, said))
            self.assertEqual(reply.body, self.layer[part])
        reply = await self.ask(self.path, Range="bytes=200000-")
        self.assertEqual((reply.status, reply.header("Content-Range")), (416, "bytes */200000"))

    async def test_tags(self) -> None:
        """Tags come in order, in pages."""
        fake = self.start()
        for tag in ("b", "a", "c"):
            fake.content.tags["team/app"][tag] = self.image.digest
        reply = await self.ask("/v2/team/app/tags/list?n=2&last=1.0")
        self.assertEqual(json.loads(reply.body), {"name": "team/app", "tags": ["a", "b"]})
        self.assertEqual(reply.header("Link"), '</v2/team/app/tags/list?n=2&last=b>; rel="next"')

    async def test_referrers(self) -> None:
        """Manifests that name a subject are its referrers."""
        fake = self.start()
        subject = {"subject": {"digest": self.image.digest}}
        digest = fake.content.add_manifest("team/app", json.dumps(subject).encode())
        reply = await self.ask(f"/v2/team/app/referrers/{self.image.digest}")
        self.assertEqual([entry["digest"] for entry in json.loads(reply.body)["manifests"]], [digest])

    async def test_records(self) -> None:
        """Every request is remembered."""
        fake = self.start()
        await self.ask(self.path + "?ns=x", "GET", X_Test="y")
        record = fake.requests[0]
        self.assertEqual((record.method, record.path, record.query, record.kind), ("GET", self.path, "ns=x", "blob"))
        self.assertEqual((record.status, record.sent, record.header("X-Test")), (200, 200_000, "y"))
        await eventually(lambda: record.done)
        self.assertEqual((fake.asked("blob"), fake.asked("blob", "HEAD")), ([record], []))
        self.assertEqual((fake.running, fake.peak), ({"blob": 0}, {"blob": 1}))

    async def test_tls(self) -> None:
        """It listens with TLS, under a certificate that its authority vouches for."""
        authority = Authority()
        self.start(None, authority.context(), authority.certificate)
        self.assertEqual((await self.ask(self.path)).body, self.layer)

    async def test_shared_content(self) -> None:
        """Two may hold the same; the CDN's path gives any blob."""
        self.start()
        content = self.fake.content
        self.assertIs(FakeRegistry(content).content, content)
        self.assertIsInstance(content, Content)
        self.assertEqual((await self.ask(f"/cdn/{self.image.layers[1]}")).body, self.layer)

    def test_not_started(self) -> None:
        """What was not started cannot be stopped."""
        self.assertRaises(RuntimeError, FakeRegistry().stop)


class Asking(RegistryCase):
    """For credentials."""

    async def test_basic(self) -> None:
        """Basic takes the right name and password."""
        self.start(Basic({"me": "pass"}))
        reply = await self.ask(self.path)
        self.assertEqual((reply.status, reply.header("WWW-Authenticate")), (401, 'Basic realm="fake registry"'))
        self.assertEqual((await self.ask(self.path, Authorization=basic("me", "wrong"))).status, 401)
        self.assertEqual((await self.ask(self.path, Authorization="Basic !")).status, 401)
        self.assertEqual((await self.ask(self.path, Authorization=basic("me", "pass"))).status, 200)

    async def test_token(self) -> None:
        """A token from the realm opens its own repository; the realm knows its users."""
        tokens = Tokens(users={"me": "pass"}, anonymous=("public/",), name="both", expires_in=None)
        fake = self.start(tokens)
        challenge = (await self.ask(self.path)).header("WWW-Authenticate")
        self.assertEqual(challenge, f'Bearer realm="{fake.url}/token",service="fake",scope="repository:team/app:pull"')
        scope = "/token?service=fake&scope=repository:team/app:pull"
        self.assertEqual((await self.ask(scope, Authorization=basic("me", "wrong"))).status, 401)
        anonymous = json.loads((await self.ask(scope)).body)
        self.assertEqual(set(anonymous), {"token", "access_token"})
        self.assertEqual((await self.ask(self.path, Authorization=f"Bearer {anonymous['token']}")).status, 401)
        token = json.loads((await self.ask(scope, Authorization=basic("me", "pass"))).body)["token"]
        self.assertEqual((await self.ask(self.path, Authorization=f"Bearer {token}")).status, 200)
        tokens.revoke()
        self.assertEqual((await self.ask(self.path, Authorization=f"Bearer {token}")).status, 401)
        self.assertEqual([request.status for request in tokens.requests], [401, 200, 200])
        self.assertEqual([request.user for request in tokens.requests], [None, None, "me"])

    def test_lifetime(self) -> None:
        """A token is accepted for its lifetime."""
        now = [0.0]
        tokens = Tokens(lifetime=10, clock=lambda: now[0])
        bearer = "Bearer " + tokens.issue(None, ["repository:a:pull"])
        self.assertIsNone(tokens.challenge(bearer, "a", ""))
        self.assertIsNotNone(tokens.challenge(bearer, "b", ""))
        now[0] = 10
        self.assertIn('error="invalid_token"', tokens.challenge(bearer, "a", "") or "")
