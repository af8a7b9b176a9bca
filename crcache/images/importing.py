"""An archive's images brought into a cache directory: all of them, or none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from crcache.errors import ArchiveInvalid, CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.images.closure import Image, Incomplete, gather
from crcache.images.intake import Intake, vanished
from crcache.images.noting import Target, note
from crcache.images.roots import Root, find_roots
from crcache.images.tar import Tar, shown
from crcache.images.unpacked import Unpacked
from crcache.store import version
from crcache.store.adopting import adopt
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.store.space import Space
from crcache.store.staging import Staging, sweep

#: What may follow an archive, and is read so that whoever writes it need not fail.
_PADDING = 4 << 20
#: What all images of an archive consist of at most, under each of their names anew: for each a file is made.
MOST_PARTS = 200_000


@dataclass(frozen=True)
class Wish:
    """How it is to be done.

    @ivar names: what the archive's one image is called; empty: what the archive calls each.
    @ivar pin: whether they are pinned.
    """

    names: tuple[Target, ...] = ()
    pin: bool = True


@dataclass(frozen=True)
class Imported:
    """What came of it.

    @ivar images: each under each of its names.
    @ivar new: what was not content of the cache before: how many, and their bytes.
    @ivar there: what was.
    """

    images: tuple[tuple[Target, Image], ...]
    new: tuple[int, int]
    there: tuple[int, int]


class Importer:
    """Imports into one cache directory, beside whoever else is at work there."""

    def __init__(
        self,
        layout: Layout,
        parse: Callable[[str], Target],
        clock: Callable[[], float] = time.time,
        *,
        changed: Callable[[Digest, int, int], None] = lambda digest, before, after: None,
        space: Space | None = None,
    ) -> None:
        """
        @param parse: what a name means; it raises L{CrcacheError} if it is none.
        @param clock: the time of day, in seconds since the epoch.
        @param changed: told how many bytes of a digest's content there were before, and are now.
        @param space: what there is room in; C{None} is as much as the disk has.
        """
        self._layout = layout
        self._parse = parse
        self._clock = clock
        self._contents = Contents(layout, clock, changed)
        self._space = space

    def take(
        self, source: BinaryIO, name: str, wish: Wish, advanced: Callable[[int], object] = lambda count: None
    ) -> Imported:
        """Import all that an archive holds. Content comes first, then what says whose it is, the tags last; nothing of
        it before everything has been verified.

        @param source: read from front to back.
        @param name: what it is called where it is refused.
        @param advanced: told how many bytes more have been read.
        @raise ArchiveInvalid: if it is refused; nothing is left behind then.
        @raise StoreError: if the disk fails; nothing but content is left behind then.
        """
        sweep(self._layout)
        version.restore(self._layout)
        with Staging(self._layout, self._space) as staging:
            try:
                stream = Unpacked(source, name, advanced)
                intake = Intake(self._contents, staging)
                intake.take(Tar(stream))
                stream.drain(_PADDING)
                intake.links()
                roots = find_roots(intake, self._contents)
                images = self._gather(intake, roots, len(wish.names))
                named = self._named(roots, images, wish)
            except Incomplete as problem:
                first = problem.missing[0].digest
                more = f", and {len(problem.missing) - 1} more" if len(problem.missing) > 1 else ""
                raise ArchiveInvalid(f"{name}: {first} is named, and missing in the archive{more}") from None
            except ArchiveInvalid as problem:
                where = "" if problem.message.startswith(name) else f"{name}: "
                raise ArchiveInvalid(f"{where}{problem.message}") from None
            except OSError as error:
                raise ArchiveInvalid(f"{name} cannot be read: {error.strerror or error}") from error
            counts = self._commit(intake, staging, images)
            note(self._layout, self._clock, named, pin=wish.pin)
        return Imported(tuple(named), *counts)

    def _gather(self, intake: Intake, roots: Sequence[Root], names: int) -> list[Image]:
        images, parts = [], 0
        for root in roots:
            image = gather(intake, root.descriptor)
            parts += image.count * (names or len(root.names) or 1)
            if parts > MOST_PARTS:
                raise ArchiveInvalid(f"its images, under all their names, have more than {MOST_PARTS} parts")
            images.append(image)
        return images

    def _named(self, roots: Sequence[Root], images: Sequence[Image], wish: Wish) -> list[tuple[Target, Image]]:
        if wish.names and len(roots) > 1:
            raise ArchiveInvalid(f"there are {len(roots)} images in it: --as is for archives of one")
        named: dict[Target, Image] = {}
        for root, image in zip(roots, images, strict=True):
            targets = wish.names or tuple(self._target(name) for name in root.names)
            if not targets:
                raise ArchiveInvalid(f"the image {image.root.digest} has no whole name in it: give it one with --as")
            for target in targets:
                reference = target[2]
                if isinstance(reference, Digest) and reference != image.root.digest:
                    raise ArchiveInvalid(f"the image named {reference} is {image.root.digest}")
                if named.setdefault(target, image) is not image:
                    raise ArchiveInvalid(f"two images in it are called {target[0]}/{target[1]}:{reference}")
        return list(named.items())

    def _target(self, name: str) -> Target:
        try:
            return self._parse(name)
        except CrcacheError:
            raise ArchiveInvalid(f"{shown(name)} is no name of an image: give it another with --as") from None

    def _commit(
        self, intake: Intake, staging: Staging, images: Sequence[Image]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Make content of all that the images consist of, what is named before what names it."""
        held = {each.digest: each.size for image in images for each in image.blobs.values()}
        held.update({each.digest: each.size for image in images for each in image.manifests.values()})
        new, there = [], []
        for digest, size in held.items():
            kept = intake.kept(digest)
            if kept is not None and kept.path is not None:
                adopt(self._contents, digest, kept.path)
                staging.adopted(kept.path)
                new.append(size)
            elif self._used(digest):
                there.append(size)
            elif digest in intake.made:
                self._contents.put(digest, intake.made[digest])
                new.append(size)
            else:
                raise vanished(self._contents, digest)
        return (len(new), sum(new)), (len(there), sum(there))

    def _used(self, digest: Digest) -> bool:
        """Whether content is there. It is used now, not within the hour: whoever is about to evict it sees that."""
        found = self._contents.find(digest)
        if found is None:
            return False
        fd = found.open()
        try:
            self._contents.seals.set(fd, digest, self._clock())
        except OSError as error:
            raise StoreError(f"{self._layout.content(digest)}: {error.strerror}") from error
        finally:
            os.close(fd)
        return True
