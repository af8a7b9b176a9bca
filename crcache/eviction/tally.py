"""How many bytes there are, as all processes have agreed since they were last counted. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Lock

from crcache.eviction.holders import Holders
from crcache.eviction.state import locked, open_state
from crcache.grammar.digest import Digest
from crcache.store.layout import Layout

#: Seconds that others may have the tally to themselves: what they do with it takes microseconds.
PATIENCE = 2.0
#: Bytes of names that are noted while files are counted. What changes beyond that is not counted right until the next.
_MOST_NOTED = 1 << 20
_MAGIC = b"crctally"
_BOOK = struct.Struct("<8sqqqqI")
_MOST = 1 << 60


@dataclass
class Book:
    """What is written there.

    @ivar content: bytes of committed content; C{None} if nobody has counted them.
    @ivar left: bytes of fills that nobody goes on with.
    @ivar files: of content, when they were last counted.
    @ivar pinned: bytes of content that is pinned, likewise.
    """

    content: int | None = None
    left: int = 0
    files: int = 0
    pinned: int = 0


class Tally:
    """C{eviction/tally}, changed under its C{flock} by all processes whenever they commit, drop or remove something.

    Kills, and administrators who remove files themselves, have it drift; counting all files sets it right. Absent or
    damaged, it says that nobody knows.

    @ivar holders: what room is held for.
    @ivar last: what it said when it was last looked at.
    """

    def __init__(self, layout: Layout) -> None:
        self.holders = Holders(layout.eviction)
        self.last = Book()
        self._path = layout.eviction / "tally"
        self._noted = layout.eviction / "changes"
        self._own = Lock()

    @contextlib.contextmanager
    def open(self) -> Iterator[Book]:
        """What it says, for this process alone; what is changed in it is written.

        @raise OSError: if nobody can tell.
        """
        with self._own, locked(self._path, PATIENCE) as fd:
            book = _read(fd)
            before = replace(book)
            yield book
            self.last = replace(book)
            if book != before:
                # In place, which takes no space of a full disk.
                os.pwrite(fd, _packed(book), 0)

    def changed(self, digest: Digest, before: int, after: int) -> None:
        """This digest's content had so many bytes, and has so many now; none is no content.

        A disk that refuses is no reason to refuse what was done: the next count sets it right.
        """
        with contextlib.suppress(OSError), self.open() as book:
            self.note(digest)
            if book.content is not None:
                book.content = max(book.content + after - before, 0)

    # While files are counted

    def begin(self) -> None:
        """Files are counted from now on: what changes is noted.

        @raise OSError: if it cannot be.
        """
        with self.open():
            os.close(open_state(self._noted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))

    def note(self, digest: Digest) -> None:
        """This has changed. Only with the book open."""
        try:
            fd = open_state(self._noted, os.O_WRONLY | os.O_APPEND)
        except OSError:
            return
        try:
            if os.fstat(fd).st_size < _MOST_NOTED:
                os.write(fd, f"{digest}\n".encode())
        except OSError:
            pass
        finally:
            os.close(fd)

    def noted(self) -> set[str]:
        """What has changed since L{begin}, as digests; nothing more is noted. Only with the book open."""
        try:
            fd = open_state(self._noted, os.O_RDONLY)
        except OSError:
            return set()
        try:
            data = os.pread(fd, _MOST_NOTED + 4096, 0)
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(self._noted)
        return set(data.decode("ascii", "replace").splitlines())


def _packed(book: Book) -> bytes:
    content = -1 if book.content is None else book.content
    data = _BOOK.pack(_MAGIC, content, book.left, book.files, book.pinned, 0)[:-4]
    return data + struct.pack("<I", zlib.crc32(data))


def _read(fd: int) -> Book:
    data = os.pread(fd, _BOOK.size, 0)
    if len(data) != _BOOK.size or not data.startswith(_MAGIC):
        return Book()
    _, content, left, files, pinned, check = _BOOK.unpack(data)
    if zlib.crc32(data[:-4]) != check or not all(0 <= each <= _MOST for each in (left, files, pinned)):
        return Book()
    return Book(content if 0 <= content <= _MOST else None, left, files, pinned)
