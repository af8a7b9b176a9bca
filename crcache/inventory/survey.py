"""How much of an image is here, platform by platform. All of it blocks."""

from __future__ import annotations

from dataclasses import dataclass

from crcache.grammar.digest import Digest
from crcache.grammar.platform import Platform
from crcache.inventory.images import Image, Images, Named


@dataclass(frozen=True)
class Variant:
    """What an image is for one platform.

    @ivar platform: C{None} if nothing here says it.
    @ivar parts: its manifest first, then configuration and layers; the manifest alone if that is not here.
    """

    platform: Platform | None
    parts: tuple[Named, ...]
    aside: bool = False

    @property
    def digest(self) -> Digest:
        """Its manifest's."""
        return self.parts[0].descriptor.digest

    @property
    def begun(self) -> bool:
        """Whether it is here at all: its manifest is, so its client wanted it."""
        return self.parts[0].here is not None

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return not any(part.lacking for part in self.parts)


@dataclass(frozen=True)
class Survey:
    """An image with its platforms.

    @ivar variants: one for each platform that the image's index names; just one if it has none.
    @ivar here: bytes on disk, of index, manifests, configurations and layers, each once.
    @ivar missing: bytes that platforms lack whose manifests are here, as far as those say them.
    @ivar absent: how many things these lack.
    """

    image: Image
    variants: tuple[Variant, ...]
    here: int
    missing: int
    absent: int

    @property
    def complete(self) -> bool:
        """Whether there is a platform here, and all of each that was begun."""
        begun = [variant for variant in self.variants if variant.begun and not variant.aside]
        return bool(begun) and all(variant.complete for variant in begun)

    @property
    def platforms(self) -> list[str]:
        """Those that are here, complete or not."""
        return [
            str(variant.platform) if variant.platform is not None else "?"
            for variant in self.variants
            if variant.begun and not variant.aside
        ]

    @property
    def offered(self) -> int:
        """How many platforms the image has."""
        return sum(not variant.aside for variant in self.variants)


def survey(images: Images, image: Image) -> Survey:
    """How much of an image is here."""
    parts = list(images.closure(image.digest, image.media_type))
    children: dict[Digest | None, list[Named]] = {}
    for part in parts:
        children.setdefault(part.of, []).append(part)
    variants = tuple(_variants(images, parts[0], children))
    wanted = [part for variant in variants if variant.begun for part in variant.parts]
    lacking = {part.descriptor.digest: part.descriptor.size or 0 for part in wanted if part.lacking}
    if parts[0].here is None:
        lacking[image.digest] = 0
    return Survey(image, variants, sum(part.here or 0 for part in parts), sum(lacking.values()), len(lacking))


def _variants(images: Images, top: Named, children: dict[Digest | None, list[Named]]) -> list[Variant]:
    document = images.manifests.read(top.descriptor.digest, top.descriptor.media_type)
    if document is None:
        return []
    listed = [part for part in document.parts if part.kind == "manifest"]
    if not listed:
        # Of layers that several manifests of an index share the closure tells once only: each variant is asked anew.
        return [_variant(images, top, document_platform(images, top), False)]
    found = []
    for part in listed:
        named = next(
            (
                each
                for each in children.get(top.descriptor.digest, [])
                if each.descriptor.digest == part.descriptor.digest
            ),
            None,
        )
        if named is not None:
            platform = part.platform if part.platform is not None else document_platform(images, named)
            aside = part.aside or (platform is not None and not platform.known)
            found.append(_variant(images, named, platform, aside))
    return found


def _variant(images: Images, named: Named, platform: Platform | None, aside: bool) -> Variant:
    parts = [named]
    if named.here is not None:
        parts += list(images.closure(named.descriptor.digest, named.descriptor.media_type))[1:]
    return Variant(platform, tuple(parts), aside)


def document_platform(images: Images, named: Named) -> Platform | None:
    """What the configuration of a manifest says, if both are here."""
    if named.here is None:
        return None
    document = images.manifests.read(named.descriptor.digest, named.descriptor.media_type)
    for part in () if document is None else document.parts:
        if part.kind == "config" and (part.descriptor.size or 0) <= 1 << 20:
            return Platform.said(images.manifests.config(part.descriptor.digest))
    return None
