"""Images made from nothing, as OCI layouts that skopeo can push.

The layers are random bytes in a tar archive, gzipped without compression: made fast, and no shorter on the wire.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

Descriptor = dict[str, Any]

MIB = 1 << 20


@dataclass(frozen=True)
class Image:
    """What a tag of an OCI layout means.

    @ivar layout: the layout's directory.
    @ivar top: the digest of the manifest or index that the tag means.
    @ivar manifests: the digests of all manifests and indexes, C{top} among them.
    @ivar blobs: sizes in bytes of all configurations and layers, by digest.
    """

    layout: Path
    tag: str
    top: str
    manifests: frozenset[str]
    blobs: dict[str, int]

    @property
    def digests(self) -> set[str]:
        """Of everything a client that wants all platforms fetches."""
        return {*self.manifests, *self.blobs}

    @property
    def largest(self) -> str:
        """The digest of the largest layer."""
        return max(self.blobs, key=lambda digest: self.blobs[digest])

    def path(self, digest: str) -> Path:
        """The file that holds that content."""
        return self.layout.joinpath("blobs", *digest.split(":"))

    def media_type(self, digest: str) -> str:
        """The media type of a manifest."""
        return str(json.loads(self.path(digest).read_bytes())["mediaType"])


def make_image(layout: Path, tag: str, layers: Sequence[int], architecture: str = "amd64") -> Image:
    """An image for one platform.

    @param layers: the sizes of its layers in bytes (somewhat more once they are archives).
    """
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    descriptor, blobs = _platform(layout, layers, architecture)
    _tag(layout, tag, descriptor)
    return Image(layout, tag, descriptor["digest"], frozenset([descriptor["digest"]]), blobs)


def make_index(layout: Path, tag: str, layers: Sequence[int], architectures: Sequence[str]) -> Image:
    """An index of images, each with layers of its own of these sizes in bytes."""
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    blobs: dict[str, int] = {}
    manifests: list[Descriptor] = []
    for architecture in architectures:
        descriptor, its_blobs = _platform(layout, layers, architecture)
        manifests.append(descriptor)
        blobs.update(its_blobs)
    top = _put_json(layout, OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    _tag(layout, tag, top)
    return Image(layout, tag, top["digest"], frozenset([top["digest"], *(m["digest"] for m in manifests)]), blobs)


def make_naming(layout: Path, tag: str, layers: dict[str, int]) -> Image:
    """An image whose layers somebody else has.

    @param layers: their sizes in bytes, by digest. C{blobs} of the result are only what is there.
    """
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    config = _put_json(layout, OCI_CONFIG, {"architecture": "amd64", "os": "linux"})
    named = [{"mediaType": OCI_LAYER, "digest": digest, "size": size} for digest, size in layers.items()]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": named}
    top = _put_json(layout, OCI_MANIFEST, manifest)
    _tag(layout, tag, top)
    return Image(layout, tag, top["digest"], frozenset([top["digest"]]), {config["digest"]: config["size"]})


def _platform(layout: Path, layers: Sequence[int], architecture: str) -> tuple[Descriptor, dict[str, int]]:
    made = [_layer(layout, number, size) for number, size in enumerate(layers)]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
    }
    parts = [_put_json(layout, OCI_CONFIG, config), *(descriptor for descriptor, _ in made)]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:]}
    descriptor = _put_json(layout, OCI_MANIFEST, manifest)
    descriptor["platform"] = {"architecture": architecture, "os": "linux"}
    return descriptor, {part["digest"]: part["size"] for part in parts}


def _layer(layout: Path, number: int, size: int) -> tuple[Descriptor, str]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(f"random-{number}")
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    raw = buffer.getbuffer()
    diff_id = "sha256:" + hashlib.sha256(raw).hexdigest()
    return _put(layout, OCI_LAYER, gzip.compress(raw, 0)), diff_id


def _put_json(layout: Path, media_type: str, value: object) -> Descriptor:
    return _put(layout, media_type, json.dumps(value).encode())


def _put(layout: Path, media_type: str, data: bytes) -> Descriptor:
    hexadecimal = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / hexadecimal).write_bytes(data)
    return {"mediaType": media_type, "digest": "sha256:" + hexadecimal, "size": len(data)}


def _tag(layout: Path, tag: str, top: Descriptor) -> None:
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
