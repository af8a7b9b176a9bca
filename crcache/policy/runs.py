"""Which missing bytes of a body are asked for next: from front to back, and out of turn what somebody waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Bytes that are marked together, from their beginning: no two streams write to one segment. As the store has it.
SEGMENT = 1 << 20
#: Bytes that a stream may still be away from what somebody waits for.
AHEAD = 8 * SEGMENT

#: Bytes from the first to the end (exclusive); C{None} is that of a body whose size nobody knows yet.
Run = tuple[int, int | None]


@dataclass(frozen=True)
class Claim:
    """A run that a stream is fetching. One that is still being asked for out of turn lies within another.

    @ivar position: the next byte to come.
    @ivar stop: the end, exclusive; C{None} if only the answer's end will tell.
    """

    start: int
    position: int
    stop: int | None

    def holds(self, offset: int) -> bool:
        """Whether that byte is among those that it fetches."""
        return self.start <= offset and (self.stop is None or offset < self.stop)


@dataclass(frozen=True)
class Decision:
    """What to do about bytes that somebody waits for.

    @ivar run: ask for these now; C{None}: for nothing.
    @ivar split: which of the claims has to end where the run begins, as soon as its bytes come.
    @ivar later: whether to look again after a while.
    """

    run: tuple[int, int] | None = None
    split: int | None = None
    later: bool = False


def in_turn(hole: Run, claims: Sequence[Claim]) -> Run | None:
    """The first part of a missing run that no stream is fetching; C{None} if there is none."""
    start, stop = hole
    while (claim := next((claim for claim in claims if claim.holds(start)), None)) is not None:
        if claim.stop is None:
            return None
        start = claim.stop
    if stop is not None and start >= stop:
        return None
    ends = [claim.start for claim in claims if claim.start > start]
    return start, min(ends if stop is None else [stop, *ends], default=None)


def in_pieces(run: Run, size: int) -> Run:
    """So much of a run that nobody would split it: an answer that is cut short costs what is under way already."""
    start, stop = run
    return start, min(size if stop is None else stop, (start + AHEAD) // SEGMENT * SEGMENT)


def out_of_turn(hole: tuple[int, int], wanted: int, claims: Sequence[Claim], waited: bool) -> Decision:
    """Whether to ask at once for what somebody waits for, or let a stream get there.

    @param hole: the first run that is missing of it. It begins where its segment's marks end.
    @param wanted: the end (exclusive) of what is waited for, beyond the hole's beginning.
    @param waited: whether nothing of it has come for a while.
    """
    start = hole[0]
    stop = min(hole[1], -(-wanted // SEGMENT) * SEGMENT)
    holding = [(claim.start, index) for index, claim in enumerate(claims) if claim.holds(start)]
    index = max(holding)[1] if holding else None
    if index is not None:
        distance = start - claims[index].position
        if distance < SEGMENT:
            return Decision()
        if distance < AHEAD and not waited:
            return Decision(later=True)
        stop = min(stop, claims[index].stop or stop)
    stop = min([stop, *(claim.start for claim in claims if claim.start > start)])
    return Decision((start, stop), index)
