"""Fills of other processes that stand still: nobody waits for the same one twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from crcache.facts import Verdict

#: Of so many it is known.
_KEPT = 256

#: What the marks of a fill say of its state, the origin's consent, its size and its holes.
Progress = tuple[Verdict, bool, int | None, tuple[tuple[int, int | None], ...]]


class StandingStill:
    """How far each of them was when it was given up."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Progress] = OrderedDict()

    def note(self, key: Hashable, progress: Progress) -> None:
        """It has stood there for too long."""
        self._known[key] = progress
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def at(self, key: Hashable, progress: Progress) -> bool:
        """Whether it still stands there; if not, that it did is forgotten."""
        if self._known.get(key) == progress:
            return True
        self._known.pop(key, None)
        return False
