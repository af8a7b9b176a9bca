"""The following side of a fill: another process fetches it, this one watches the marks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from twisted.internet.task import deferLater

from crcache.errors import StoreError
from crcache.facts import Verdict
from crcache.flow.patience import to_the_end
from crcache.flow.still import Progress
from crcache.flow.tools import Tools
from crcache.grammar.reference import Repository
from crcache.interfaces import IIngest

#: Seconds between two looks at the marks, and between two tries to take the fill over.
POLL = 0.02
CLAIM = 0.5
#: An owner whose origin falls silent needs a stall timeout, and some more, to notice and to go on by itself.
STALLS = 1.5
#: Looks within that time.
_LOOKS = 6
#: Holes that are compared.
_HOLES = 1024


class Reports(Protocol):
    """Whom a follower tells."""

    def answered(self, size: int | None, repository: Repository | None) -> None:
        """The origin agreed to send the body."""

    def doubted(self) -> None:
        """What comes is from somebody near, whom nobody has to believe before the verdict. Before L{answered}."""

    def moved(self) -> None:
        """There may be more to read."""


class Follow:
    """Watches a fill whose lock another process holds, until there is a verdict or the lock frees up without one."""

    def __init__(self, tools: Tools, key: Hashable, ingest: IIngest, fill: Reports) -> None:
        """
        @param key: which fill it is.
        """
        self._clock = tools.clock
        self._stall = tools.stall
        self._still = tools.still
        self._near = tools.near
        self._key = key
        self._ingest = ingest
        self._fill = fill
        self._progress = self._look()
        self._quiet = 0

    async def run(self) -> Verdict | None:
        """The verdict, or C{None} if this process owns the fill now.

        @raise crcache.errors.StoreError: the files went away without a verdict, or whoever fetches makes no progress.
        """
        if self._near():
            # The marks do not say from whom it comes.
            self._fill.doubted()
        tried = looked = self._clock.seconds()
        answered, size = False, None
        if self._still.at(self._key, self._progress):
            if await to_the_end(self._ingest.claim()):
                return None
            raise _standing_still()
        while True:
            state = self._ingest.state
            if state is not Verdict.FILLING:
                return state
            if size is None and self._ingest.answered:
                size = self._ingest.size
                if not answered or size is not None:
                    answered = True
                    self._fill.answered(size, None)
            self._fill.moved()
            now = self._clock.seconds()
            if now - tried >= CLAIM:
                tried = now
                if await to_the_end(self._ingest.claim()):
                    return None
            if now - looked >= self._stall() * STALLS / _LOOKS:
                looked = now
                self._judge()
            await deferLater(self._clock, POLL, lambda: None)

    def _judge(self) -> None:
        """Whether it goes on over there: marks can move anywhere, so this is looked for but rarely."""
        progress = self._look()
        self._quiet = self._quiet + 1 if progress == self._progress else 0
        self._progress = progress
        if self._quiet >= _LOOKS:
            self._still.note(self._key, progress)
            raise _standing_still()

    def _look(self) -> Progress:
        ingest, size, at = self._ingest, self._ingest.size, 0
        holes: list[tuple[int, int | None]] = []
        while len(holes) < _HOLES and (hole := ingest.hole(at)) is not None:
            holes.append(hole)
            if hole[1] is None or hole[1] == size:
                break
            at = hole[1]
        return ingest.state, ingest.answered, size, tuple(holes)


def _standing_still() -> StoreError:
    return StoreError("the process that fetches this makes no progress")
