"""Marks: the small file beside a fill's data that says which of its bytes are there.

Layout, little-endian. A number that changes stands beside its complement, so that a reader in another process that
catches half of a write knows it and reads again:

    0   8  magic, b"crcmark1"
    8  16  boot id of the machine that wrote the marks
    24 16  inode of the data file
    40 16  size of the body, -1 while unknown
    56  8  state: 0 asking, 1 answered, 2 verified, 3 failed
    64 16  front up to which the data is safe from a power cut
    128 …  for each segment of 1 MiB, 4 + 4 bytes: how many bytes of it, from its beginning, are there

Read and written in place with pread and pwrite; never mapped, since truncating a mapped file kills its readers.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum

SEGMENT = 1 << 20
MAGIC = b"crcmark1"
HEADER = 128

_INODE, _SIZE, _STATE, _FRONT = 24, 40, 56, 64
_WIDE = struct.Struct("<Qq")
_PAIR = struct.Struct("<II")
_MASK = 0xFFFFFFFF
_INODES = (1 << 63) - 1
_WINDOW = 64
_TRIES = 100
#: No body is longer: marks that say so are damaged, and would have as much written as they say.
_LONGEST = 1 << 44


class State(IntEnum):
    """How far a fill has come."""

    ASKING = 0
    ANSWERED = 1
    VERIFIED = 2
    FAILED = 3


class MarksDamaged(Exception):
    """The file holds no marks, or numbers that never agree."""


def boot_id() -> bytes:
    """The running kernel's boot id, 16 bytes (proc(5), `/proc/sys/kernel/random/boot_id`)."""
    with open("/proc/sys/kernel/random/boot_id") as source:
        return bytes.fromhex(source.read().strip().replace("-", ""))


