"""All that an image consists of, as far as it is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crcache.errors import ArchiveInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import Descriptor
from crcache.grammar.platform import Platform, choose
from crcache.images.documents import IMAGES, INDEXES, Child, Document, read_document

#: Indexes of indexes are followed so far, and an image has so many manifests.
_DEEPEST = 4
_MOST = 4096
#: What all manifests of an image together name at most, whatever is named by several as often as it is.
MOST_NAMED = 100_000


class Holder(Protocol):
    """Where content is."""

    def size(self, digest: Digest) -> int | None:
        """Of the content, in bytes; C{None} if it is not here."""

    def manifest(self, digest: Digest) -> bytes | None:
        """All bytes, which are right; C{None} if it is not here, or larger than manifests are."""


@dataclass(frozen=True, slots=True)
class Held:
    """Content that is here.

    @ivar media_type: as whoever names it says.
    """

    digest: Digest
    media_type: str | None
    size: int


@dataclass
class Image:
    """An image, or an index of them, with what is here of it.

    @ivar root: its own manifest.
    @ivar manifests: all that are here, each after those that it names; the root is the last.
    @ivar documents: what they say.
    @ivar blobs: the configurations and layers that those manifests name.
    @ivar named: what they name and is not here.
    @ivar platforms: those that are here wholly; of an image without an index none.
    """

    root: Held
    manifests: dict[Digest, Held] = field(default_factory=dict)
    documents: dict[Digest, Document] = field(default_factory=dict)
    blobs: dict[Digest, Held] = field(default_factory=dict)
    named: dict[Digest, Descriptor] = field(default_factory=dict)
    platforms: list[Platform] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Of everything, in bytes."""
        return sum(each.size for each in (*self.manifests.values(), *self.blobs.values()))

    @property
    def count(self) -> int:
        """Of everything, whether it is here or only named."""
        return len(self.manifests) + len(self.blobs) + len(self.named)


class Incomplete(ArchiveInvalid):
    """Some of the image is not here.

    @ivar missing: what, or at least the first of it.
    """

    def __init__(self, message: str, missing: Sequence[Descriptor]) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


def gather(holder: Holder, root: Descriptor, wanted: Sequence[Platform] = ()) -> Image:
    """The image with all that it consists of.

    Of an index the images that are here wholly are enough, but one has to be.

    @param wanted: platforms that have to be here wholly, and alone are gathered; none: all that are here.
    @raise Incomplete: if something is not here.
    @raise ArchiveInvalid: if something in it lies.
    """
    return _Gathering(holder, wanted).gather(root)


@dataclass
class _Part:
    """What a manifest comes to.

    @ivar missing: what is not here of what it cannot do without.
    """

    held: Held | None
    document: Document | None
    missing: tuple[Descriptor, ...] = ()
    children: tuple[tuple[Child, _Part], ...] = ()


class _Gathering:
    def __init__(self, holder: Holder, wanted: Sequence[Platform]) -> None:
        self._holder = holder
        self._wanted = wanted
        self._seen: dict[Digest, _Part] = {}
        self._named = 0

    def gather(self, root: Descriptor) -> Image:
        part = self._part(root, _DEEPEST)
        if part.held is None or part.missing:
            raise Incomplete(f"{root.digest} is not here wholly", part.missing or (root,))
        image = Image(part.held)
        self._take(part, image)
        for digest in (*image.manifests, *image.blobs):
            image.named.pop(digest, None)
        return image

    def _part(self, descriptor: Descriptor, depth: int) -> _Part:
        digest = descriptor.digest
        if digest not in self._seen:
            if len(self._seen) >= _MOST or not depth:
                raise ArchiveInvalid(f"{digest} is one of more manifests, or deeper down, than images have")
            self._seen[digest] = self._read(descriptor, depth)
        part = self._seen[digest]
        if part.held is not None:
            _same_size(descriptor, part.held.size)
            if descriptor.media_type not in (None, part.held.media_type):
                raise ArchiveInvalid(f"{digest} is named as {descriptor.media_type} and as {part.held.media_type}")
        return part

    def _read(self, descriptor: Descriptor, depth: int) -> _Part:
        digest = descriptor.digest
        body = self._holder.manifest(digest)
        if body is None:
            size = self._holder.size(digest)
            if size is not None:
                raise ArchiveInvalid(f"{digest} is named as a manifest, and has {size} bytes")
            return _Part(None, None, (descriptor,))
        document = read_document(body, descriptor.media_type, str(digest))
        self._named += len(document.children)
        if self._named > MOST_NAMED:
            raise ArchiveInvalid(f"{digest} is of an image that names more than {MOST_NAMED} things")
        held = Held(digest, document.media_type, len(body))
        if document.index:
            children = tuple((child, self._part(child.descriptor, depth - 1)) for child in self._chosen(document))
            return _Part(held, document, self._lacks(descriptor, document, children), children)
        missing = tuple(child.descriptor for child in document.children if not self._is_here(child))
        return _Part(held, document, missing)

    def _chosen(self, document: Document) -> list[Child]:
        manifests = [each for each in document.children if each.descriptor.media_type in INDEXES | IMAGES | {None}]
        if not self._wanted:
            return manifests
        offered = [each.platform for each in manifests]
        places = {place for wanted in self._wanted for place in choose(offered, wanted)}
        return [manifests[place] for place in sorted(places)]

    def _lacks(
        self, descriptor: Descriptor, document: Document, children: tuple[tuple[Child, _Part], ...]
    ) -> tuple[Descriptor, ...]:
        if self._wanted:
            offered = [child.platform for child, _ in children]
            for wanted in self._wanted:
                if not choose(offered, wanted):
                    raise ArchiveInvalid(f"{descriptor.digest} has no image for {wanted}")
        elif any(not part.missing for child, part in children if child.platform is None or child.platform.known):
            return ()
        missing = tuple(each for _, part in children for each in part.missing)
        return missing if missing or children or self._wanted else (descriptor,) if document.children else ()

    def _is_here(self, child: Child) -> bool:
        size = self._holder.size(child.descriptor.digest)
        if size is None:
            return child.optional
        _same_size(child.descriptor, size)
        return True

    def _take(self, part: _Part, image: Image) -> None:
        """Everything below a manifest that is here wholly, then itself."""
        assert part.held is not None
        assert part.document is not None
        if part.held.digest in image.manifests:
            return
        whole = {child.descriptor.digest: each for child, each in part.children if not each.missing}
        for child in part.document.children:
            digest = child.descriptor.digest
            if digest in whole:
                self._take(whole[digest], image)
                if child.platform is not None and child.platform.known and child.platform not in image.platforms:
                    image.platforms.append(child.platform)
            elif not part.document.index and (size := self._holder.size(digest)) is not None:
                image.blobs[digest] = Held(digest, child.descriptor.media_type, size)
            else:
                image.named[digest] = child.descriptor
        image.manifests[part.held.digest] = part.held
        image.documents[part.held.digest] = part.document


def _same_size(descriptor: Descriptor, size: int) -> None:
    if descriptor.size is not None and descriptor.size != size:
        raise ArchiveInvalid(f"{descriptor.digest} has {size} bytes, not {descriptor.size} as is said of it")
