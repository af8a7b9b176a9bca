"""L{crcache.store.memory}."""

from __future__ import annotations

import os

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.interfaces import IStore
from crcache.store.memory import Memory
from tests.store import conformance
from tests.store.stores import StoreCase


class MemoryCase(StoreCase):
    """A store in memory."""

    def make(self) -> IStore:
        """A new one."""
        self.memory = Memory(self.clock)
        return self.memory

    def vanish(self, *parts: str) -> None:
        """Empty the dictionaries."""
        kinds = {
            "content": self.memory.contents,
            "fills": self.memory.fills,
            "members": self.memory.members,
            "tags": self.memory.tags,
            "given": self.memory.givers,
            "privacies": self.memory.privacies,
        }
        for part in parts:
            kinds[part].clear()  # type: ignore[attr-defined]

    def pin(self, registry: Registry, repository: Repository, tag: Tag, pinned: bool = True) -> None:
        """Note it, or forget it."""
        (self.memory.pins.add if pinned else self.memory.pins.discard)((registry, repository, tag))

    def damage(self, digest: Digest) -> None:
        """Change a byte."""
        fd = self.memory.contents[digest].open()
        os.pwrite(fd, b"\x00" if os.pread(fd, 1, 7) != b"\x00" else b"\x01", 7)
        os.close(fd)


class MemoryTests(MemoryCase, conformance.Conformance):
    """The store in memory."""


class PrivateTests(MemoryCase, conformance.Private):
    """Its fills for one repository's clients."""