class Marks:
    """The marks in an open file. Only the owner of the fill calls the methods that write.

    Nothing is remembered in memory: each method reads the file, so every process sees the same state.
    """

    def __init__(self, fd: int, boot: bytes) -> None:
        self._fd = fd
        self._boot = boot

    def create(self, inode: int) -> None:
        """Write the header of a fill that has nothing yet. The magic comes last: without it there are no marks."""
        self._put_wide(_INODE, inode & _INODES)
        self._put_wide(_SIZE, -1)
        self._put_pair(_STATE, State.ASKING)
        self._put_wide(_FRONT, 0)
        self._write(self._boot, 8)
        self._write(MAGIC, 0)

    def belongs_to(self, inode: int) -> bool:
        """Whether these are whole marks of that data file, with a header that can be read."""
        try:
            _ = self.size, self.state, self.front
            return self._read(8, 0) == MAGIC and self._wide(_INODE) == inode & _INODES
        except MarksDamaged:
            return False

    def of_this_boot(self) -> bool:
        """Whether they were written since the machine started: if not, only what was synced is sure to be there."""
        return self._read(16, 8) == self._boot

    def adopt(self) -> None:
        """Take over marks of another boot: forget its verdict, and what lies beyond the synced front.

        The boot id comes last: until then nobody else believes the rest.
        """
        if self.of_this_boot():
            return
        if self.state is State.VERIFIED:
            self.state = State.ANSWERED
        front = self.front if self.front <= _LONGEST else 0
        first, within = divmod(front, SEGMENT)
        length = os.fstat(self._fd).st_size
        kept = HEADER + first * _PAIR.size
        if length > kept:
            os.ftruncate(self._fd, kept)
        # Not what the counts say: they may have reached the disk in part.
        self._write(_PAIR.pack(SEGMENT, SEGMENT ^ _MASK) * first, HEADER)
        if within:
            self._put_pair(kept, within)
        self._write(self._boot, 8)

    @property
    def size(self) -> int | None:
        """The body's size in bytes, C{None} while unknown."""
        size = self._wide(_SIZE)
        return None if size < 0 else size

    @size.setter
    def size(self, size: int) -> None:
        self._put_wide(_SIZE, size)

    @property
    def state(self) -> State:
        """How far the fill has come."""
        try:
            return State(self._pair(_STATE))
        except ValueError:
            raise MarksDamaged("no such state") from None

    @state.setter
    def state(self, state: State) -> None:
        self._put_pair(_STATE, state)

    @property
    def front(self) -> int:
        """Up to where the data is safe from a power cut."""
        return self._wide(_FRONT)

    @front.setter
    def front(self, front: int) -> None:
        self._put_wide(_FRONT, front)

    def readable(self, offset: int) -> int:
        """The end of the unbroken run from C{offset}; looks at most 64 segments ahead."""
        first = offset // SEGMENT
        end = offset
        for index, count in enumerate(self._counts(first, _WINDOW), first):
            reached = index * SEGMENT + count
            if reached <= end:
                break
            end = reached
            if count < SEGMENT:
                break
        return end

    def hole(self, offset: int, size: int | None) -> tuple[int, int | None] | None:
        """The first run of missing bytes at or after C{offset}; its end is C{size} if nothing lies behind it."""
        start = offset
        while (end := self.readable(start)) > start:
            start = end
        if size is not None and start >= size:
            return None
        index = start // SEGMENT + 1
        last = (os.fstat(self._fd).st_size - HEADER) // _PAIR.size
        if size is not None:
            last = min(last, -(-size // SEGMENT))
        while index < last:
            for count in self._counts(index, min(_WINDOW, last - index)):
                if count:
                    return start, index * SEGMENT
                index += 1
        return start, size

    def reach(self) -> int:
        """The end of the last bytes that are there, whatever is missing before them."""
        index = (os.fstat(self._fd).st_size - HEADER) // _PAIR.size
        while index > 0:
            first = max(index - _WINDOW, 0)
            for count in reversed(self._counts(first, index - first)):
                index -= 1
                if count:
                    return index * SEGMENT + count
        return 0

    def add(self, offset: int, length: int) -> None:
        """Mark C{length} bytes from C{offset} as there. The bytes before them in their segment must be there already.

        @raise MarksDamaged: if they are not.
        """
        first = offset // SEGMENT
        last = (offset + length - 1) // SEGMENT
        if offset - first * SEGMENT > self._counts(first, 1)[0]:
            raise MarksDamaged(f"there is a gap before byte {offset}")
        packed = bytearray()
        for index in range(first, last + 1):
            count = min(offset + length - index * SEGMENT, SEGMENT)
            if index == last:
                count = max(count, self._counts(last, 1)[0])
            packed += _PAIR.pack(count, count ^ _MASK)
        self._write(packed, HEADER + first * _PAIR.size)

    def _counts(self, first: int, number: int) -> list[int]:
        """Counts of so many segments; what the file is too short for, or was never written, is 0."""
        data = self._read(number * _PAIR.size, HEADER + first * _PAIR.size)
        whole = len(data) - len(data) % _PAIR.size
        counts = []
        for at in range(0, whole, _PAIR.size):
            count, check = _PAIR.unpack_from(data, at)
            if count ^ check != _MASK and (count or check):
                try:
                    count = self._pair(HEADER + first * _PAIR.size + at)
                except MarksDamaged:
                    count = 0
            counts.append(count if count <= SEGMENT else 0)
        counts.extend([0] * (number - len(counts)))
        return counts

    def _read(self, length: int, at: int) -> bytes:
        """So many bytes, or fewer if they are not there; what the disk cannot give is not there."""
        try:
            return os.pread(self._fd, length, at)
        except OSError:
            return b""

    def _write(self, data: bytes | bytearray, at: int) -> None:
        os.pwrite(self._fd, data, at)

    def _pair(self, at: int) -> int:
        for _ in range(_TRIES):
            data = self._read(_PAIR.size, at)
            if len(data) == _PAIR.size:
                number: int
                number, check = _PAIR.unpack(data)
                if number ^ check == _MASK:
                    return number
        raise MarksDamaged(f"the numbers at {at} do not agree")

    def _put_pair(self, at: int, number: int) -> None:
        self._write(_PAIR.pack(number, number ^ _MASK), at)

    def _wide(self, at: int) -> int:
        for _ in range(_TRIES):
            data = self._read(_WIDE.size, at)
            if len(data) == _WIDE.size:
                complement, number = _WIDE.unpack(data)
                if complement == ~number & 0xFFFFFFFFFFFFFFFF:
                    return int(number)
        raise MarksDamaged(f"the numbers at {at} do not agree")

    def _put_wide(self, at: int, number: int) -> None:
        self._write(_WIDE.pack(~number & 0xFFFFFFFFFFFFFFFF, number), at)
