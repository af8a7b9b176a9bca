"""What content there is, in arrays: a million files take some 60 MiB, for as long as they are looked at."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from crcache.eviction.pace import Pace
from crcache.grammar.digest import Digest
from crcache.store.layout import ALGORITHMS

_BUCKETS = 256
_MARKS = struct.Struct("<Qq")


class View:
    """Digests with sizes and times; numbered from 0, in the order of their names, once all are in it."""

    def __init__(self) -> None:
        self._shelves = {algorithm: _Shelf(algorithm) for algorithm in ALGORITHMS}
        self._firsts = [0]

    def add(self, algorithm: str, name: str, size: int, mtime: int) -> None:
        """One more.

        @param name: lower-case hexadecimal, of the algorithm's length.
        """
        self._shelves[algorithm].add(bytes.fromhex(name), size, mtime)

    def settle(self, pace: Pace) -> None:
        """All are in it."""
        self._firsts = [0]
        for shelf in self._shelves.values():
            shelf.settle(pace)
            self._firsts.append(self._firsts[-1] + len(shelf))

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    def index(self, digest: Digest) -> int | None:
        """Which one it is; C{None} if it is not among them."""
        place = ALGORITHMS.index(digest.algorithm)
        at = self._shelves[digest.algorithm].index(bytes.fromhex(digest.hex))
        return None if at is None else self._firsts[place] + at

    def at(self, index: int) -> tuple[Digest, int, int]:
        """One of them: digest, size in bytes, and when it was last used, in seconds since the epoch."""
        place = bisect_right(self._firsts, index, hi=len(ALGORITHMS)) - 1
        algorithm = ALGORITHMS[place]
        name, size, mtime = self._shelves[algorithm].at(index - self._firsts[place])
        return Digest(algorithm, name.hex()), size, mtime

    def marks(self) -> Iterator[tuple[int, int]]:
        """All sizes and times, in order."""
        for shelf in self._shelves.values():
            yield from shelf.marks()

    def times(self, pace: Pace) -> array[int]:
        """All times, in order."""
        found = array("q")
        for _, mtime in self.marks():
            found.append(mtime)
            pace.step()
        return found


class _Shelf:
    """Those of one algorithm, in buckets by their first byte: so few are sorted at a time, and where they are."""

    def __init__(self, algorithm: str) -> None:
        self._length = {"sha256": 32, "sha512": 64}[algorithm]
        self._width = self._length + _MARKS.size
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._starts = [0] * (_BUCKETS + 1)

    def add(self, name: bytes, size: int, mtime: int) -> None:
        self._buckets[name[0]] += name + _MARKS.pack(size, mtime)

    def settle(self, pace: Pace) -> None:
        width = self._width
        for number, bucket in enumerate(self._buckets):
            rows = [bytes(bucket[at : at + width]) for at in range(0, len(bucket), width)]
            # Now and then a directory shows the same name twice, if it changes meanwhile.
            found = sorted({row[: self._length]: row for row in rows}.values())
            bucket[:] = b"".join(found)
            self._starts[number + 1] = self._starts[number] + len(found)
            pace.step(len(rows))

    def __len__(self) -> int:
        return self._starts[-1]

    def index(self, name: bytes) -> int | None:
        bucket, width = self._buckets[name[0]], self._width
        low, high = 0, len(bucket) // width
        while low < high:
            middle = (low + high) // 2
            found = bucket[middle * width : middle * width + self._length]
            if found == name:
                return self._starts[name[0]] + middle
            if found < name:
                low = middle + 1
            else:
                high = middle
        return None

    def at(self, index: int) -> tuple[bytes, int, int]:
        number = bisect_right(self._starts, index) - 1
        bucket, at = self._buckets[number], (index - self._starts[number]) * self._width
        size, mtime = _MARKS.unpack_from(bucket, at + self._length)
        return bytes(bucket[at : at + self._length]), size, mtime

    def marks(self) -> Iterator[tuple[int, int]]:
        for bucket in self._buckets:
            for at in range(self._length, len(bucket), self._width):
                yield _MARKS.unpack_from(bucket, at)
