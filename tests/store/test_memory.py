"""L{crcache.store.memory}."""

from __future__ import annotations

import os

from crcache.grammar.digest import Digest
from crcache.interfaces import IStore
from crcache.store.memory import Memory
from tests.store import conformance


class MemoryTests(conformance.Conformance):
    """The store in memory."""

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
        }
        for part in parts:
            kinds[part].clear()  # type: ignore[attr-defined]

    def damage(self, digest: Digest) -> None:
        """Change a byte."""
        fd = self.memory.contents[digest].open()
        os.pwrite(fd, b"\x00" if os.pread(fd, 1, 7) != b"\x00" else b"\x01", 7)
        os.close(fd)
