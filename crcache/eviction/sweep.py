"""Removes what is known of content that has gone, so that small files do not fill the disk. All of it blocks.

Nothing that goes here gives anybody a right: what is not known is found out anew. That a repository is private stays
known as long as anything else is known of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.eviction.pace import Pace
from crcache.eviction.pinned import repositories
from crcache.eviction.state import open_state
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.settings import Times
from crcache.store.files import is_file, read_small
from crcache.store.layout import ALGORITHMS, Layout
from crcache.store.pins import Pins
from crcache.store.records import tag_from

#: Seconds between two rounds; a sixth of them, if there is very much.
SELDOM = 6 * 3600.0
#: Seconds for which what is known of content that is not there is kept after its last use.
UNUSED = 86_400.0
#: And if there is more of it than that. Uses are noted hourly, and a commit has noted whose content it is before that
#: is in its place: nothing younger than this is ever touched.
MANY = 200_000
HURRIED = 2 * 3600.0
#: Seconds after which a tag goes that its origin has not confirmed, and nobody has asked for.
FORGOTTEN = 30 * 86_400.0


class Sweep:
    """One round over C{registries/} and C{openly/}."""

    def __init__(self, layout: Layout, clock: Callable[[], float], times: Callable[[Registry], Times]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param times: how long each registry's tags live.
        """
        self._layout = layout
        self._clock = clock
        self._times = times
        self._unused = UNUSED
        self._many = False

    def run_if_due(self, pace: Pace) -> None:
        """Do it, now and then, whichever process did it last.

        @raise crcache.eviction.pace.Stopped: if the pace says so.
        """
        mark = self._layout.eviction / "swept"
        with contextlib.suppress(OSError):
            age = self._clock() - os.lstat(mark).st_mtime
            if 0 <= age < (SELDOM / 6 if self._many else SELDOM):
                return
        self._many = self.run(pace, self._many) > MANY
        with contextlib.suppress(OSError):
            fd = open_state(mark)
            try:
                os.utime(fd, (self._clock(), self._clock()))
            finally:
                os.close(fd)

    def run(self, pace: Pace, many: bool) -> int:
        """Do it; how many memberships of content that is not there have been left.

        @param many: whether there were very many the last time.
        @raise crcache.eviction.pace.Stopped: if the pace says so.
        """
        self._unused = HURRIED if many else UNUSED
        left = 0
        for registry, repository, path in repositories(self._layout, pace.step):
            left += self._members(path / "_digests", pace)
            self._tags(registry, repository, path / "_tags", pace)
            self._tidy(path)
        for algorithm in ALGORITHMS:
            self._givers(algorithm, pace)
        return left

    def _members(self, directory: Path, pace: Pace) -> int:
        left = 0
        for entry in _entries(directory, pace):
            digest = _digest(entry.name.replace("-", ":", 1))
            if digest is None:
                self._stray(entry)
            elif not self._kept(digest):
                left += not self._remove(entry)
        return left

    def _kept(self, digest: Digest) -> bool:
        try:
            return is_file(self._layout.content(digest))
        except OSError:
            # Nobody can tell.
            return True

    def _tags(self, registry: Registry, repository: Repository, directory: Path, pace: Pace) -> None:
        pinned = {reference for reference, _ in Pins(self._layout).of(registry, repository)}
        times = self._times(registry)
        now = self._clock()
        for entry in _entries(directory, pace):
            try:
                tag = Tag.parse(entry.name)
            except CrcacheError:
                self._stray(entry)
                continue
            if tag in pinned:
                continue
            found = tag_from(read_small(self._layout.tag(registry, repository, tag), None))
            if found is None:
                self._remove(entry)
            elif found.checked + times.tag_ttl + times.stale_if_error < now:
                self._remove(entry, FORGOTTEN if self._kept(found.digest) else self._unused)

    def _givers(self, algorithm: str, pace: Pace) -> None:
        for entry in _entries(self._layout.openly / algorithm, pace):
            digest = _digest(f"{algorithm}:{entry.name}")
            if digest is None or self._kept(digest) or not self._old(entry, self._unused):
                continue
            for giver in _entries(Path(entry.path), pace):
                with contextlib.suppress(OSError):
                    os.unlink(giver.path)
            with contextlib.suppress(OSError):
                os.rmdir(entry.path)

    def _tidy(self, path: Path) -> None:
        """Directories in which nothing is left; then what is said of a repository of which nothing else is known."""
        own = [path / name for name in ("_digests", "_tags", "_pins")]
        for each in (*own, path, path.parent):
            _remove_empty(each, self._clock() - HURRIED)
        private = path / "_private"
        with contextlib.suppress(OSError):
            found = os.lstat(private)
            if found.st_mtime < self._clock() - self._unused and not any(map(os.path.lexists, own)):
                os.unlink(private)
                os.rmdir(path)

    def _stray(self, entry: os.DirEntry[str]) -> None:
        """What a killed process has begun to write; of what has another name nobody knows whose it is."""
        if entry.name.startswith("."):
            self._remove(entry)

    def _remove(self, entry: os.DirEntry[str], unused: float | None = None) -> bool:
        """Remove a file that nobody has used for so long, and say whether it was."""
        if not self._old(entry, self._unused if unused is None else unused):
            return False
        with contextlib.suppress(OSError):
            os.unlink(entry.path)
            return True
        return False

    def _old(self, entry: os.DirEntry[str], unused: float) -> bool:
        with contextlib.suppress(OSError):
            return os.lstat(entry.path).st_mtime < self._clock() - unused
        return False


def _remove_empty(path: Path, before: float) -> None:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode) and found.st_mtime < before:
            os.rmdir(path)


def _entries(directory: Path, pace: Pace) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            pace.step()
            yield entry


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except CrcacheError:
        return None
