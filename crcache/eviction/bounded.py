"""Room within the bounds that the administrator has set: made before something is stored. It blocks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from crcache.errors import NoRoom
from crcache.eviction.holders import Held
from crcache.eviction.removal import Removal
from crcache.eviction.tally import Book, Tally
from crcache.policy.eviction import allowed, fits, surplus
from crcache.settings import Bounds
from crcache.store.layout import Layout

#: Seconds that room may take to be made: whoever asks for content waits that long, and is then passed on to its origin.
PATIENCE = 8.0
#: Bytes that are freed beyond what is needed just now, as more is likely to be needed soon.
AHEAD = 64 << 20
#: Times that room is made which then is not there: others have taken it, or files that have gone are being sent still.
_TRIES = 4


@dataclass(frozen=True)
class Measure:
    """How things stand.

    @ivar most: bytes that there may be: the bound in force.
    @ivar there: bytes that there are, of content and of fills; without content, if nobody has counted that.
    @ivar coming: bytes for which room is held besides.
    @ivar counted: whether somebody has counted.
    @ivar pinned: bytes that must stay.
    @ivar limit: bytes that there may be at best, whatever else is on the disk.
    """

    most: int
    there: int
    coming: int
    counted: bool
    pinned: int
    limit: int

    def short(self, more: int) -> int:
        """How many bytes have to go for so many more to come."""
        return max(self.there + self.coming + more - self.most, 0)


class Bounded:
    """The space that a store has; see L{crcache.store.space.Space}."""

    def __init__(
        self,
        layout: Layout,
        bounds: Callable[[], Bounds],
        tally: Tally,
        removal: Removal,
        replan: Callable[[float], bool],
        later: Callable[[Callable[[], None]], object],
        statvfs: Callable[[os.PathLike[str]], os.statvfs_result] = os.statvfs,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param bounds: those in force.
        @param replan: called when nothing is left of the plan, and until when a new one is waited for; whether there is
            one now.
        @param later: calls something soon, in a thread that may be kept waiting by the disk.
        @param monotonic: seconds.
        """
        self._layout = layout
        self._bounds = bounds
        self._tally = tally
        self._removal = removal
        self._replan = replan
        self._later = later
        self._statvfs = statvfs
        self._monotonic = monotonic

    def hold(self) -> Claim:
        """As L{Space.hold<crcache.store.space.Space>}."""
        return Claim(self, self._tally, self._later)

    def measure(self, book: Book) -> Measure:
        """How things stand, by the open book.

        @raise OSError: as statvfs(2).
        """
        held, lost = self._tally.holders.all()
        book.left += lost
        return self._measured(book, held)

    def _measured(self, book: Book, held: Held) -> Measure:
        fs = self._statvfs(self._layout.root)
        there = (book.content or 0) + book.left + held.there
        total, bounds = fs.f_blocks * fs.f_frsize, self._bounds()
        most, limit = allowed(bounds, total, fs.f_bavail * fs.f_frsize, there), allowed(bounds, total, total, 0)
        return Measure(most, there, held.coming, book.content is not None, book.pinned, limit)

    def excess(self) -> int:
        """How many bytes have to go by the watermarks.

        @raise OSError: if nobody can tell.
        """
        with self._tally.open() as book:
            found = self.measure(book)
        return surplus(self._bounds(), found.most, found.there, found.coming) if found.counted else 0

    def take(self, more: int, whole: int, there: int, claim: Callable[[], None]) -> None:
        """Have room for so many bytes more.

        @param whole: bytes of the thing that they are of, which must fit into the cache at all.
        @param there: bytes of it that had been left on the disk, and so are counted already.
        @param claim: called when there is room, before anybody else can have it.
        @raise NoRoom: if there is none to be had.
        """
        until, tries = self._monotonic() + PATIENCE, 0
        while (found := self._try(more, whole, there, claim)) is not None:
            hopeless = found.counted and found.short(more) > found.there - found.pinned
            if hopeless or tries >= _TRIES or self._monotonic() >= until:
                raise NoRoom(self._told(whole, found))
            tries += 1
            if not self._make(more, until):
                # Once: what a new plan cannot have go stays.
                if not self._replan(until):
                    raise NoRoom(self._told(whole, found))
                tries = _TRIES - 1

    def _try(self, more: int, whole: int, there: int, claim: Callable[[], None]) -> Measure | None:
        """How things stand, if there is no room; else it is the caller's."""
        claimed = False
        try:
            with self._tally.open() as book:
                found = self.measure(book)
                self._fit(found, whole)
                if found.short(more):
                    return found
                self._tally.holders.show()
                book.left = max(book.left - there, 0)
                claim()
                claimed = True
                self._tally.holders.tell()
                return None
        except OSError:
            # A full disk, for one, on which nothing can be noted: what it has free is known all the same.
            return None if claimed else self._alone(more, whole, claim)

    def _alone(self, more: int, whole: int, claim: Callable[[], None]) -> Measure | None:
        try:
            found = self._measured(self._tally.last, self._tally.holders.all()[0])
        except OSError as error:
            raise NoRoom(f"{self._layout.root}: {error.strerror}") from error
        self._fit(found, whole)
        if found.short(more):
            return found
        claim()
        return None

    def _fit(self, found: Measure, whole: int) -> None:
        # What is free says little of how much there may be as long as nobody knows how much of it is the cache's.
        if not fits(self._bounds(), found.most if found.counted else found.limit, whole):
            raise NoRoom(self._told(whole, found))

    def _told(self, whole: int, found: Measure) -> str:
        return (
            f"{self._layout.root}: no room for {whole} bytes: the cache may have {found.most} bytes"
            " (cache.max-size, cache.min-free)"
        )

    def _make(self, more: int, until: float) -> bool:
        """Have others go; whether some have, so that it is worth trying again."""

        def wanted() -> int:
            with contextlib.suppress(OSError), self._tally.open() as book:
                short = self.measure(book).short(more)
                return short + min(AHEAD, short) if short else 0
            return more

        try:
            freed = self._removal.free(wanted, until)
        except OSError:
            return False
        return bool(freed.size) or not freed.dry


