"""L{crcache.store.marks}."""

from __future__ import annotations

import os
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from crcache.store.marks import HEADER, MAGIC, SEGMENT, Marks, MarksDamaged, State, boot_id
from tests.store.marks_case import BOOT, INODE, MarksCase, made

SEGMENTS = 6

#: Where things go wrong at segments' borders, and anything else.
LENGTHS = st.one_of(
    st.sampled_from([1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT - 1]),
    st.integers(1, 3 * SEGMENT),
)
OFFSETS = st.one_of(
    st.builds(lambda index, near: max(index * SEGMENT + near, 0), st.integers(0, SEGMENTS), st.integers(-2, 2)),
    st.integers(0, (SEGMENTS + 1) * SEGMENT),
)


class Dying(Marks):
    """Marks whose owner dies after some writes."""

    left = 0

    def _write(self, data: bytes | bytearray, at: int) -> None:
        if not self.left:
            raise InterruptedError
        self.left -= 1
        super()._write(data, at)


class HeaderTests(MarksCase):
    """The header."""

    def test_fresh(self) -> None:
        """A new fill has no size, has asked nobody, and holds nothing."""
        self.assertEqual((self.marks.size, self.marks.state, self.marks.front), (None, State.ASKING, 0))
        self.assertEqual(self.marks.readable(0), 0)
        self.assertEqual(self.marks.hole(0, None), (0, None))

    def test_written_values(self) -> None:
        """What is noted is read again, by another object on the same file too."""
        self.marks.size = 5 << 40
        self.marks.state = State.VERIFIED
        self.marks.front = 3 << 40
        other = Marks(self.fd, BOOT)
        self.assertEqual((other.size, other.state, other.front), (5 << 40, State.VERIFIED, 3 << 40))

    def test_layout(self) -> None:
        """Numbers stand where the documentation says, beside their complements: other releases read them."""
        self.marks.size = 1000
        self.marks.add(0, 1000)
        data = os.pread(self.fd, 4096, 0)
        self.assertEqual(data[:24], MAGIC + BOOT)
        self.assertEqual(struct.unpack("<Qq", data[24:40]), (~INODE & (1 << 64) - 1, INODE))
        self.assertEqual(struct.unpack("<Qq", data[40:56]), (~1000 & (1 << 64) - 1, 1000))
        self.assertEqual(struct.unpack("<II", data[56:64]), (0, 0xFFFFFFFF))
        self.assertEqual(struct.unpack("<II", data[HEADER : HEADER + 8]), (1000, 1000 ^ 0xFFFFFFFF))

    def test_belongs(self) -> None:
        """Marks are those of one data file, known by its inode, however large that number is."""
        self.assertTrue(self.marks.belongs_to(INODE))
        self.assertFalse(self.marks.belongs_to(INODE + 1))
        fd, huge = made((1 << 64) - 1)
        self.addCleanup(os.close, fd)
        self.assertTrue(huge.belongs_to((1 << 64) - 1))

    def test_magic_last(self) -> None:
        """A header that was being written when its owner died is none, however far it had come."""
        for writes in range(6):
            fd = os.memfd_create("marks", os.MFD_CLOEXEC)
            self.addCleanup(os.close, fd)
            dying = Dying(fd, BOOT)
            dying.left = writes
            self.assertRaises(InterruptedError, dying.create, INODE)
            self.assertFalse(Marks(fd, BOOT).belongs_to(INODE), writes)

    def test_boot_id(self) -> None:
        """The boot id is sixteen bytes, the same each time."""
        self.assertEqual(len(boot_id()), 16)
        self.assertEqual(boot_id(), boot_id())


