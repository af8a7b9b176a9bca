"""A little of what `make fuzz` does, the same each time; and that it would find something."""

from __future__ import annotations

import io
import re

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.__main__ import fuzz
from tests.fuzz.target import Target, near
from tests.fuzz.targets import TARGETS

#: Of each target.
EXAMPLES = 15


class NastyTests(SynchronousTestCase):
    """Cases that were found, or thought of."""


class SomeTests(SynchronousTestCase):
    """Cases that hypothesis makes."""


def _add(target: Target) -> None:
    name = "test_" + re.sub(r"\W+", "_", target.name)

    def nasty(self: NastyTests) -> None:
        for case in target.nasty:
            target.check(case)

    def some(self: SomeTests) -> None:
        target.try_some(EXAMPLES, None)

    nasty.__doc__ = f"{target.check.__doc__} ({len(target.nasty)} nasty cases)"
    some.__doc__ = target.check.__doc__
    setattr(NastyTests, name, nasty)
    setattr(SomeTests, name, some)


for each in TARGETS:
    _add(each)


class FuzzTests(SynchronousTestCase):
    """The fuzzer itself."""

    def test_finds(self) -> None:
        """A reader that chokes on one character is found out, and told of with the smallest text that shows it; the
        other targets are tried all the same."""

        def choke(text: str) -> None:
            text.encode("ascii")

        targets = (Target("choking", near(("abc", "def"), ("x", "\xe9")), choke), Target("fine", st.text(), len))  # type: ignore[arg-type]
        said = io.StringIO()
        self.assertEqual(fuzz(targets, 0.0, 7, said), 1)
        self.assertIn("choking, seed 7, turn 0:", said.getvalue())
        self.assertIn("UnicodeEncodeError", said.getvalue())
        self.assertRegex(said.getvalue(), r"example='(abc|def)?\xe9(abc|def)?'")
        self.assertTrue(said.getvalue().endswith("fine: 50 examples\nFAILED (failures=1, successes=1)\n"))

    def test_goes_on(self) -> None:
        """Until the time is over it goes on with other examples, the same ones for the same seed."""
        seen: list[list[int]] = []
        for seed in (1, 1, 2):
            seen.append([])
            ticks = iter(range(100))
            target = Target("numbers", st.integers(), seen[-1].append)
            self.assertEqual(fuzz([target], 9.0, seed, io.StringIO(), lambda ticks=ticks: float(next(ticks))), 0)  # type: ignore[misc]
        self.assertEqual(seen[0], seen[1])
        self.assertNotEqual(seen[0], seen[2])
        self.assertGreater(len(seen[0]), 200)

    def test_every_check_says_what_must_hold(self) -> None:
        """Each target says what must hold, and has cases of its own."""
        for target in TARGETS:
            self.assertTrue(target.check.__doc__, target.name)
            self.assertGreater(len(target.nasty), 2, target.name)
        self.assertEqual(len({target.name for target in TARGETS}), len(TARGETS))
