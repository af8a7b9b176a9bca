"""The following side of a fill: another process fetches it, this one watches the marks."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.task import deferLater

from crcache.facts import Verdict
from crcache.flow.patience import to_the_end
from crcache.flow.tools import Tools
from crcache.grammar.reference import Repository
from crcache.interfaces import IIngest

#: Seconds between two looks at the marks, and between two tries to take the fill over.
POLL = 0.02
CLAIM = 0.5


class Reports(Protocol):
    """Whom a follower tells."""

    def answered(self, size: int | None, repository: Repository | None) -> None:
        """The origin agreed to send the body."""

    def moved(self) -> None:
        """There may be more to read."""


class Follow:
    """Watches a fill whose lock another process holds, until there is a verdict or the lock frees up without one."""

    def __init__(self, tools: Tools, ingest: IIngest, fill: Reports) -> None:
        self._clock = tools.clock
        self._ingest = ingest
        self._fill = fill

    async def run(self) -> Verdict | None:
        """The verdict, or C{None} if this process owns the fill now.

        @raise crcache.errors.StoreError: the files went away without a verdict.
        """
        tried = self._clock.seconds()
        answered, size = False, None
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
            await deferLater(self._clock, POLL, lambda: None)
