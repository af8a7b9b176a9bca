"""Goes over all content at a pace that nobody feels: counts it, and writes down what goes next. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.eviction.naming import named
from crcache.eviction.pace import Pace
from crcache.eviction.pinned import closure, roots, tagged
from crcache.eviction.plan import MOST, Plan, line
from crcache.eviction.state import locked
from crcache.eviction.tally import Tally
from crcache.eviction.view import View
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import LIMIT
from crcache.policy.eviction import PINNED, depths, effective, order
from crcache.store.files import size_of
from crcache.store.layout import Layout

#: Seconds after which a draft belongs to nobody: whoever made it was killed.
DRAFT = 86_400.0
#: Pairs of a manifest and what it names that are kept in mind; a stranger's registry may have any number.
_MOST_EDGES = 8_000_000
_HEX = {"sha256": re.compile("[0-9a-f]{64}"), "sha512": re.compile("[0-9a-f]{128}")}
_SECOND = 10**9
#: See L{crcache.store.files.beside}.
_DRAFT = re.compile(r"\.[0-9a-f]{16}")


@dataclass(frozen=True)
class Walked:
    """What a walk has found.

    @ivar files: of content.
    @ivar content: bytes of all of them.
    @ivar lines: the plan.
    @ivar kept: whether the plan could be written. Without that, whoever has this is the only one who knows it.
    """

    files: int
    content: int
    lines: bytes
    kept: bool


class Walker:
    """One at a time, of all processes that share the cache directory."""

    def __init__(self, layout: Layout, tally: Tally, plan: Plan, clock: Callable[[], float]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._layout = layout
        self._tally = tally
        self._plan = plan
        self._clock = clock

    def walk(self, pace: Pace) -> Walked | None:
        """Do it; C{None} if somebody else does just now.

        @raise crcache.eviction.pace.Stopped: if the pace says so; nothing has changed then.
        @raise OSError: if the directories cannot be read.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self._layout.eviction / "walk.lock", 0.0))
            except BlockingIOError:
                return None
            except OSError:
                # On a full disk there may be no lock to be had, but room has to be made all the more.
                os.stat(self._layout.root)
            return self._walk(pace)

    def _walk(self, pace: Pace) -> Walked:
        with contextlib.suppress(OSError):
            self._tally.begin()
        view = View()
        for directory in self._layout.algorithms():
            self._gather(directory, view, pace)
        for directory in (self._layout.root, self._layout.ingest, self._layout.eviction):
            self._tidy(directory, pace)
        view.settle(pace)
        edges = self._edges(view, pace)
        pinned = closure(self._layout, roots(self._layout, pace.step), pace.step)
        keep = [index for index in map(view.index, pinned) if index is not None]
        used = view.times(pace)
        for digest, when in tagged(self._layout, pace.step):
            at = view.index(digest)
            if at is not None:
                used[at] = max(used[at], when)
        times = effective(used, edges, keep, now=int(self._clock()), rest=pace.rest)
        deep = depths(len(view), edges, rest=pace.rest)
        lines = bytearray()
        for count, index in enumerate(order(times, deep, rest=pace.rest)):
            if count == MOST:
                break
            lines += line(*view.at(index))
            pace.step()
        held = sum(size for (size, _), time in zip(view.marks(), times, strict=True) if time == PINNED)
        content = self._counted(view, held)
        plan, kept = bytes(lines), True
        try:
            self._plan.write(plan, self._clock())
        except OSError:
            kept = False
        return Walked(len(view), content, plan, kept)

    def _gather(self, directory: Path, view: View, pace: Pace) -> None:
        fits = _HEX[directory.name].fullmatch
        try:
            entries = os.scandir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                pace.step()
                with contextlib.suppress(FileNotFoundError):
                    if fits(entry.name):
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode):
                            view.add(directory.name, entry.name, found.st_size, found.st_mtime_ns // _SECOND)
                    else:
                        self._draft(entry)

    def _tidy(self, directory: Path, pace: Pace) -> None:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                pace.step()
                self._draft(entry)

    def _draft(self, entry: os.DirEntry[str]) -> None:
        """What a killed process has begun to write. Its times may be those of what it is a second link of."""
        if not _DRAFT.fullmatch(entry.name):
            return
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_ctime < self._clock() - DRAFT:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)

    def _edges(self, view: View, pace: Pace) -> _Pairs:
        """Which content names which, by their numbers."""
        found = _Pairs()
        for index, (size, _) in enumerate(view.marks()):
            pace.step()
            if 2 <= size <= LIMIT and len(found) < _MOST_EDGES:
                for child in named(self._layout, view.at(index)[0]):
                    at = view.index(child)
                    if at is not None:
                        found.add(index, at)
        return found

    def _counted(self, view: View, pinned: int) -> int:
        """Set the tally right, with what has changed since the walk began."""
        total = sum(size for size, _ in view.marks())
        with contextlib.suppress(OSError), self._tally.open() as book:
            for text in self._tally.noted():
                with contextlib.suppress(CrcacheError):
                    digest = Digest.parse(text)
                    index = view.index(digest)
                    total += size_of(self._layout.content(digest)) - (0 if index is None else view.at(index)[1])
            book.content, book.files, book.pinned = total, len(view), pinned
        return total


class _Pairs:
    """Pairs of numbers, which can be gone through more than once."""

    def __init__(self) -> None:
        self._flat = array("i")

    def add(self, parent: int, child: int) -> None:
        self._flat.append(parent)
        self._flat.append(child)

    def __len__(self) -> int:
        return len(self._flat) // 2

    def __iter__(self) -> Iterator[tuple[int, int]]:
        flat = iter(self._flat)
        return zip(flat, flat, strict=True)