class SegmentTests(MarksCase):
    """What is there."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, SEGMENTS - 1), LENGTHS), max_size=8), st.lists(OFFSETS, max_size=8))
    def test_against_model(self, adds: list[tuple[int, int]], offsets: list[int]) -> None:
        """Whatever is added in whatever order, exactly those bytes are readable, and the rest is holes."""
        fd, tested = made()
        try:
            size = (SEGMENTS + 3) * SEGMENT
            model = bytearray(size)
            for index, length in adds:
                start = model.find(0, index * SEGMENT, (index + 1) * SEGMENT)
                if start < 0:
                    start = index * SEGMENT
                tested.add(start, length)
                model[start : start + length] = b"\x01" * length
            for offset in [0, *offsets]:
                end = model.find(0, offset)
                self.assertEqual(tested.readable(offset), end)
                behind = model.find(1, end)
                self.assertEqual(tested.hole(offset, size), (end, behind if behind > 0 else size))
                self.assertEqual(tested.hole(offset, None), (end, behind if behind > 0 else None))
        finally:
            os.close(fd)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 3 * SEGMENT), st.integers(1, SEGMENT), LENGTHS)
    def test_gap(self, count: int, gap: int, length: int) -> None:
        """Bytes with a gap before them in their segment cannot be marked, and nothing is then."""
        fd, tested = made()
        try:
            if count:
                tested.add(0, count)
            offset = count + gap
            if offset % SEGMENT == 0 or offset // SEGMENT != count // SEGMENT:
                return
            self.assertRaises(MarksDamaged, tested.add, offset, length)
            self.assertEqual(tested.readable(0), count)
            self.assertEqual(tested.hole(0, None), (count, None))
        finally:
            os.close(fd)

    def test_full(self) -> None:
        """Nothing is missing of what is all there, to a size within a segment or at its end."""
        for size in (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT):
            fd, tested = made()
            self.addCleanup(os.close, fd)
            if size:
                tested.add(0, size)
            self.assertIsNone(tested.hole(0, size))
            self.assertEqual(tested.hole(0, size + 1), (size, size + 1))

    def test_hole_ends_at_size(self) -> None:
        """A hole does not reach beyond the body, whatever the marks say of bytes behind it."""
        self.marks.add(5 * SEGMENT, 10)
        self.assertEqual(self.marks.hole(0, 3 * SEGMENT), (0, 3 * SEGMENT))

    def test_large(self) -> None:
        """A front of many segments is found step by step, each of bounded work."""
        self.marks.add(0, 1000 * SEGMENT + 5)
        reached, steps = 0, 0
        while (end := self.marks.readable(reached)) > reached:
            reached, steps = end, steps + 1
        self.assertEqual(reached, 1000 * SEGMENT + 5)
        self.assertEqual(steps, 16)
        self.assertIsNone(self.marks.hole(0, reached))

    def test_reach(self) -> None:
        """The end of what is there, however far it is and whatever is missing before it."""
        self.assertEqual(self.marks.reach(), 0)
        for offset, length in ((0, 0), (0, 5), (3 * SEGMENT, SEGMENT), (7 * SEGMENT, 9), (1000 * SEGMENT, 1)):
            if length:
                self.marks.add(offset, length)
            self.assertEqual(self.marks.reach(), offset + length)
        os.ftruncate(self.fd, HEADER + 5000 * 8)
        self.assertEqual(self.marks.reach(), 1000 * SEGMENT + 1)

    def test_far_hole(self) -> None:
        """What is there far behind a long hole is found."""
        self.marks.add(700 * SEGMENT, 1)
        self.assertEqual(self.marks.hole(0, None), (0, 700 * SEGMENT))

    def test_rewritten(self) -> None:
        """Bytes that come a second time take nothing away from those behind them."""
        self.marks.add(0, 2 * SEGMENT + 100)
        self.marks.add(SEGMENT, SEGMENT + 50)
        self.assertEqual(self.marks.readable(0), 2 * SEGMENT + 100)


class AdoptTests(MarksCase):
    """Marks of another boot."""

    def test_same_boot(self) -> None:
        """Within one boot everything counts, synced or not."""
        self.marks.add(0, 3 * SEGMENT + 9)
        self.marks.adopt()
        self.assertEqual(self.marks.readable(0), 3 * SEGMENT + 9)

    def test_absurd_front(self) -> None:
        """A front that cannot be is none."""
        fd, tested = made()
        self.addCleanup(os.close, fd)
        tested.add(0, 3 * SEGMENT)
        tested.front = 1 << 60
        later = Marks(fd, bytes(16))
        later.adopt()
        self.assertEqual(later.readable(0), 0)
        self.assertLess(os.fstat(fd).st_size, 1 << 20)

    def test_front_alone(self) -> None:
        """The front counts, even if what was noted of the segments before it did not reach the disk."""
        fd, tested = made()
        self.addCleanup(os.close, fd)
        tested.add(0, 3 * SEGMENT + 9)
        tested.front = 3 * SEGMENT + 5
        os.ftruncate(fd, HEADER)
        later = Marks(fd, bytes(16))
        later.adopt()
        self.assertEqual(later.readable(0), 3 * SEGMENT + 5)

    def test_other_boot(self) -> None:
        """After a restart only what was synced counts, and from then on the marks are of this boot."""
        for front in (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT):
            fd, tested = made()
            self.addCleanup(os.close, fd)
            tested.size = 9 * SEGMENT
            tested.add(0, 3 * SEGMENT + 9)
            tested.add(5 * SEGMENT, SEGMENT)
            tested.front = front
            later = Marks(fd, bytes(16))
            self.assertFalse(later.of_this_boot())
            later.adopt()
            self.assertTrue(later.of_this_boot())
            self.assertEqual(later.readable(0), front)
            self.assertEqual(later.hole(0, later.size), (front, 9 * SEGMENT))
            later.add(front, 10)
            self.assertEqual(later.readable(0), front + 10)
