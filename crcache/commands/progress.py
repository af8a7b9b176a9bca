"""Progress bars: on stderr, on a terminal, and nowhere else."""

from __future__ import annotations

import argparse
import sys
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tqdm import tqdm


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether bars are drawn: whoever asks for C{--json}, or reads stderr with a program, gets none."""
    return not arguments.json and sys.stderr.isatty()


class Progress:
    """How far something has come, as a bar or not at all. For any thread. A context manager: the bar is gone after it.

    C{tqdm} is imported only if there is a bar to be drawn; without it there is none.
    """

    def __init__(self, label: str, total: int | None = None, *, unit: str = "B", shown: bool) -> None:
        """
        @param total: in units; C{None} while nobody knows.
        @param unit: C{B} is shown in KiB, MiB and so on.
        @param shown: as L{wanted} says.
        """
        self._lock = Lock()
        self._bar: tqdm[Any] | None = None
        if shown:
            try:
                from tqdm import tqdm
            except ImportError:
                # It is for show: whoever runs from a tree without it gets all the rest.
                return

            self._bar = tqdm(
                desc=label,
                total=total,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=unit == "B",
                unit_divisor=1024,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """So many units more are done."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def expect(self, total: int) -> None:
        """So many units there will be, as is known now."""
        with self._lock:
            if self._bar is not None:
                self._bar.total = total
                self._bar.refresh()

    def tell(self, line: str) -> None:
        """Print a line to stderr, above the bar if there is one."""
        with self._lock:
            if self._bar is None:
                print(line, file=sys.stderr)
            else:
                self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away. Idempotent."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()
