"""What a fake registry holds: blobs, manifests and tags, made up or given."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of the data."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same size and seed."""
    # To be guessed: it is what tests compare with.
    return random.Random(f"{size}/{seed}").randbytes(size)  # nosec B311


@dataclass(frozen=True)
class Image:
    """An image that a fake registry holds. Digests are strings; C{layers} are in the manifest's order."""

    name: str
    digest: str
    media_type: str
    manifest: bytes
    config: str
    layers: tuple[str, ...]


@dataclass
class Content:
    """Everything a registry serves. Plain dictionaries: tests may read and change them at will.

    @ivar blobs: by digest, whatever the repository.
    @ivar holds: by repository, the digests of the blobs it admits to.
    @ivar manifests: by (repository, digest), as (media type, bytes).
    @ivar tags: by repository, from tag to digest.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    holds: dict[str, set[str]] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def add_blob(self, name: str, data: bytes) -> str:
        """Put a blob into a repository, and return its digest."""
        digest = digest_of(data)
        self.blobs[digest] = data
        self.holds.setdefault(name, set()).add(digest)
        return digest

    def add_manifest(self, name: str, data: bytes, media_type: str = OCI_MANIFEST, tag: str | None = None) -> str:
        """Put a manifest into a repository, and return its digest."""
        digest = digest_of(data)
        self.manifests[name, digest] = (media_type, data)
        self.tags.setdefault(name, {})
        if tag is not None:
            self.tags[name][tag] = digest
        return digest

    def add_image(
        self, name: str, tag: str | None = None, layers: Sequence[int | bytes] = (1000, 2000), seed: int = 0
    ) -> Image:
        """Put an image into a repository.

        @param layers: for each layer its bytes, or the size in bytes of noise to fill it with.
        """
        contents = [
            layer if isinstance(layer, bytes) else noise(layer, seed + index) for index, layer in enumerate(layers)
        ]
        digests = [self.add_blob(name, data) for data in contents]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": digests},
                "seed": seed,
            }
        ).encode()
        config_digest = self.add_blob(name, config)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config)},
                "layers": [
                    {"mediaType": OCI_LAYER, "digest": digest, "size": len(data)}
                    for digest, data in zip(digests, contents, strict=True)
                ],
            }
        ).encode()
        digest = self.add_manifest(name, manifest, OCI_MANIFEST, tag)
        return Image(name, digest, OCI_MANIFEST, manifest, config_digest, tuple(digests))

    def add_index(self, name: str, tag: str | None, images: Sequence[Image]) -> str:
        """Put an index of images that the repository holds into it, and return its digest."""
        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [
                    {
                        "mediaType": image.media_type,
                        "digest": image.digest,
                        "size": len(image.manifest),
                        "platform": {"os": "linux", "architecture": f"arch{index}"},
                    }
                    for index, image in enumerate(images)
                ],
            }
        ).encode()
        return self.add_manifest(name, data, OCI_INDEX, tag)

    def blob(self, name: str, digest: str) -> bytes | None:
        """The blob, if this repository holds it."""
        return self.blobs.get(digest) if digest in self.holds.get(name, ()) else None

    def manifest(self, name: str, reference: str) -> tuple[str, str, bytes] | None:
        """(digest, media type, bytes) of a tag or digest."""
        digest = reference if ":" in reference else self.tags.get(name, {}).get(reference, "")
        found = self.manifests.get((name, digest))
        return None if found is None else (digest, *found)

    def referrers(self, name: str, subject: str) -> bytes:
        """The index of the manifests whose C{subject} is that digest."""
        descriptors = []
        for (owner, digest), (media_type, data) in self.manifests.items():
            if owner != name:
                continue
            manifest = json.loads(data)
            if manifest.get("subject", {}).get("digest") == subject:
                descriptors.append({"mediaType": media_type, "digest": digest, "size": len(data)})
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}).encode()
