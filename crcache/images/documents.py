"""Manifests as archives and caches hold them, with the platforms of what they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crcache.errors import ArchiveInvalid, OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.json_value import load_json
from crcache.grammar.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    parse_manifest,
)
from crcache.grammar.platform import Platform

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

_MOST_VALUES = 80_000


@dataclass(frozen=True, slots=True)
class Child:
    """What a manifest names.

    @ivar platform: of an index's entry, if it says one.
    @ivar optional: whether it is meant to come from elsewhere, and need not be where the manifest is.
    """

    descriptor: Descriptor
    platform: Platform | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest.

    @ivar index: whether its children are manifests; else they are an image's configuration and layers.
    @ivar children: each digest once.
    @ivar config: the configuration of an image, which is one of its children.
    @ivar layers: those of an image in their order; the same one may be there more than once.
    """

    media_type: str
    index: bool
    children: tuple[Child, ...]
    config: Descriptor | None
    layers: tuple[Digest, ...]


def read_object(body: bytes, name: str) -> Mapping[str, object]:
    """A JSON object of a stranger's.

    @param name: what it is called where it is refused.
    @raise ArchiveInvalid: if it is none, or too large, or too complex.
    """
    found = read_json(body, name)
    if not isinstance(found, dict):
        raise ArchiveInvalid(f"{name} is not a JSON object")
    return found


def read_json(body: bytes, name: str) -> object:
    """The same of any JSON."""
    if len(body) > LIMIT:
        raise ArchiveInvalid(f"{name} is larger than {LIMIT} bytes")
    try:
        return load_json(body, _MOST_VALUES)
    except ValueError as error:
        raise ArchiveInvalid(f"{name} is not JSON, or too complex: {error}") from None


def read_document(body: bytes, media_type: str | None, name: str) -> Document:
    """What a manifest says, if it says one thing only.

    @param media_type: what whoever names it says that it is; C{None} if nobody does.
    @raise ArchiveInvalid: if it is no manifest of an image or an index of them, or can be read as either.
    """
    try:
        manifest = parse_manifest(body, media_type)
    except OriginLied:
        raise ArchiveInvalid(f"{name} is no manifest") from None
    kind, said = manifest.media_type, read_object(body, name)
    own = said.get("mediaType")
    if isinstance(own, str) and own.lower() != kind:
        raise ArchiveInvalid(f"{name} says that it is {own[:100]!r}, and is named as {kind}")
    if kind not in INDEXES and kind not in IMAGES:
        raise ArchiveInvalid(f"{name} is {kind[:100]!r}, which is no image")
    index = kind in INDEXES
    # CVE-2021-41190: what one client takes for an index another takes for an image.
    if ("manifests" in said) != index or ("layers" in said) == index or ("config" in said) == index:
        raise ArchiveInvalid(f"{name} is named as {kind}, and does not have its fields, or others besides")
    listed = _descriptors(said.get("manifests" if index else "layers"), name)
    entries = {str(each.get("digest")): each for each in listed}
    known = {str(each.digest): each.digest for each in manifest.children}
    for digest in entries:
        if digest not in known:
            raise ArchiveInvalid(f"{name} names {digest[:150]!r}, which is no digest that is known here")
    children = tuple(_child(each, entries.get(str(each.digest), {}), index) for each in manifest.children)
    named = said.get("config")
    own_config = named.get("digest") if isinstance(named, dict) else None
    config = next((each.descriptor for each in children if str(each.descriptor.digest) == own_config), None)
    if not index and config is None:
        raise ArchiveInvalid(f"{name} names no configuration")
    layers = () if index else tuple(known[str(each.get("digest"))] for each in listed)
    return Document(kind, index, children, config, layers)


def _descriptors(listed: object, name: str) -> list[Mapping[str, object]]:
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ArchiveInvalid(f"{name} names something that is no descriptor")
    return listed


def _child(descriptor: Descriptor, entry: Mapping[str, object], index: bool) -> Child:
    kind = descriptor.media_type or ""
    foreign = not index and bool(entry.get("urls")) and ("foreign" in kind or "nondistributable" in kind)
    return Child(descriptor, Platform.said(entry.get("platform")) if index else None, foreign)
