"""Images of a cache directory written as an OCI image layout in a tar archive.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Docker's own C{manifest.json} is beside it for
images of one platform, for docker releases that know no other.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from crcache.errors import ArchiveInvalid, StoreError
from crcache.facts import TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import LIMIT, OCI_INDEX, Descriptor
from crcache.grammar.platform import Platform
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.images.closure import Held, Image, gather
from crcache.images.documents import Document
from crcache.images.intake import DOCKER, INDEX, LAYOUT
from crcache.images.noting import Target
from crcache.images.roots import NAME, REF_NAME
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.repositories import Repositories

_PIECE = 1 << 20
_BLOCK = 512
#: tar(1)'s record.
_RECORD = 20 * _BLOCK
_MODE = 0o644
#: Media types of what docker can run.
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")


class NotHere(ArchiveInvalid):
    """The cache knows nothing of an image of that name."""


@dataclass(frozen=True)
class Chosen:
    """An image that is written.

    @ivar name: its whole name.
    """

    name: str
    image: Image


class Exporter:
    """Reads one cache directory. What it uses is noted as used, hourly at most, which keeps it from being evicted."""

    def __init__(
        self,
        layout: Layout,
        clock: Callable[[], float],
        changed: Callable[[Digest, int, int], None] = lambda digest, before, after: None,
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param changed: told which content had, and has now, how many bytes: what is damaged is dropped.
        """
        self._layout = layout
        self._contents = Contents(layout, clock, changed)
        self._known = Repositories(layout, clock)
        self._pins = Pins(layout)

    def choose(self, target: Target, name: str, wanted: Sequence[Platform] = ()) -> Chosen:
        """The image of this name, with all that it consists of.

        @raise NotHere: if there is none.
        @raise Incomplete: if not all of it is here: not one platform, or not all that are C{wanted}.
        @raise ArchiveInvalid: if it is no image, or lies.
        @raise StoreError: if the disk fails.
        """
        return Chosen(name, gather(self, self._root(*target), wanted))

    def _root(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> Descriptor:
        digest = reference if isinstance(reference, Digest) else None
        if isinstance(reference, Tag):
            entry: TagEntry | None = self._known.tag(registry, repository, reference)
            if entry is not None:
                return Descriptor(entry.media_type, entry.digest, None)
            digest = self._pins.meant(registry, repository, reference)
        member = None if digest is None else self._known.member(registry, repository, digest)
        if digest is None or member is None:
            raise NotHere("is not in this cache")
        return Descriptor(None if member.named else member.media_type, digest, None)

    # As a holder of images

    def size(self, digest: Digest) -> int | None:
        """As L{Holder.size<crcache.images.closure.Holder>}."""
        found = self._contents.find(digest)
        return None if found is None else found.size

    def manifest(self, digest: Digest) -> bytes | None:
        """As L{Holder.manifest<crcache.images.closure.Holder>}."""
        return self._contents.read(digest, LIMIT)

    def write(
        self, out: BinaryIO, chosen: Sequence[Chosen], advanced: Callable[[int], object] = lambda count: None
    ) -> None:
        """Write them, all content once: the same bytes whenever the same images are written.

        @param advanced: told how many bytes more of the content have been written.
        @raise StoreError: if content is damaged, or has vanished meanwhile; the archive is cut short then.
        @raise OSError: as write(2).
        """
        tar = _Writer(out)
        documents = {LAYOUT: {"imageLayoutVersion": "1.0.0"}, INDEX: _index(chosen)}
        legacy = [entry for each in chosen if (entry := _docker(each)) is not None]
        for name, document in {**documents, **({DOCKER: legacy} if legacy else {})}.items():
            tar.member(name, json.dumps(document, separators=(",", ":"), sort_keys=True).encode())
        held: dict[Digest, Held] = {}
        for each in chosen:
            held.update({**each.image.manifests, **each.image.blobs})
        for digest in sorted(held):
            tar.begin(_path(digest), held[digest].size)
            self._copy(digest, held[digest].size, tar, advanced)
        tar.end()

    def _copy(self, digest: Digest, size: int, tar: _Writer, advanced: Callable[[int], object]) -> None:
        """The bytes of content, verified as they go."""
        content = self._contents.find(digest)
        if content is None or content.size != size:
            raise StoreError(f"{digest} has changed or vanished meanwhile: export it again")
        fd, hasher, at = content.open(), digest.hasher(), 0
        try:
            before = os.fstat(fd)
            while at < size and (data := os.pread(fd, min(_PIECE, size - at), at)):
                hasher.update(data)
                tar.write(data)
                advanced(len(data))
                at += len(data)
            if hasher.hexdigest() != digest.hex:
                self._contents.reject(fd, digest)
                raise StoreError(f"{digest} was damaged on disk, and is dropped: 'crcache pull' fetches it anew")
            self._contents.approve(fd, digest, before)
        finally:
            os.close(fd)


class _Writer:
    """A tar archive that depends on nothing but what is put into it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._written = 0
        self._size = 0

    def member(self, name: str, data: bytes) -> None:
        """A whole file."""
        self.begin(name, len(data))
        self.write(data)

    def begin(self, name: str, size: int) -> None:
        """A file; its bytes follow."""
        self._pad(_BLOCK)
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, _MODE
        self.write(header.tobuf(tarfile.PAX_FORMAT))

    def write(self, data: bytes) -> None:
        """Bytes of it."""
        self._out.write(data)
        self._written += len(data)

    def end(self) -> None:
        """There is no more."""
        self._pad(_BLOCK)
        self.write(bytes(2 * _BLOCK))
        self._pad(_RECORD)

    def _pad(self, to: int) -> None:
        self.write(bytes(-self._written % to))


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _index(chosen: Sequence[Chosen]) -> object:
    """The whole name in both annotations: containerd reads the one, podman and skopeo the other."""
    manifests = [
        {
            "mediaType": each.image.root.media_type,
            "digest": str(each.image.root.digest),
            "size": each.image.root.size,
            "annotations": {NAME: each.name, REF_NAME: each.name},
        }
        for each in sorted(chosen, key=lambda each: each.name)
    ]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}


def _docker(chosen: Chosen) -> object | None:
    """Its entry in C{manifest.json}; C{None} if docker could not know which of several is meant, or what to do."""
    runnable = [each for each in chosen.image.documents.values() if _runs(each, chosen.image)]
    if len(runnable) != 1 or runnable[0].config is None:
        return None
    tags = [] if "@" in chosen.name else [chosen.name]
    layers = [_path(each) for each in runnable[0].layers]
    return {"Config": _path(runnable[0].config.digest), "RepoTags": tags, "Layers": layers}


def _runs(document: Document, image: Image) -> bool:
    """Whether it is an image that a machine can run, and all of it is here."""
    if document.index or document.config is None or document.config.media_type not in _CONFIGS:
        return False
    layers = [each.descriptor for each in document.children if each.descriptor.digest != document.config.digest]
    return all(each.digest in image.blobs and "tar" in (each.media_type or "") for each in layers)
