"""The content in a cache directory: names, sizes, last uses. All of it blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from crcache.errors import CrcacheError
from crcache.grammar.digest import Digest
from crcache.inventory.problems import Problems
from crcache.store.layout import ALGORITHMS, Layout


@dataclass(frozen=True, slots=True)
class Held:
    """Content that is here.

    @ivar size: in bytes.
    @ivar used: when it was last used, in seconds since the epoch.
    """

    digest: Digest
    size: int
    used: float


def walk(layout: Layout, problems: Problems) -> Iterator[Held]:
    """All content, in no order, one look at a file each. What is no file is passed over."""
    for digest, entry in _entries(layout, problems):
        path = layout.content(digest)
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.add(path, error.strerror or str(error))
            continue
        if stat.S_ISREG(found.st_mode):
            yield Held(digest, found.st_size, found.st_mtime)
        else:
            problems.add(path, "is no file")


def named(layout: Layout, problems: Problems) -> Iterator[Digest]:
    """All that is in content's place, whatever it is, by name alone, in no order."""
    for digest, _ in _entries(layout, problems):
        yield digest


def _entries(layout: Layout, problems: Problems) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
    for algorithm in ALGORITHMS:
        directory = layout.blobs / algorithm
        try:
            entries = os.scandir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.add(directory, error.strerror or str(error))
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    digest = Digest(algorithm, entry.name)
                except CrcacheError:
                    problems.add(directory / entry.name, "is not named as a digest")
                    continue
                yield digest, entry


def find(layout: Layout, digest: Digest) -> Held | None:
    """The content of this digest, if it is here."""
    try:
        found = os.lstat(layout.content(digest))
    except OSError:
        return None
    return Held(digest, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None
