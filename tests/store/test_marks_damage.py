"""L{crcache.store.marks}: files that are not as they should be."""

from __future__ import annotations

import os
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from crcache.store import marks
from crcache.store.marks import HEADER, SEGMENT, Marks, MarksDamaged, State
from tests.store.marks_case import BOOT, INODE, MarksCase, made


class Flaky(Marks):
    """Marks whose first reads of a pair catch half of a write."""

    torn = 0

    def _read(self, length: int, at: int) -> bytes:
        data = super()._read(length, at)
        if self.torn and length <= 16:
            self.torn -= 1
            return bytes(len(data))
        return data


class DamageTests(MarksCase):
    """Files that are not as they should be claim nothing and raise nothing into those who read."""

    def test_torn_header(self) -> None:
        """Half of a write caught by a reader is read again."""
        self.marks.size = 77
        torn = Flaky(self.fd, BOOT)
        torn.torn = 5
        self.assertEqual(torn.size, 77)
        torn.torn = 5
        self.assertEqual(torn.state, State.ASKING)

    def test_torn_pair(self) -> None:
        """A count that disagrees with its complement is read again, and is nothing if it goes on disagreeing."""
        self.marks.add(0, 2 * SEGMENT)
        os.pwrite(self.fd, b"\x05", HEADER + 8)
        self.assertEqual(self.marks.readable(0), SEGMENT)
        self.assertEqual(self.marks.hole(0, 2 * SEGMENT), (SEGMENT, 2 * SEGMENT))

        class Mending(Marks):
            def _read(self, length: int, at: int) -> bytes:
                data = super()._read(length, at)
                os.pwrite(self._fd, struct.pack("<II", SEGMENT, SEGMENT ^ 0xFFFFFFFF), HEADER + 8)
                return data

        self.assertEqual(Mending(self.fd, BOOT).readable(0), 2 * SEGMENT)

    def test_impossible_count(self) -> None:
        """A count beyond a segment's size is damage, even beside its complement."""
        os.pwrite(self.fd, struct.pack("<II", SEGMENT + 1, SEGMENT + 1 ^ 0xFFFFFFFF), HEADER)
        self.assertEqual(self.marks.readable(0), 0)

    def test_truncated(self) -> None:
        """Marks that somebody cuts, at any place, are readable as nothing more than is left of them."""
        self.marks.add(0, 4 * SEGMENT)
        for length in range(HEADER + 4 * 8, -1, -1):
            os.ftruncate(self.fd, length)
            left = max(length - HEADER, 0) // 8 * SEGMENT
            self.assertEqual(self.marks.readable(0), left)
            self.assertEqual(self.marks.hole(0, 4 * SEGMENT), None if left == 4 * SEGMENT else (left, 4 * SEGMENT))
        self.assertFalse(self.marks.belongs_to(INODE))

    def test_zeroed(self) -> None:
        """Zeros, as after a crash, say nothing."""
        self.marks.add(0, 3 * SEGMENT)
        os.pwrite(self.fd, bytes(HEADER + 24), 0)
        self.assertEqual(self.marks.readable(0), 0)
        self.assertEqual(self.marks.hole(0, 5), (0, 5))
        self.assertFalse(self.marks.belongs_to(INODE))
        for name in ("size", "state", "front"):
            self.assertRaises(MarksDamaged, getattr, self.marks, name)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=HEADER + 64))
    def test_garbage(self, data: bytes) -> None:
        """Anything else in the file is no marks, and claims no byte."""
        fd = os.memfd_create("marks", os.MFD_CLOEXEC)
        try:
            os.pwrite(fd, data, 0)
            found = Marks(fd, BOOT)
            self.assertFalse(found.belongs_to(INODE))
            self.assertEqual(found.readable(0), 0)
            self.assertEqual(found.readable(3 * SEGMENT + 1), 3 * SEGMENT + 1)
        finally:
            os.close(fd)

    def test_damaged_header(self) -> None:
        """Marks any of whose numbers is damaged are not taken up again."""
        for at in (0, 24, 40, 56, 64):
            fd, tested = made()
            self.addCleanup(os.close, fd)
            os.pwrite(fd, b"\xaa\xbb", at)
            self.assertFalse(tested.belongs_to(INODE), at)

    def test_unknown_state(self) -> None:
        """A state of another release is damage."""
        os.pwrite(self.fd, struct.pack("<II", 9, 9 ^ 0xFFFFFFFF), 56)
        self.assertRaises(MarksDamaged, getattr, self.marks, "state")

    def test_failing_disk(self) -> None:
        """What the disk will not give is not there."""
        broken = Marks(os.open("/", os.O_RDONLY | os.O_CLOEXEC), BOOT)
        self.addCleanup(os.close, broken._fd)
        self.assertEqual(broken.readable(7), 7)
        self.assertFalse(broken.belongs_to(INODE))

    def test_no_mapping(self) -> None:
        """The file is read and written in place, never mapped: cutting a mapped file kills its readers."""
        self.assertNotIn("mmap", vars(marks))
        self.marks.add(0, 3 * SEGMENT)
        self.marks.readable(0)
        with open("/proc/self/maps") as maps:
            self.assertNotIn("memfd:marks", maps.read())
