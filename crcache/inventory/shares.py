"""Who holds how many bytes of a cache directory, alone and together with others. All of it blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crcache.grammar.digest import Digest
from crcache.inventory.contents import walk
from crcache.inventory.images import Images
from crcache.inventory.problems import Problems
from crcache.store.layout import Layout

#: In place of a holder's number: several hold it.
_SEVERAL = -1
_NOBODY = -2


@dataclass
class Share:
    """What one holder has.

    @ivar total: bytes of content.
    @ivar own: bytes of it that nobody else holds.
    """

    name: str
    total: int = 0
    own: int = 0

    @property
    def shared(self) -> int:
        """Bytes that others hold as well."""
        return self.total - self.own


@dataclass
class Usage:
    """A cache directory's bytes, each once. C{total} is the sum of all others but C{shares}.

    @ivar own: of content, those with one holder.
    @ivar shared: those with several.
    @ivar unheld: those that nobody is known to hold.
    @ivar fills: those that fills in progress have written. A fill's file has holes.
    @ivar records: those of what is noted of repositories, and of the cache itself.
    @ivar quarantine: those of content that was found to be wrong.
    """

    shares: list[Share]
    own: int = 0
    shared: int = 0
    unheld: int = 0
    fills: int = 0
    records: int = 0
    quarantine: int = 0

    @property
    def content(self) -> int:
        """All of content."""
        return self.own + self.shared + self.unheld

    @property
    def total(self) -> int:
        """All that is in the directory."""
        return self.content + self.fills + self.records + self.quarantine


class Ledger:
    """Counts content for its holders. Of each some hundred bytes of memory are taken, whatever its size."""

    def __init__(self, layout: Layout, problems: Problems) -> None:
        self._held = {_key(each.digest): (each.size, _NOBODY) for each in walk(layout, problems)}
        self.shares: list[Share] = []

    def add(self, name: str, digests: Iterable[Digest]) -> None:
        """One holder, and each digest that he holds, once."""
        number, share = len(self.shares), Share(name)
        self.shares.append(share)
        for digest in digests:
            key = _key(digest)
            size, owner = self._held.get(key, (None, _NOBODY))
            if size is None:
                continue
            share.total += size
            if owner == _NOBODY:
                share.own += size
                self._held[key] = size, number
            elif owner != _SEVERAL:
                self.shares[owner].own -= size
                self._held[key] = size, _SEVERAL

    def close(self) -> Usage:
        """All that was counted."""
        usage = Usage(self.shares)
        for size, owner in self._held.values():
            if owner == _SEVERAL:
                usage.shared += size
            elif owner == _NOBODY:
                usage.unheld += size
            else:
                usage.own += size
        return usage


def by_registry(images: Images) -> Iterator[tuple[str, Iterable[Digest]]]:
    """Registries as holders, with what each holds."""
    name, digests = "", set[Digest]()
    for home in images.repositories.homes():
        if str(home.registry) != name:
            if name:
                yield name, digests
            name, digests = str(home.registry), set()
        digests.update(images.repositories.digests(home))
    if name:
        yield name, digests


def by_repository(images: Images) -> Iterator[tuple[str, Iterable[Digest]]]:
    """Repositories as holders."""
    for home in images.repositories.homes():
        yield str(home), images.repositories.digests(home)


def by_image(images: Images) -> Iterator[tuple[str, Iterable[Digest]]]:
    """Tags, and manifests without tags, as holders. What no manifest here names is held by nobody then."""
    for image in images.all(untagged=True):
        yield str(image), (part.descriptor.digest for part in images.closure(image.digest, image.media_type))


def beside(layout: Layout, usage: Usage, problems: Problems) -> None:
    """Add what is in the directory besides content."""
    usage.fills = sum(_bytes(layout.ingest, problems))
    usage.quarantine = sum(_bytes(layout.quarantine, problems))
    apart = {layout.ingest, layout.quarantine, *layout.algorithms()}
    usage.records = sum(_bytes(layout.root, problems, apart))


def _bytes(directory: Path, problems: Problems, apart: Iterable[Path] = ()) -> Iterator[int]:
    """The bytes of each file below a directory, but for those below others; drafts count. Links are not followed."""
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        try:
            entries = os.scandir(here)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.add(here, error.strerror or str(error))
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield min(found.st_size, found.st_blocks * 512) if here.name == "ingest" else found.st_size
                elif stat.S_ISDIR(found.st_mode) and (path := here / entry.name) not in apart:
                    waiting.append(path)


def _key(digest: Digest) -> bytes:
    """A digest in few bytes: there may be a million. Those of one algorithm are of one length."""
    return bytes.fromhex(digest.hex)
