"""Manifests: what kind they are, and what content they name.

* OCI image manifest, https://github.com/opencontainers/image-spec/blob/main/manifest.md: C{config}, C{layers},
  C{subject}
* OCI image index, https://github.com/opencontainers/image-spec/blob/main/image-index.md: C{manifests}, C{subject}
* Docker schema 2, https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md: as OCI's
* Docker schema 1, https://github.com/distribution/distribution/blob/v2.8.3/docs/spec/manifest-v2-1.md: C{fsLayers}
* OCI artifact manifest (of a release candidate, still found),
  https://github.com/opencontainers/image-spec/blob/v1.1.0-rc2/artifact.md: C{blobs}, C{subject}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from crcache.errors import DigestInvalid, OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.json_value import load_json
from crcache.grammar.media_type import parse_media_type

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"

#: The media types of manifests that crcache knows.
KNOWN = frozenset(
    {DOCKER_MANIFEST, DOCKER_LIST, DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT}
)

#: What crcache itself asks origins for, a line each: containerd's, so that a tag means to all what it means to it.
ACCEPT: tuple[str, ...] = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*")

#: No manifest is larger, in bytes. The specification wants registries to take 4 MiB at least.
LIMIT = 8 * 1024 * 1024

#: No more than so many of a manifest's children are read.
MOST_CHILDREN = 4096

# A manifest has hundreds of values; one of the most children that are read, all of it said of each, some 65,000. So
# many hold up everything else in the process, which waits for the interpreter's lock, for some 50 ms, and take 20 MiB.
_MOST_VALUES = 80_000

_LARGEST_SIZE = 2**63 - 1

# The kind of a manifest that doesn't name it, by the first of these fields that it has.
_GUESSES = (
    ("manifests", OCI_INDEX),
    ("fsLayers", DOCKER_SCHEMA1_SIGNED),
    ("layers", OCI_MANIFEST),
    ("blobs", OCI_ARTIFACT),
    ("config", OCI_MANIFEST),
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content as a manifest names it.

    @ivar media_type: in lower case; C{None} if absent or not a media type.
    @ivar size: in bytes; C{None} if absent or not a size.
    """

    media_type: str | None
    digest: Digest
    size: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What crcache wants to know of a manifest.

    @ivar media_type: in lower case, without parameters.
    @ivar children: the content that it names (manifests, config, layers, blobs), each digest once, in its order.
    @ivar subject: the manifest that it refers to.
    """

    media_type: str
    children: tuple[Descriptor, ...]
    subject: Descriptor | None


def parse_manifest(body: bytes, content_type: str | None) -> Manifest:
    """The manifest that an origin sent.

    Its media type is the `Content-Type`'s if that is a manifest's, for clients go by it; else what the body's
    C{mediaType} says; else what its fields suggest. Children are looked for in every field that any kind of manifest
    has. A descriptor whose digest is malformed or of another algorithm is passed over: it names nothing that crcache
    could serve. Of a key given twice the last counts, as it does for clients.

    @param content_type: the value of the answer's `Content-Type`.
    @raise OriginLied: if the body is too large, isn't a JSON object, or nothing about it is a manifest's.
    """
    if len(body) > LIMIT:
        raise OriginLied(f"Ask the registry's administrator: its manifest is larger than {LIMIT} bytes.")
    document = _load(body)
    media_type = _essence(content_type)
    if media_type not in KNOWN:
        media_type = _claimed(document) or _guess(document)
    if media_type is None:
        raise OriginLied("Ask the registry's administrator: its answer is JSON, but not a manifest of any known kind.")
    children: dict[Digest, Descriptor] = {}
    for value in islice(_children(document), MOST_CHILDREN):
        descriptor = _descriptor(value)
        if descriptor is not None:
            children.setdefault(descriptor.digest, descriptor)
    return Manifest(media_type, tuple(children.values()), _descriptor(document.get("subject")))


def _load(body: bytes) -> dict[str, object]:
    try:
        document = load_json(body, _MOST_VALUES)
    except ValueError as error:
        raise OriginLied(
            "Ask the registry's administrator: its manifest is not JSON, or too complex to be one."
        ) from error
    if not isinstance(document, dict):
        raise OriginLied("Ask the registry's administrator: its manifest is not a JSON object.")
    return document


def _children(document: dict[str, object]) -> Iterator[object]:
    """Whatever stands where descriptors belong; schema 1's layers are brought into the form of descriptors."""
    yield from _items(document.get("manifests"))
    if "config" in document:
        yield document["config"]
    yield from _items(document.get("layers"))
    yield from _items(document.get("blobs"))
    for layer in _items(document.get("fsLayers")):
        if isinstance(layer, dict):
            yield {"digest": layer.get("blobSum")}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _descriptor(value: object) -> Descriptor | None:
    if not isinstance(value, dict):
        return None
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str):
        return None
    try:
        parsed = Digest.parse(digest)
    except DigestInvalid:
        return None
    # A bool is an int to Python.
    if type(size) is not int or not 0 <= size <= _LARGEST_SIZE:
        size = None
    return Descriptor(parse_media_type(value.get("mediaType")), parsed, size)


def _essence(content_type: str | None) -> str | None:
    if content_type is None:
        return None
    return content_type.partition(";")[0].strip(" \t").lower()


def _claimed(document: dict[str, object]) -> str | None:
    """The body's own C{mediaType}, unless it would make something else than JSON of it."""
    claimed = parse_media_type(document.get("mediaType"))
    return claimed if claimed is not None and (claimed in KNOWN or claimed.endswith("+json")) else None


def _guess(document: dict[str, object]) -> str | None:
    for field, media_type in _GUESSES:
        if isinstance(document.get(field), (dict, list)):
            return media_type
    return None
