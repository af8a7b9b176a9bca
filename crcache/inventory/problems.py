"""What in a cache directory could not be read, or lies, and was passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Lines that are kept; of more only the number is.
MOST = 1000


class Problems:
    """Collects them while something goes on, to be told at its end."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0
        #: Whether something could not be done that was asked for.
        self.failed = False
        self._seen: set[str] = set()

    def add(self, path: Path, why: str) -> None:
        """Pass this file over, for this reason. The same file twice is told once."""
        shown = shown_path(path)
        if shown in self._seen:
            return
        if len(self.lines) >= MOST:
            self.more += 1
            return
        self._seen.add(shown)
        self.lines.append(f"{shown}: {why}")

    def fail(self, message: str) -> None:
        """Something that was asked for could not be done; the message names the file."""
        self.failed = True
        if len(self.lines) < MOST:
            self.lines.append(message)
        else:
            self.more += 1

    def told(self) -> Iterator[str]:
        """The lines to print."""
        yield from self.lines
        if self.more:
            yield f"and {self.more} more that were passed over"


def shown_path(path: Path) -> str:
    """A path as it can be printed: others choose what files here are called."""
    text = str(path)
    return text if text.isprintable() and text.isascii() else ascii(text)
