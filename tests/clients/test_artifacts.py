"""cosign, notation and oras: signatures and whatever else refers to an image."""

from __future__ import annotations

import json

from crcache.testing.auth import Tokens
from crcache.testing.content import OCI_INDEX, OCI_MANIFEST, Image, digest_of
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path

TAGS = f"/v2/{REPO}/tags/list"


class SignatureTests(ClientCase):
    """Signatures."""

    def setUp(self) -> None:
        super().setUp()
        self.image: Image = self.origin.add_image(REPO, "1.0")

    def signature(self, tag: str | None) -> str:
        """Something that refers to the image, and is tagged as cosign does it; returns its digest."""
        layer = self.origin.content.add_blob(REPO, b"signed")
        data = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2},
            "layers": [{"mediaType": "application/vnd.example.signature", "digest": layer, "size": 6}],
            "subject": {"mediaType": OCI_MANIFEST, "digest": self.image.digest, "size": len(self.image.manifest)},
        }
        return self.origin.content.add_manifest(REPO, json.dumps(data).encode(), OCI_MANIFEST, tag)

    async def test_tag(self) -> None:
        """C{sha256-<hex>.sig} is a tag like any other, and its layer a blob."""
        tag = self.image.digest.replace(":", "-") + ".sig"
        digest = self.signature(tag)
        for _ in range(2):
            answer = await self.ask(manifest_path(tag))
            self.assertEqual((answer.status, answer.one("Docker-Content-Digest")), (200, digest))
            layer = json.loads(answer.body)["layers"][0]["digest"]
            self.assertEqual((await self.ask(blob_path(layer))).body, b"signed")
        self.assertEqual(len(self.origin.requests), 2)

    async def test_referrers(self) -> None:
        """The referrers API is relayed, with C{artifactType} and what the origin says of it, and asked every time."""
        digest = self.signature(None)
        filtered = Fault(headers=(("OCI-Filters-Applied", "artifactType"),))
        self.origin.fault(filtered, "referrers", times=None)
        target = f"/v2/{REPO}/referrers/{self.image.digest}?ns={NAME}&artifactType=application%2Fvnd.example.signature"
        for _ in range(2):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.one("Content-Type")), (200, OCI_INDEX))
            self.assertEqual([each["digest"] for each in json.loads(answer.body)["manifests"]], [digest])
            self.assertEqual(answer.one("OCI-Filters-Applied"), "artifactType")
            self.assertEqual(answer.one("Cache-Status"), "crcache; fwd=bypass")
        self.assertEqual(
            [each.query for each in self.origin.asked("referrers")],
            ["artifactType=application%2Fvnd.example.signature"] * 2,
        )

    async def test_no_referrers_api(self) -> None:
        """A registry without it is a 404; the fall-back tag, if it is not there either, too."""
        self.origin.fault(Fault(status=404), "referrers")
        answer = await self.ask(f"/v2/{REPO}/referrers/{self.image.digest}?ns={NAME}")
        self.assertEqual(answer.status, 404)
        answer = await self.ask(manifest_path(self.image.digest.replace(":", "-")))
        self.assertEqual((answer.status, answer.code), (404, "MANIFEST_UNKNOWN"))


class TagsTests(ClientCase):
    """The tags list."""

    def setUp(self) -> None:
        super().setUp()
        for tag in ("1.0", "1.1", "2.0"):
            self.origin.add_image(REPO, tag)

    async def test_whole(self) -> None:
        """The list comes from the origin every time."""
        answer = await self.ask(f"{TAGS}?ns={NAME}")
        self.assertEqual(json.loads(answer.body), {"name": REPO, "tags": ["1.0", "1.1", "2.0"]})
        self.origin.add_image(REPO, "3.0")
        answer = await self.ask(f"{TAGS}?ns={NAME}")
        self.assertEqual(json.loads(answer.body)["tags"][-1], "3.0")

    async def test_pages(self) -> None:
        """C{n} and C{last} go to the origin, and the C{Link} to the next page leads back here."""
        target: str | None = f"{TAGS}?n=2&ns={NAME}"
        found = []
        while target is not None:
            answer = await self.ask(target)
            found.append(json.loads(answer.body)["tags"])
            link = answer.one("Link")
            target = None
            if link is not None:
                self.assertTrue(link.endswith('>; rel="next"'), link)
                target = link[1:].partition(">")[0]
                self.assertTrue(target.startswith(f"{TAGS}?"), target)
        self.assertEqual(found, [["1.0", "1.1"], ["2.0"]])
        self.assertEqual([each.query for each in self.origin.asked("tags")], ["n=2", "n=2&last=1.1"])

    async def test_podman(self) -> None:
        """So it does for those who name the registry in the path."""
        answer = await self.ask(f"/v2/{NAME}/{REPO}/tags/list?n=1")
        self.assertEqual(json.loads(answer.body)["tags"], ["1.0"])
        self.assertEqual(answer.one("Link"), f'</v2/{NAME}/{REPO}/tags/list?n=1&last=1.0>; rel="next"')

    async def test_private(self) -> None:
        """The list of a private repository needs the client's own credentials, every time."""
        tokens = Tokens(users={"alice": "wonderland"}, anonymous=())
        self.origin.auth = tokens
        bearer = ("Authorization", "Bearer " + tokens.issue("alice", [f"repository:{REPO}:pull"]))
        self.assertEqual((await self.ask(f"{TAGS}?ns={NAME}", bearer)).status, 200)
        answer = await self.ask(f"{TAGS}?ns={NAME}")
        self.assertEqual((answer.status, len(answer.all("WWW-Authenticate"))), (401, 1))

    async def test_head(self) -> None:
        """A HEAD is answered without a body."""
        answer = await self.ask(f"{TAGS}?ns={NAME}", method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
