"""What an administrator has pinned: never evicted, and served for as long as its origin fails. All of it blocks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator

from crcache.errors import CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store import version
from crcache.store.contents import unlink
from crcache.store.files import read_small, write_atomically
from crcache.store.layout import Layout


class Pins:
    """Small files in the repositories' C{_pins/}, each with the digest that was meant: a tag's own entry says what it
    means now, and only if that is gone is the pin's word taken for it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def add(self, registry: Registry, repository: Repository, reference: Tag | Digest, digest: Digest) -> None:
        """Pin it. Idempotent.

        @param digest: what it means now.
        @raise StoreError: if that cannot be written.
        """
        path = self._layout.pin(registry, repository, reference)
        version.restore(self._layout)
        record = {"digest": str(digest), "since": int(time.time())}
        try:
            write_atomically(path, json.dumps(record).encode(), durable=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error

    def remove(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> bool:
        """Unpin it; whether it was pinned.

        @raise StoreError: if it stays.
        """
        path = self._layout.pin(registry, repository, reference)
        pinned = os.path.lexists(path)
        unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(path.parent)
        return pinned

    def holds(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> bool:
        """Whether it is pinned, however damaged the file is."""
        return os.path.lexists(self._layout.pin(registry, repository, reference))

    def of(self, registry: Registry, repository: Repository) -> Iterator[tuple[Tag | Digest, Digest | None]]:
        """What is pinned of a repository, and what it meant when it was; C{None} if the file does not say.

        A digest's pin means that digest, whatever its file says. Other names than those of pins are passed over.
        """
        try:
            names = sorted(os.listdir(self._layout.pins(registry, repository)))
        except OSError:
            return
        for name in names:
            reference = reference_of(name)
            if isinstance(reference, Digest):
                yield reference, reference
            elif reference is not None:
                yield reference, self.meant(registry, repository, reference)

    def meant(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> Digest | None:
        """The digest that a pin's file says; C{None} if there is none, or it says none."""
        record = read_small(self._layout.pin(registry, repository, reference), None)
        said = None if record is None else record.get("digest")
        try:
            return Digest.parse(said) if isinstance(said, str) else None
        except CrcacheError:
            return None


def reference_of(name: str) -> Tag | Digest | None:
    """What the file of a pin is about, by its name; C{None} if that is not one of a pin."""
    try:
        return Digest.parse(name[1:].replace("-", ":", 1)) if name.startswith("@") else Tag.parse(name)
    except CrcacheError:
        return None
