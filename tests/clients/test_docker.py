"""Docker's classic graph driver: no C{ns}, and Docker Hub only."""

from __future__ import annotations

from crcache.grammar.reference import Registry
from crcache.testing.content import noise
from tests.clients.case import MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer

AGENT = (
    "User-Agent",
    "docker/27.3.1 go/go1.22.7 git-commit/41ca978 kernel/6.1.0 os/linux arch/amd64 UpstreamClient(x)",
)
ACCEPT = tuple(("Accept", each) for each in MANIFEST_TYPES)


class GraphDriverTests(ClientCase):
    """C{registry-mirrors} in daemon.json."""

    def setUp(self) -> None:
        super().setUp()
        self.cache = self.instance(origins={"docker.io": self.origin.url})

    async def docker(self, target: str, *headers: tuple[str, str], method: str = "GET") -> Answer:
        """A request as the Docker daemon makes it."""
        return await self.ask(target, AGENT, *headers, method=method)

    async def test_ping(self) -> None:
        """C{GET /v2/} is answered with 200 and the API's version, without asking any origin."""
        answer = await self.docker("/v2/")
        self.assertEqual((answer.status, answer.body), (200, b"{}"))
        self.assertEqual(answer.one("Docker-Distribution-Api-Version"), "registry/2.0")
        self.assertEqual(self.origin.requests, [])

    async def test_pull(self) -> None:
        """Its tag look-up and GETs by digest mean Docker Hub, cold and with the origin stopped."""
        image = self.origin.add_image(REPO, "1.0")
        for _ in range(2):
            manifest = await self.docker(manifest_path("1.0", ns=None), *ACCEPT)
            self.assertEqual((manifest.status, manifest.body), (200, image.manifest))
            self.assertEqual(manifest.one("Docker-Content-Digest"), image.digest)
            self.assertEqual(manifest.one("OCI-Namespace"), "docker.io")
            by_digest = await self.docker(manifest_path(image.digest, ns=None), *ACCEPT)
            self.assertEqual(by_digest.body, image.manifest)
            for digest in (image.config, *image.layers):
                layer = await self.docker(blob_path(digest, ns=None))
                self.assertEqual(layer.body, self.origin.content.blobs[digest])
            await self.settled()
            if self.origin.listener is not None:
                await self.origin.stop()

    async def test_resume(self) -> None:
        """Its resume range ends one past the last byte: it is clamped, not refused, cold and warm."""
        data = noise(100_000)
        digest = self.origin.content.add_blob(REPO, data)
        for _ in range(2):
            answer = await self.docker(blob_path(digest, ns=None), ("Range", f"bytes=60000-{len(data)}"))
            self.assertEqual((answer.status, answer.body), (206, data[60_000:]))
            self.assertEqual(answer.one("Content-Range"), f"bytes 60000-{len(data) - 1}/{len(data)}")

    async def test_image_store(self) -> None:
        """Docker with containerd's image store says C{ns}: that decides, whatever the user agent."""
        other = self.registry()
        image = other.add_image(REPO, "1.0", [5], seed=9)
        self.cache = self.instance(origins={"docker.io": self.origin.url, NAME: other.url})
        answer = await self.docker(manifest_path("1.0"))
        self.assertEqual(answer.body, image.manifest)

    async def test_default_registry(self) -> None:
        """The administrator may let it mean another registry than Docker Hub."""
        image = self.origin.add_image(REPO, "1.0")
        self.cache = self.instance(default_registry=Registry(NAME))
        answer = await self.docker(manifest_path("1.0", ns=None))
        self.assertEqual((answer.body, answer.one("OCI-Namespace")), (image.manifest, NAME))

    async def test_others(self) -> None:
        """Anyone else who does not say which registry is told how to, in a 400."""
        for agent in ("curl/8.5", "mydocker/1.0", "containerd/2.0"):
            answer = await self.ask(manifest_path("1.0", ns=None), ("User-Agent", agent))
            self.assertEqual((answer.status, answer.code), (400, "NAME_INVALID"))
            self.assertIn(b"hosts.toml", answer.body)
        self.assertEqual(self.origin.requests, [])
