"""A fill in a directory that several processes share: who owns it, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.errors import StoreError
from crcache.facts import Membership, Verdict
from crcache.grammar.reference import Repository
from crcache.interfaces import IIngest
from crcache.store.files import is_at, is_file, link_or_move, make_way, open_new, remove, size_of, sync_directory
from crcache.store.ingest import OpenIngest
from crcache.store.layout import Place
from crcache.store.marks import Marks, MarksDamaged, State
from crcache.workers import Workers

log = Logger()

_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ATTEMPTS = 50


@dataclass(frozen=True)
class Finish:
    """What is the store's part of a commit. Called in a worker thread.

    @ivar seal: given the open data, once its bytes are safe and before they are content.
    @ivar enrol: notes memberships, before the content is in its place: without one it would have to be fetched anew.
    @ivar committed: told, when it is, how many bytes were there before, of the same content from elsewhere.
    """

    seal: Callable[[int], None]
    enrol: Callable[[Sequence[tuple[Repository, Membership]]], None]
    committed: Callable[[int], None]


class _Again(Exception):
    """The files changed under our hands; start over."""


@implementer(IIngest)
class FileIngest(OpenIngest):
    """Two files in C{ingest/}. The C{flock} on the marks says: I am the one who fetches this.

    Whoever removes either file holds that lock. Nothing is ever truncated to start over, but unlinked and made anew:
    somebody may still be reading.
    """

    def __init__(self, workers: Workers, syncing: Workers, place: Place, boot: bytes, finish: Finish) -> None:
        super().__init__(workers, syncing)
        self._place = place
        self._boot = boot
        self._finish = finish
        self._lock = -1
        self._data = -1
        self.owner = False

    @classmethod
    def begin(cls, workers: Workers, syncing: Workers, place: Place, boot: bytes, finish: Finish) -> FileIngest | None:
        """Own the fill, or follow whoever owns it; C{None} if the content is there by now. Blocking.

        @raise StoreError: if the directory fails us.
        """
        for attempt in range(_ATTEMPTS):
            time.sleep(0.001 * attempt)
            made = cls(workers, syncing, place, boot, finish)
            attached = False
            try:
                attached = made._attach()
                return made if attached else None
            except (_Again, MarksDamaged, FileExistsError):
                continue
            except OSError as error:
                raise StoreError(f"{error.filename or place.data.parent}: {error.strerror}") from error
            finally:
                if not attached:
                    # Not left to chance: a traceback that somebody keeps would keep the lock as well.
                    made._let_go()
        raise StoreError(f"{place.marks}: changes faster than it can be opened")

    def _attach(self) -> bool:
        """Open, lock, check. False if there is content already."""
        self._open_marks()
        self.owner = self._try_lock()
        if not self.owner:
            return self._follow()
        # The lock means something only if it is on the file that others will find.
        if not is_at(self._lock, self._place.marks):
            raise _Again
        if is_file(self._place.target):
            self._unlink()
            return False
        self._own()
        return True

    def _open_marks(self) -> None:
        try:
            self._lock = os.open(self._place.marks, os.O_RDWR | _SAFELY)
        except FileNotFoundError:
            self._lock = open_new(self._place.marks, 0o600)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ELOOP):
                raise
        if self._lock < 0 or not stat.S_ISREG(os.fstat(self._lock).st_mode):
            make_way(self._place.marks)
            raise _Again
        self._marks = Marks(self._lock, self._boot)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _own(self) -> None:
        if os.fstat(self._lock).st_size == 0:
            remove(self._place.data)
            self._data = open_new(self._place.data, 0o600)
            self._marks.create(os.fstat(self._data).st_ino)
            return
        with contextlib.suppress(OSError):
            self._data = os.open(self._place.data, os.O_RDWR | _SAFELY)
        usable = self._data >= 0 and self._marks.belongs_to(os.fstat(self._data).st_ino)
        if not usable or self.state is Verdict.FAILED:
            self._remove()
            raise _Again
        self._marks.adopt()
        if os.fstat(self._data).st_size < self._marks.reach():
            # Somebody has cut it, and nobody knows what else they did.
            self._remove()
            raise _Again
        if self._marks.state is State.VERIFIED:
            # Whoever gave the verdict died before the content was in its place; its bytes are checked again.
            self._marks.state = State.ANSWERED

    def _follow(self) -> bool:
        """Whether there is a fill to follow, and not its content already. Between two steps of the owner's: again."""
        try:
            self._data = os.open(self._place.data, os.O_RDONLY | _SAFELY)
        except FileNotFoundError:
            if is_file(self._place.target):
                return False
            raise _Again from None
        if not self._marks.belongs_to(os.fstat(self._data).st_ino) or not self._marks.of_this_boot():
            raise _Again
        if not is_at(self._lock, self._place.marks) or self.state is Verdict.FAILED:
            raise _Again
        if self.state is Verdict.VERIFIED and self.hole(0) is not None:
            raise _Again
        return True

    def _remove(self) -> None:
        """Remove both files, holding the lock. Whoever has them open is told that they have failed."""
        self._marks.state = State.FAILED
        self._unlink()

    def _unlink(self) -> None:
        remove(self._place.data)
        remove(self._place.marks)

    def claim(self) -> Deferred[bool]:
        """As L{IIngest.claim}."""
        if self.owner:
            return succeed(True)
        return self._workers.run(self._claim)

    def _claim(self) -> bool:
        try:
            if not self._try_lock():
                return False
            try:
                self.owner = self._take_over()
            finally:
                if not self.owner:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
        except OSError as error:
            raise StoreError(f"{self._place.marks}: {error.strerror}") from error
        return self.owner

    def _take_over(self) -> bool:
        if self.state is not Verdict.FILLING:
            return False
        if not (is_at(self._lock, self._place.marks) and is_at(self._data, self._place.data)):
            self._marks.state = State.FAILED
            raise StoreError(f"{self._place.data}: was removed while it was being filled")
        writable = os.open(f"/proc/self/fd/{self._data}", os.O_RDWR | os.O_CLOEXEC)
        try:
            # In one step: the reactor's thread may be making a copy of this very descriptor.
            os.dup2(writable, self._data, inheritable=False)
        finally:
            os.close(writable)
        return True

    def commit(self, size: int, members: Sequence[tuple[Repository, Membership]]) -> Deferred[None]:
        """As L{IIngest.commit}."""
        try:
            if self._marks.size is None:
                self._marks.size = size
            self._marks.state = State.VERIFIED
        except (OSError, MarksDamaged) as error:
            return fail(StoreError(f"{self._place.marks}: {error}"))
        return self._syncing.run(self._commit, size, members)

    def _commit(self, size: int, members: Sequence[tuple[Repository, Membership]]) -> None:
        place = self._place
        try:
            os.fdatasync(self._data)
            if is_at(self._data, place.data):
                if os.fstat(self._data).st_size != size:
                    raise OSError(errno.EIO, "was cut while it was being filled", str(place.data))
                self._finish.enrol(members)
                before = size_of(place.target)
                self._to_target()
                self._finish.committed(before)
                sync_directory(place.target.parent)
                if is_at(self._data, place.data):
                    os.unlink(place.data)
                sync_directory(place.data.parent)
            else:
                told = "{path} was removed while it was being filled; {digest} is not kept"
                log.warn(told, event=events.NOT_KEPT, path=str(place.data), digest=str(place.digest))
        except OSError as error:
            # After a failed sync nobody knows what the disk holds: the clients have the bytes, the cache does not.
            if is_at(self._lock, place.marks):
                self._unlink()
            raise StoreError(f"{error.filename or place.target}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                if is_at(self._lock, place.marks):
                    os.unlink(place.marks)
            self.close()

    def _to_target(self) -> None:
        """By the open file, not by its path: that may be another's data any moment, if our marks were removed."""
        place = self._place
        os.fchmod(self._data, 0o440)
        self._finish.seal(self._data)
        if link_or_move(self._data, place.data, place.target):
            self._still_ours()

    def _still_ours(self) -> None:
        """Without links: another process may have begun anew between check and rename."""
        if not is_at(self._data, self._place.target):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._place.target)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self._place.data))

    def discard(self) -> Deferred[None]:
        """As L{IIngest.discard}."""
        with contextlib.suppress(OSError):
            self._marks.state = State.FAILED
        return self._workers.run(self._discard)

    def _discard(self) -> None:
        try:
            if is_at(self._lock, self._place.marks):
                self._remove()
        except OSError as error:
            raise StoreError(f"{self._place.data}: {error.strerror}") from error
        finally:
            self.close()

    def close(self) -> None:
        """As L{IIngest.close}. The descriptors stay for those who still read, until nobody holds this object."""
        if self.owner:
            self.owner = False
            self._hold.release(self.state is Verdict.FILLING)
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _let_go(self) -> None:
        """Close the descriptors: nobody has seen this object."""
        self.owner = False
        for fd in (self._data, self._lock):
            if fd >= 0:
                os.close(fd)
        self._data = self._lock = -1

    def __del__(self) -> None:
        self._let_go()
