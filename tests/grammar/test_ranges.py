"""Tests for L{crcache.grammar.ranges}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import RangeNotSatisfiable
from crcache.grammar.ranges import (
    MOST_RANGES,
    ContentRange,
    RangeSpec,
    Span,
    content_range,
    parse_content_range,
    parse_range,
)

POSITIONS = st.integers(0, 40)
SPECS = st.one_of(
    st.builds(lambda first, more: RangeSpec(first, first + more), POSITIONS, POSITIONS),
    st.builds(lambda first: RangeSpec(first, None), POSITIONS),
    st.builds(lambda last: RangeSpec(None, last), POSITIONS),
)


def written(spec: RangeSpec) -> str:
    """The range as it is in a header."""
    return f"{'' if spec.first is None else spec.first}-{'' if spec.last is None else spec.last}"


def asked_for(spec: RangeSpec, size: int) -> list[int]:
    """The positions that the range selects, by going through all of them."""
    if spec.first is None:
        assert spec.last is not None
        return [at for at in range(size) if size - at <= spec.last]
    return [at for at in range(size) if at >= spec.first and (spec.last is None or at <= spec.last)]


class ParseRangeTests(SynchronousTestCase):
    """L{parse_range}."""

    @given(
        st.lists(SPECS, min_size=1, max_size=MOST_RANGES),
        st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]),
        st.sampled_from(["bytes", "Bytes", "BYTES"]),
    )
    def test_round_trip(self, specs: list[RangeSpec], comma: str, unit: str) -> None:
        """Any list of ranges is understood, with spaces and empty elements, whatever the unit's case."""
        header = f"{unit}={comma.join(map(written, specs))}"
        self.assertEqual(parse_range(header), tuple(specs))

    @given(st.one_of(st.text(), st.text(alphabet="bytes=-,0123456789 \t*/").map(lambda text: f"bytes={text}")))
    def test_any_text(self, header: str) -> None:
        """Any text is ranges of a body, or ignored; nothing raises."""
        for spec in parse_range(header) or ():
            self.assertTrue(spec.first is not None or spec.last is not None)
            if spec.first is not None and spec.last is not None:
                self.assertLessEqual(spec.first, spec.last)

    def test_ignored(self) -> None:
        """Other units and anything malformed make no range at all, even next to a good one."""
        self.assertIsNone(parse_range(None))
        for header in (
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=1",
            "bytes=a-b",
            "bytes=2-1",
            "bytes=0-1,2-1",
            "bytes=0-1,x",
            "bytes=0-1;2-3",
            "bytes=0--1",
            "bytes=-1-2",
            "bytes=0 - 1",
            "bytes=+1-2",
            "bytes=0x0-1",
            "bytes=1_0-20",
            "bytes=\u0661-\u0662",
            "bytes=0-1\n",
            "bytes:0-1",
            "items=0-1",
            "items=0-1, bytes=0-1",
        ):
            self.assertIsNone(parse_range(header), header)

    def test_absurd(self) -> None:
        """Numbers beyond a file's offsets, and more ranges than L{MOST_RANGES}, are ignored."""
        largest = 2**63 - 1
        self.assertEqual(parse_range(f"bytes=0-{largest}"), (RangeSpec(0, largest),))
        self.assertIsNone(parse_range(f"bytes=0-{largest + 1}"))
        self.assertIsNone(parse_range(f"bytes={largest + 1}-"))
        self.assertIsNone(parse_range(f"bytes=-{largest + 1}"))
        self.assertIsNone(parse_range("bytes=0-" + "9" * 100_000))
        self.assertEqual(len(parse_range("bytes=" + "0-0," * MOST_RANGES) or ()), MOST_RANGES)
        self.assertIsNone(parse_range("bytes=" + "0-0," * (MOST_RANGES + 1)))
        self.assertIsNone(parse_range("bytes=0-0" + "," * 1_000_000))


class ResolveTests(SynchronousTestCase):
    """L{RangeSpec.resolve}."""

    @given(SPECS, st.integers(0, 50))
    def test_model(self, spec: RangeSpec, size: int) -> None:
        """A range is exactly the body's bytes that it selects; with none of them, it can't be satisfied."""
        expected = asked_for(spec, size)
        if expected:
            span = spec.resolve(size)
            self.assertEqual(list(range(span.start, span.stop)), expected)
            self.assertEqual(span.open_ended, spec.last is None)
        else:
            error = self.assertRaises(RangeNotSatisfiable, spec.resolve, size)
            self.assertEqual((error.status, error.headers), (416, (("Content-Range", f"bytes */{size}"),)))

    def test_docker_resumes(self) -> None:
        """A range that ends one past the last byte, as Docker's do, is clamped, and isn't open-ended."""
        self.assertEqual(RangeSpec(40, 100).resolve(100), Span(40, 100, False))

    def test_open_ended(self) -> None:
        """Only a range without an end is open-ended: a suffix range is not."""
        self.assertEqual(RangeSpec(0, None).resolve(100), Span(0, 100, True))
        self.assertEqual(RangeSpec(None, 500).resolve(100), Span(0, 100, False))


class ContentRangeTests(SynchronousTestCase):
    """L{content_range} and L{parse_content_range}."""

    @given(POSITIONS, st.integers(1, 40), st.one_of(st.none(), POSITIONS))
    def test_round_trip(self, start: int, length: int, beyond: int | None) -> None:
        """What one writes the other reads, with a total or without."""
        stop = start + length
        total = None if beyond is None else stop + beyond
        self.assertEqual(parse_content_range(content_range(start, stop, total)), ContentRange(start, stop, total))

    def test_written(self) -> None:
        """The last byte's position is inclusive on the wire."""
        self.assertEqual(content_range(0, 100, 1000), "bytes 0-99/1000")
        self.assertEqual(content_range(5, 6, None), "bytes 5-5/*")

    @given(st.one_of(st.text(), st.text(alphabet="bytes -/*0123456789").map(lambda text: f"bytes {text}")))
    def test_any_text(self, header: str) -> None:
        """Any text is a part that makes sense, or none; nothing raises."""
        parsed = parse_content_range(header)
        if parsed is not None:
            self.assertLess(parsed.start, parsed.stop)
            self.assertLessEqual(parsed.stop, parsed.stop if parsed.total is None else parsed.total)

    def test_refused(self) -> None:
        """Unsatisfied ranges, contradictions, other units and absurd numbers name no part."""
        self.assertIsNone(parse_content_range(None))
        for header in (
            "",
            "bytes */100",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-9",
            "bytes=0-9/10",
            "items 0-9/10",
            "bytes 0-9/10 x",
            "bytes 0-9/10\n",
            f"bytes 0-{2**63}/*",
            f"bytes 0-{2**63 - 1}/*",
            f"bytes 0-1/{'9' * 10_000}",
        ):
            self.assertIsNone(parse_content_range(header), header)
