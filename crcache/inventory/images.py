"""Images as a cache directory has them: what a tag or an untagged manifest stands for. All of it blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crcache.grammar.digest import Digest
from crcache.grammar.manifest import KNOWN, Descriptor
from crcache.grammar.reference import Tag
from crcache.inventory.contents import find
from crcache.inventory.manifests import Manifests, Part
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import Home, Repositories, Tagged
from crcache.store.layout import Layout
from crcache.store.pins import Pins

#: An index may name indexes, so many deep, and nothing names more than so many things in all.
_DEEPEST = 4
_MOST_NAMED = 50_000


@dataclass(frozen=True)
class Image:
    """A tag, or a manifest that no tag of its repository leads to.

    @ivar tag: C{None} for a manifest by its digest.
    @ivar media_type: what the manifest is served as, if anything says so.
    @ivar checked: when the origin last said what the tag means, in seconds since the epoch.
    @ivar used: when it was last used through this repository, as far as is noted, in seconds since the epoch.
    @ivar pinned: whether it is pinned itself, by its tag or by its digest.
    """

    home: Home
    tag: Tag | None
    digest: Digest
    media_type: str | None
    checked: float | None
    used: float | None
    pinned: bool

    def __str__(self) -> str:
        return f"{self.home}:{self.tag}" if self.tag is not None else f"{self.home}@{self.digest}"


@dataclass(frozen=True)
class Named:
    """Something that an image consists of.

    @ivar kind: C{manifest}, C{config} or C{layer}.
    @ivar of: the manifest that names it; C{None} for the image's own.
    @ivar here: in bytes, what of it is on disk; C{None} if it is not here.
    @ivar elsewhere: whether clients have it from elsewhere.
    """

    descriptor: Descriptor
    kind: str
    of: Digest | None
    here: int | None
    elsewhere: bool = False

    @property
    def lacking(self) -> bool:
        """Whether it is not here, and ought to be."""
        return self.here is None and not self.elsewhere


class Images:
    """What repositories hold, as images.

    @ivar repositories: where they are noted.
    @ivar manifests: what they are made of.
    """

    def __init__(self, layout: Layout, problems: Problems) -> None:
        self._layout = layout
        self.repositories = Repositories(layout, problems)
        self.manifests = Manifests(layout, problems)
        self._pins = Pins(layout)

    def all(self, *, untagged: bool) -> Iterator[Image]:
        """Those of every repository, in order.

        @param untagged: those too that no tag leads to.
        """
        for home in self.repositories.homes():
            yield from self.of(home, untagged=untagged)

    def of(self, home: Home, *, untagged: bool) -> Iterator[Image]:
        """Those of one repository, in order."""
        pinned = {reference for reference, _ in self._pins.of(home.registry, home.repository)}
        tags = set()
        tops: list[tuple[Digest, str | None]] = []
        for tagged in self.repositories.tags(home):
            tags.add(tagged.tag)
            tops.append((tagged.entry.digest, tagged.entry.media_type))
            yield self._tagged(home, tagged, bool(pinned & {tagged.tag, tagged.entry.digest}))
        # A pin stands in for its tag's entry.
        for reference, meant in self._pins.of(home.registry, home.repository):
            if isinstance(reference, Tag) and reference not in tags and meant is not None:
                tops.append((meant, None))
                yield self._image(home, reference, meant, True)
        if untagged:
            yield from self._untagged(home, tops, pinned)

    def _untagged(
        self, home: Home, tops: list[tuple[Digest, str | None]], pinned: set[Tag | Digest]
    ) -> Iterator[Image]:
        led = {digest for digest, _ in tops}
        left = {}
        for membership, _ in self.repositories.members(home):
            if membership.media_type in KNOWN and membership.digest not in led:
                left[membership.digest] = membership.media_type
        for digest, media_type in [*tops, *left.items()]:
            document = self.manifests.read(digest, media_type)
            if document is not None:
                led.update(part.descriptor.digest for part in document.parts if part.kind == "manifest")
        for digest in sorted(left):
            # What an index names, and was never asked for, is nobody's image.
            if digest not in led and (digest in pinned or find(self._layout, digest) is not None):
                yield self._image(home, None, digest, digest in pinned)

    def find(self, home: Home, reference: Tag | Digest) -> Image | None:
        """One image; C{None} if nothing is known of it here."""
        pins = dict(self._pins.of(home.registry, home.repository))
        if isinstance(reference, Tag):
            tagged = self.repositories.tag(home, reference)
            if tagged is not None:
                return self._tagged(home, tagged, reference in pins or tagged.entry.digest in pins)
            meant = pins.get(reference)
            return None if meant is None else self._image(home, reference, meant, True)
        known = reference in pins or self.repositories.holds(home, reference)
        return self._image(home, None, reference, reference in pins) if known else None

    def _tagged(self, home: Home, tagged: Tagged, pinned: bool) -> Image:
        entry, member = tagged.entry, self.repositories.member(home, tagged.entry.digest)
        used = tagged.used if member is None else max(tagged.used, member[1])
        return Image(home, tagged.tag, entry.digest, entry.media_type, entry.checked, used, pinned)

    def _image(self, home: Home, tag: Tag | None, digest: Digest, pinned: bool) -> Image:
        member = self.repositories.member(home, digest)
        media_type = None if member is None else member[0].media_type
        return Image(home, tag, digest, media_type, None, None if member is None else member[1], pinned)

    def closure(self, digest: Digest, media_type: str | None) -> Iterator[Named]:
        """All that an image consists of, each digest once, what names before what is named."""
        seen = {digest}
        top = Part(Descriptor(media_type, digest, None), "manifest")
        row: list[tuple[Part, Digest | None]] = [(top, None)]
        for depth in range(_DEEPEST + 1):
            further: list[tuple[Part, Digest | None]] = []
            for each, parent in row:
                descriptor = each.descriptor
                held = find(self._layout, descriptor.digest)
                yield Named(descriptor, each.kind, parent, None if held is None else held.size, each.elsewhere)
                if each.kind != "manifest" or held is None or depth == _DEEPEST:
                    continue
                document = self.manifests.read(descriptor.digest, descriptor.media_type)
                for part in () if document is None else document.parts:
                    if part.descriptor.digest not in seen and len(seen) < _MOST_NAMED:
                        seen.add(part.descriptor.digest)
                        further.append((part, descriptor.digest))
            row = further