class Claim:
    """Room for one thing; see L{crcache.store.space.Hold}."""

    def __init__(self, space: Bounded, tally: Tally, later: Callable[[Callable[[], None]], object]) -> None:
        self._space = space
        self._later = later
        self._holders = tally.holders
        self._lock, self._taking = Lock(), Lock()
        self._size = self._landed = 0
        self._over = False

    def covers(self, size: int) -> bool:
        """As L{Hold.covers<crcache.store.space.Hold>}."""
        return size <= self._size

    def take(self, size: int, there: int = 0, whole: int | None = None) -> None:
        """As L{Hold.take<crcache.store.space.Hold>}."""
        # One at a time: two streams of one body that both ask for room for all of it mean the same bytes.
        with self._taking:
            self._take(size, there, whole)

    def _take(self, size: int, there: int, whole: int | None) -> None:
        more = size - self._size
        if more <= 0:
            return
        there = min(there, size) if not self._size else 0

        def claim() -> None:
            with self._lock:
                if self._over:
                    # Whoever it was for has not waited.
                    return
                self._size += more
                self._landed += there
                self._holders.change(more - there, there)

        self._space.take(more - there, size if whole is None else max(whole, size), there, claim)

    def landed(self, count: int) -> None:
        """As L{Hold.landed<crcache.store.space.Hold>}."""
        due = False
        with self._lock:
            # What is written a second time, or beyond what is held, is nothing more.
            count = min(count, self._size - self._landed)
            if count > 0:
                self._landed += count
                due = self._holders.change(-count, count)
        if due:
            self._holders.tell()

    def release(self, left: bool = False) -> None:
        """As L{Hold.release<crcache.store.space.Hold>}."""
        due = False
        with self._lock:
            size, landed = self._size, self._landed
            self._size = self._landed = 0
            self._over = True
            if size:
                due = self._holders.change(landed - size, 0 if left else -landed)
            if left:
                self._holders.leave(landed)
        if due:
            # This may be the reactor's thread, which waits for no disk.
            self._later(self._holders.tell)
