"""What is fuzzed: a strategy, what must hold of each example, and cases that are nasty for certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T", str, bytes)


@dataclass(frozen=True)
class Target:
    """One thing that reads what strangers wrote.

    @ivar check: raises if what must hold of an example does not.
    @ivar nasty: examples that are always tried.
    """

    name: str
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    nasty: Sequence[Any] = ()

    def try_some(self, examples: int, chance: str | None) -> None:
        """Check so many examples.

        @param chance: what they depend on; C{None}: the same ones each time.
        @raise Exception: of a bug, with the smallest example in its notes.
        """

        # A function of its own each time: hypothesis keeps what belongs to one with it.
        def check(example: Any) -> None:
            self.check(example)

        set_up = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=chance is None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        trying = set_up(given(self.strategy)(check))
        (trying if chance is None else seed(chance)(trying))()


def near(samples: Sequence[T], bits: Sequence[T]) -> st.SearchStrategy[T]:
    """What is right but for a few changes: pieces left out, said twice, or put in that belong elsewhere."""
    edit = st.tuples(st.integers(0, 10_000), st.integers(0, 8), st.one_of(st.none(), st.sampled_from(bits)))

    def changed(sample: T, edits: list[tuple[int, int, T | None]]) -> T:
        for place, length, bit in edits:
            at = place % (len(sample) + 1)
            piece = sample[at : at + length]
            sample = sample[:at] + (piece + piece if bit is None else bit) + sample[at + length :]
        return sample

    # Mapped, not built: then it is told of as what it is, not as how it was made.
    return st.tuples(st.sampled_from(samples), st.lists(edit, max_size=4)).map(lambda made: changed(*made))


def one_line(text: str) -> None:
    """Fit for a log, a head, a terminal: one line that prints.

    @raise AssertionError: if it is none.
    """
    assert text and text.isprintable(), ascii(text)
