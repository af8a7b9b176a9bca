"""What an import notes of repositories: all of it, or nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from crcache.errors import StoreError
from crcache.facts import Fetched, Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.images.closure import Image
from crcache.store.contents import unlink
from crcache.store.files import write_atomically
from crcache.store.givers import Givers
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.records import membership_record
from crcache.store.repositories import Repositories

#: Which image is meant, and where.
Target = tuple[Registry, Repository, Tag | Digest]


class Noting:
    """A context manager: what has been noted is taken back if it is left with an exception."""

    def __init__(self, layout: Layout, clock: Callable[[], float]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._layout = layout
        self._clock = clock
        self._known = Repositories(layout, clock)
        self._givers = Givers(layout, clock)
        self._pins = Pins(layout)
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while kind is not None and self._undo:
            # What the disk does not let be taken back is of content that is there and right.
            with contextlib.suppress(StoreError, OSError):
                self._undo.pop()()

    def members(self, target: Target, image: Image) -> None:
        """The repository holds all of the image: what is named comes before whatever names it.

        @raise StoreError: if that cannot be noted.
        """
        registry, repository, _ = target
        named = [Membership(each.digest, each.media_type, each.size, named=True) for each in image.named.values()]
        held = [
            Membership(each.digest, each.media_type, each.size, fetched=Fetched.OPENLY)
            for each in (*image.blobs.values(), *image.manifests.values())
        ]
        for member in (*named, *held):
            old = self._known.member(registry, repository, member.digest)
            self._undo.append(partial(self._forget, registry, repository, member.digest, old))
            self._known.enrol(registry, repository, [member])

    def _forget(self, registry: Registry, repository: Repository, digest: Digest, old: Membership | None) -> None:
        path = self._layout.member(registry, repository, digest)
        if old is None or old.fetched is not Fetched.OPENLY:
            self._givers.take_back(registry, repository, digest)
        if old is None:
            unlink(path)
        else:
            write_atomically(path, json.dumps(membership_record(old)).encode())

    def pin(self, target: Target, image: Image) -> None:
        """It is pinned.

        @raise StoreError: if that cannot be noted.
        """
        registry, repository, reference = target
        before = self._pins.meant(registry, repository, reference)
        if before is not None:
            self._undo.append(lambda: self._pins.add(registry, repository, reference, before))
        elif not self._pins.holds(registry, repository, reference):
            self._undo.append(lambda: self._pins.remove(registry, repository, reference))
        self._pins.add(registry, repository, reference, image.root.digest)

    def tag(self, target: Target, image: Image) -> None:
        """A tag means it from now on; of a digest there is nothing to note.

        @raise StoreError: if that cannot be noted.
        """
        registry, repository, reference = target
        if isinstance(reference, Digest):
            return
        tag, root, before = reference, image.root, self._known.tag(registry, repository, reference)
        if before is None:
            self._undo.append(lambda: self._known.forget_tag(registry, repository, tag))
        else:
            self._undo.append(lambda: self._known.set_tag(registry, repository, tag, before))
        entry = TagEntry(root.digest, root.media_type or "", root.size, self._clock())
        self._known.set_tag(registry, repository, tag, entry)


def note(layout: Layout, clock: Callable[[], float], images: Sequence[tuple[Target, Image]], *, pin: bool) -> None:
    """Note images whose content is there, each under its name; the tags last, so that nobody sees less than all.

    @raise StoreError: if that fails; nothing is noted then.
    """
    with Noting(layout, clock) as noting:
        for target, image in images:
            noting.members(target, image)
        if pin:
            for target, image in images:
                noting.pin(target, image)
        for target, image in images:
            noting.tag(target, image)
