"""podman, CRI-O and skopeo: the registry is the path's first component, and there are no HEADs."""

from __future__ import annotations

from crcache.testing.auth import Tokens
from crcache.testing.script import Fault
from tests.clients.case import MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, manifest_path

ACCEPT = tuple(
    ("Accept", each)
    for each in (
        *MANIFEST_TYPES,
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
    )
)
AGENT = ("User-Agent", "containers/5.32.2 (github.com/containers/image)")
#: The repository, as they name it.
PATH = f"{NAME}/{REPO}"


class PullTests(ClientCase):
    """A whole image."""

    async def test_ping(self) -> None:
        """C{GET /v2/} answers 200."""
        self.assertEqual((await self.ask("/v2/", AGENT)).status, 200)

    async def test_pull(self) -> None:
        """The index, a manifest and its blobs, each with GET; warm with the origin stopped."""
        image = self.origin.add_image(REPO, None, [70_000, 10])
        index = self.origin.content.add_index(REPO, "1.0", [image])
        for _ in range(2):
            first = await self.ask(manifest_path("1.0", PATH, None), AGENT, *ACCEPT)
            self.assertEqual((first.status, first.one("Docker-Content-Digest")), (200, index))
            self.assertEqual(first.one("Content-Type"), MANIFEST_TYPES[3])
            manifest = await self.ask(manifest_path(image.digest, PATH, None), AGENT, *ACCEPT)
            self.assertEqual(manifest.body, image.manifest)
            for digest in (image.config, *image.layers):
                blob = await self.ask(blob_path(digest, PATH, None), AGENT)
                self.assertEqual((blob.status, blob.body), (200, self.origin.content.blobs[digest]))
            await self.settled()
            if self.origin.listener is not None:
                await self.origin.stop()

    async def test_same_registry(self) -> None:
        """What containerd pulled with C{ns} is warm for podman: it is the same registry."""
        image = self.origin.add_image(REPO, "1.0")
        await self.ask(manifest_path("1.0"))
        await self.ask(blob_path(image.layers[0]))
        await self.settled()
        self.assertHit(await self.ask(manifest_path("1.0", PATH, None), AGENT, *ACCEPT))
        self.assertHit(await self.ask(blob_path(image.layers[0], PATH, None), AGENT))

    async def test_accept(self) -> None:
        """Several C{Accept} lines are one list: a cached tag of a type on the last line is a hit."""
        self.origin.add_image(REPO, "1.0")
        await self.ask(manifest_path("1.0"))
        lines = [("Accept", MANIFEST_TYPES[0]), ("Accept", MANIFEST_TYPES[1]), ("Accept", MANIFEST_TYPES[2])]
        self.assertHit(await self.ask(manifest_path("1.0", PATH, None), AGENT, *lines))
        asked = len(self.origin.requests)
        await self.ask(manifest_path("1.0", PATH, None), AGENT, *lines[:2])
        last = self.origin.requests[-1]
        self.assertEqual(len(self.origin.requests), asked + 1)
        self.assertEqual(last.headers.getRawHeaders("Accept"), list(MANIFEST_TYPES[:2]))

    async def test_private(self) -> None:
        """Without administrator's credentials a private image is a 401 at the manifest: it goes to the origin."""
        self.origin.auth = Tokens(users={"alice": "wonderland"}, anonymous=())
        self.origin.add_image(REPO, "1.0")
        self.assertEqual((await self.ask("/v2/", AGENT)).status, 200)
        answer = await self.ask(manifest_path("1.0", PATH, None), AGENT, *ACCEPT)
        self.assertEqual(answer.status, 401)

    async def test_limited(self) -> None:
        """An origin that limits our rate is a 503 at the manifest, where podman still goes on to the next mirror."""
        self.origin.fault(Fault(status=429, headers=(("Retry-After", "3600"),)))
        answer = await self.ask(manifest_path("1.0", PATH, None), AGENT, *ACCEPT)
        self.assertEqual(answer.status, 503)

    async def test_no_repository(self) -> None:
        """A registry without a repository is a 400."""
        answer = await self.ask(manifest_path("1.0", NAME, None), AGENT)
        self.assertEqual((answer.status, answer.code), (400, "NAME_INVALID"))
