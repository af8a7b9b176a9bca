"""Private content: challenges, tokens, and who gets what they open."""

from __future__ import annotations

from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.testing.auth import Auth, Basic, Tokens, basic
from crcache.testing.content import digest_of, noise
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.test_containerd import RESOLVE


class CredentialTests(ClientCase):
    """containerd presents credentials only after a 401, and fetches Bearer tokens itself."""

    def setUp(self) -> None:
        super().setUp()
        self.tokens = Tokens(users={"alice": "wonderland"}, anonymous=())
        self.origin.auth = self.tokens
        self.image = self.origin.add_image(REPO, "1.0")

    async def test_bearer(self) -> None:
        """The origin's own challenge comes through unchanged, and the token that it leads to opens the origin."""
        refused = await self.ask(manifest_path("1.0"), RESOLVE, method="HEAD")
        self.assertEqual(refused.status, 401)
        challenge = f'Bearer realm="{self.origin.url}/token",service="fake",scope="repository:{REPO}:pull"'
        (line,) = refused.all("WWW-Authenticate")
        self.assertTrue(line.startswith(challenge), line)
        token = self.tokens.issue("alice", [f"repository:{REPO}:pull"])
        bearer = ("Authorization", f"Bearer {token}")
        head = await self.ask(manifest_path("1.0"), RESOLVE, bearer, method="HEAD")
        self.assertEqual((head.status, head.one("Docker-Content-Digest")), (200, self.image.digest))
        manifest = await self.ask(manifest_path(self.image.digest), bearer)
        self.assertEqual(manifest.body, self.image.manifest)
        layer = await self.ask(blob_path(self.image.layers[1]), bearer)
        self.assertEqual(layer.body, self.origin.content.blobs[self.image.layers[1]])
        self.assertTrue(layer.complete)

    async def test_private_stays_private(self) -> None:
        """What only a client's token opened is on disk for those who may; the next one gets the challenge."""
        token = self.tokens.issue("alice", [f"repository:{REPO}:pull"])
        targets = manifest_path("1.0"), manifest_path(self.image.digest), blob_path(self.image.layers[0])
        for target in targets:
            self.assertEqual((await self.ask(target, ("Authorization", f"Bearer {token}"))).status, 200)
        await self.settled()
        self.origin.requests.clear()
        for target in targets:
            self.assertHit(await self.ask(target, ("Authorization", f"Bearer {token}")))
        self.assertEqual(self.origin.requests, [])
        for target in targets:
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (401, "UNAUTHORIZED"))

    async def test_ranges(self) -> None:
        """Ranges of a private layer are relayed as such: 206 with the origin's bytes, and 416 past the end."""
        token = self.tokens.issue("alice", [f"repository:{REPO}:pull"])
        bearer = ("Authorization", f"Bearer {token}")
        data = self.origin.content.blobs[self.image.layers[1]]
        for value, start, stop in (("bytes=100-199", 100, 200), ("bytes=1500-", 1500, len(data))):
            answer = await self.ask(blob_path(self.image.layers[1]), bearer, ("Range", value))
            self.assertEqual((answer.status, answer.body), (206, data[start:stop]))
            self.assertEqual(answer.one("Content-Range"), f"bytes {start}-{stop - 1}/{len(data)}")
        answer = await self.ask(blob_path(self.image.layers[1]), bearer, ("Range", f"bytes={len(data)}-"))
        self.assertEqual((answer.status, answer.code), (416, "RANGE_INVALID"))
        self.assertEqual(answer.one("Content-Range"), f"bytes */{len(data)}")

    async def test_wrong_credentials(self) -> None:
        """Credentials that the origin refuses get its refusal, Basic as well as Bearer."""
        for authorization in (basic("alice", "wrong"), "Bearer stale"):
            answer = await self.ask(manifest_path("1.0"), ("Authorization", authorization))
            self.assertEqual(answer.status, 401)
            self.assertEqual(len(answer.all("WWW-Authenticate")), 1)


class BasicTests(ClientCase):
    """An origin that asks for a password with every request."""

    def setUp(self) -> None:
        super().setUp()
        self.origin.auth = Basic({"alice": "wonderland"})
        self.image = self.origin.add_image(REPO, "1.0")

    async def test_own(self) -> None:
        """The challenge comes through unchanged, and the client's password opens the origin for that client."""
        targets = manifest_path("1.0"), manifest_path(self.image.digest), blob_path(self.image.layers[0])
        for target in targets:
            refused = await self.ask(target)
            self.assertEqual((refused.status, refused.all("WWW-Authenticate")), (401, ['Basic realm="fake registry"']))
            opened = await self.ask(target, ("Authorization", basic("alice", "wonderland")))
            self.assertEqual(opened.status, 200)
            self.assertEqual(opened.one("Docker-Content-Digest"), digest_of(opened.body))
            self.assertEqual((await self.ask(target)).status, 401)

    async def test_forbidden(self) -> None:
        """An origin that forbids is a 403, which no client retries here."""
        self.origin.fault(Fault(status=403), times=None)
        for target in (manifest_path("1.0"), blob_path(self.image.layers[0])):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (403, "DENIED"))


class AdministratorsTests(ClientCase):
    """What the administrator's credentials open is everyone's."""

    async def test_everyones(self) -> None:
        """Clients without credentials pull what the configured ones open, and the next ones get it from disk."""
        credentials = Credentials({(Registry(NAME), ()): Credential("puller", Secret("secret1"))})
        self.cache = self.instance(credentials=credentials)
        auths: tuple[Auth, ...] = Tokens(users={"puller": "secret1"}, anonymous=()), Basic({"puller": "secret1"})
        for number, auth in enumerate(auths):
            self.origin.auth = auth
            image = self.origin.add_image(REPO, f"1.{number}", seed=100 * number)
            targets = manifest_path(f"1.{number}"), manifest_path(image.digest), blob_path(image.layers[0])
            for target in targets:
                self.assertEqual((await self.ask(target)).status, 200)
            await self.settled()
            self.origin.requests.clear()
            for target in targets:
                self.assertHit(await self.ask(target))
            self.assertEqual(self.origin.requests, [])

    async def test_elsewhere(self) -> None:
        """A layer that lives on another host is fetched from there, without the credentials for the registry."""
        cdn = self.registry(self.origin.content)
        self.origin.auth = Basic({"puller": "secret1"})
        credentials = Credentials({(Registry(NAME), ()): Credential("puller", Secret("secret1"))})
        self.cache = self.instance(credentials=credentials)
        image = self.origin.add_image(REPO, "1.0", [noise(50_000)])
        self.origin.fault(Fault(redirect=f"{cdn.url}/cdn/{{digest}}"), "blob", times=None)
        answer = await self.ask(blob_path(image.layers[0]))
        self.assertEqual((answer.status, digest_of(answer.body)), (200, image.layers[0]))
        (record,) = cdn.requests
        self.assertIsNone(record.header("Authorization"))
