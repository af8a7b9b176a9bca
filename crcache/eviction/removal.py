"""Removes what goes next, until there is room: one process at a time, from where the last one stopped. It blocks."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crcache.eviction.leftovers import Leftovers
from crcache.eviction.naming import named
from crcache.eviction.pinned import closure, roots
from crcache.eviction.plan import Plan, Step
from crcache.eviction.state import locked
from crcache.eviction.tally import Tally
from crcache.grammar.digest import Digest
from crcache.store.contents import Contents

#: Seconds after which a fill that nobody goes on with goes before any content, and after which it goes anyway.
OLD = 3600.0
ABANDONED = 3 * 86_400.0
#: Seconds after which it is looked anew at what is pinned.
_PINS = 300.0
#: Files between two notes of how far it has come.
_NOTED = 64
_SECOND = 10**9


@dataclass
class Freed:
    """What came of it.

    @ivar size: bytes that have been freed.
    @ivar files: of content that were removed.
    @ivar dry: whether there is nothing left that could go; a new plan may know more.
    """

    size: int = 0
    files: int = 0
    dry: bool = False


class Removal:
    """Follows the plan, but removes nothing that has been used since it was made, or is pinned.

    @ivar contents: the content.
    """

    def __init__(
        self,
        contents: Contents,
        tally: Tally,
        plan: Plan,
        clock: Callable[[], float],
        evicted: Callable[[int], None] = lambda size: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param evicted: told of the bytes of each file of content that is removed.
        @param monotonic: seconds.
        """
        self.contents = contents
        self._layout = contents.layout
        self._leftovers = Leftovers(self._layout)
        self._tally = tally
        self._plan = plan
        self._clock = clock
        self._evicted = evicted
        self._monotonic = monotonic
        self._pinned: set[Digest] = set()
        self._spared: set[Digest] = set()
        self._looked: tuple[int, float] | None = None

    def free(self, wanted: Callable[[], int], until: float, lines: Iterable[Step] | None = None) -> Freed:
        """Have so many bytes go: old fills first, then what the plan says.

        @param wanted: how many; asked once it is this process' turn, as others may have made room meanwhile.
        @param until: when to stop, by the monotonic clock.
        @param lines: what goes, if the disk is too full for a plan to be written.
        @raise BlockingIOError: if others are at it until then.
        """
        with contextlib.ExitStack() as stack:
            try:
                patience = max(until - self._monotonic(), 0.0)
                stack.enter_context(locked(self._layout.eviction / "evict.lock", patience))
            except BlockingIOError:
                raise
            except OSError:
                # On a full disk there may be no lock to be had. Two who remove at once remove too much at worst.
                pass
            freed, most = Freed(), wanted()
            if most > 0:
                freed.size += self._old_fills(most)
            if freed.size < most:
                self._follow(freed, most, until, lines)
            return freed

    def abandoned(self, step: Callable[[], object] = lambda: None) -> int:
        """Remove fills that nobody has gone on with for days; the bytes of those that are still there.

        @param step: called for each name that is looked at.
        """
        before, left = self._clock() - ABANDONED, 0
        for each in self._leftovers.look(step):
            if each.written >= before or not self._leftovers.remove(each, before):
                left += each.size
        return left

    def _old_fills(self, wanted: int) -> int:
        before, freed = self._clock() - OLD, 0
        for each in self._leftovers.look():
            if freed >= wanted or each.written >= before:
                break
            freed += self._leftovers.remove(each, before)
        if freed:
            with contextlib.suppress(OSError), self._tally.open() as book:
                book.left = max(book.left - freed, 0)
        return freed

    def _follow(self, freed: Freed, most: int, until: float, lines: Iterable[Step] | None) -> None:
        made = self._plan.made()
        inode = -1 if made is None or lines is not None else made[0]
        steps: Iterator[Step] = iter(self._plan.steps() if lines is None else lines)
        end = -1
        for count, step in enumerate(steps, 1):
            self._look_at_pins(inode)
            size = self._remove(step)
            if size:
                freed.size += size
                freed.files += 1
            end = step.end
            if freed.size >= most or self._monotonic() >= until:
                break
            if count % _NOTED == 0 and inode >= 0:
                self._plan.advance(inode, end)
        else:
            freed.dry = True
        if end >= 0 and inode >= 0:
            self._plan.advance(inode, end)

    def _look_at_pins(self, inode: int) -> None:
        """A plan may lie, and may be older than a pin."""
        now = self._monotonic()
        if self._looked is None or self._looked[0] != inode or now - self._looked[1] > _PINS:
            self._pinned = closure(self._layout, roots(self._layout))
            self._spared.clear()
            self._looked = inode, now

    def _remove(self, step: Step) -> int:
        """Remove what a line names, if it is as it was; its bytes, or 0."""
        path = self._layout.content(step.digest)
        try:
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode) or step.digest in self._pinned:
                return 0
            same = (max(found.st_mtime_ns // _SECOND, 0), found.st_size) == (step.used, step.size)
            if not same or step.digest in self._spared:
                self._spare(step.digest, found)
                return 0
            os.unlink(path)
        except OSError:
            return 0
        self._tally.changed(step.digest, step.size, 0)
        self._evicted(step.size)
        return step.size

    def _spare(self, digest: Digest, found: os.stat_result) -> None:
        """It has been used since: so has all that it names, which comes later in the plan."""
        for child in named(self._layout, digest):
            with contextlib.suppress(OSError):
                if int(os.lstat(self._layout.content(child)).st_mtime) == int(found.st_mtime):
                    # Within the same second its time does not show it.
                    self._spared.add(child)
            self.contents.touch(child, found.st_mtime)
