"""Manifests in a cache directory, with what administrators want to know of them. All of it blocks."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from crcache.errors import CrcacheError
from crcache.grammar.digest import Digest
from crcache.grammar.json_value import load_json
from crcache.grammar.manifest import LIMIT, Descriptor, Manifest, parse_manifest
from crcache.grammar.platform import Platform
from crcache.inventory.problems import Problems
from crcache.store.contents import READING
from crcache.store.layout import Layout

#: Manifests that are kept in memory.
_MOST = 512
_MOST_VALUES = 80_000
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True)
class Part:
    """Something that a manifest names.

    @ivar kind: C{manifest}, C{config}, or C{layer} (and whatever else there is of blobs).
    @ivar platform: of a manifest, if the index says it.
    @ivar aside: whether it is about an image, and is none: an attestation.
    @ivar elsewhere: whether clients have it from elsewhere, so that nobody lacks it here.
    """

    descriptor: Descriptor
    kind: str
    platform: Platform | None = None
    aside: bool = False
    elsewhere: bool = False


@dataclass(frozen=True)
class Document:
    """A manifest that is here.

    @ivar parts: what it names, each digest once.
    @ivar size: in bytes.
    """

    manifest: Manifest
    parts: tuple[Part, ...]
    size: int


class Manifests:
    """Reads them; what is no manifest, or lies, is passed over. The latest few hundred are kept in memory."""

    def __init__(self, layout: Layout, problems: Problems) -> None:
        self._layout = layout
        self._problems = problems
        self._kept: OrderedDict[Digest, Document | None] = OrderedDict()

    def read(self, digest: Digest, media_type: str | None) -> Document | None:
        """The manifest of this digest; C{None} if it is not here.

        @param media_type: what it is served as, if that is known.
        """
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        found = self._kept[digest] = self._read(digest, media_type)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found

    def _read(self, digest: Digest, media_type: str | None) -> Document | None:
        body = self.body(digest)
        if body is None:
            return None
        try:
            manifest = parse_manifest(body, media_type)
        except CrcacheError:
            self._problems.add(self._layout.content(digest), "is no manifest, and is named as one")
            return None
        return Document(manifest, _parts(manifest, _object(body)), len(body))

    def config(self, digest: Digest) -> Mapping[str, object]:
        """What an image's configuration says; nothing if it is not here."""
        body = self.body(digest)
        return {} if body is None else _object(body)

    def body(self, digest: Digest) -> bytes | None:
        """All bytes of content that is as small as a manifest, if they are right."""
        path = self._layout.content(digest)
        try:
            fd = os.open(path, READING)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problems.add(path, error.strerror or str(error))
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                self._problems.add(path, "is no file")
                return None
            if found.st_size > LIMIT:
                self._problems.add(path, f"is larger than any manifest ({found.st_size} bytes), and is named as one")
                return None
            with os.fdopen(os.dup(fd), "rb") as source:
                body = source.read(LIMIT + 1)
        except OSError as error:
            self._problems.add(path, error.strerror or str(error))
            return None
        finally:
            os.close(fd)
        hasher = digest.hasher()
        hasher.update(body)
        if hasher.hexdigest() != digest.hex:
            self._problems.add(path, "holds other bytes than its name says ('crcache verify' takes it away)")
            return None
        return body


def _object(body: bytes) -> Mapping[str, object]:
    try:
        found = load_json(body, _MOST_VALUES)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _parts(manifest: Manifest, document: Mapping[str, object]) -> tuple[Part, ...]:
    listed = document.get("manifests")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    said = {each["digest"]: each for each in entries if isinstance(each.get("digest"), str)}
    config = document.get("config")
    configured = config.get("digest") if isinstance(config, dict) else None
    layers = document.get("layers")
    foreign = (
        {str(each.get("digest")) for each in layers if isinstance(each, dict) and _foreign(each)}
        if isinstance(layers, list)
        else set()
    )
    parts = []
    for child in manifest.children:
        name = str(child.digest)
        if name in said:
            annotations = said[name].get("annotations")
            aside = isinstance(annotations, dict) and _ATTESTATION in annotations
            parts.append(Part(child, "manifest", Platform.said(said[name].get("platform")), aside))
        else:
            kind = "config" if name == configured else "layer"
            parts.append(Part(child, kind, elsewhere=kind == "layer" and name in foreign))
    return tuple(parts)


def _foreign(layer: Mapping[str, object]) -> bool:
    """Whether a layer is one that registries may not give away, and says where it is."""
    kind = layer.get("mediaType") if layer.get("urls") else None
    return isinstance(kind, str) and ("foreign" in kind.lower() or "nondistributable" in kind.lower())
