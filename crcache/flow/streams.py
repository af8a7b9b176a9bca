"""The streams of one fill: which runs are being fetched, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crcache.errors import BodyCut, OriginError, OriginLied
from crcache.facts import Query
from crcache.flow.follow import Reports
from crcache.flow.parts import part_of
from crcache.flow.stream import Stream, Target
from crcache.flow.tools import Tools
from crcache.interfaces import IAnswer, IIngest, INearby
from crcache.policy import runs


class RangeIgnored(Exception):
    """The origin answers with the whole where a part was asked for. It is no failure: others do get it."""


class Claimed:
    """A run that is being fetched, or about to be: nobody else asks for it.

    @ivar stop: its end, exclusive; C{None} while only the answer's end will tell.
    """

    def __init__(self, start: int, stop: int | None, within: Claimed | None) -> None:
        """
        @param within: the one that is fetching it until this one has an answer.
        """
        self.stop = stop
        self._within = within
        self._start = start
        self._stream: Stream | None = None

    @property
    def moved(self) -> int:
        """How many bytes of it have been written."""
        return 0 if self._stream is None else self._stream.offset - self._start

    @property
    def start(self) -> int:
        """Its first byte."""
        return self._start

    @property
    def position(self) -> int:
        """The next byte to come."""
        return self._start if self._stream is None else self._stream.position

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self._start + self.moved == self.stop

    def take_over(self) -> bool:
        """There is an answer: nobody else fetches it from now on. False if somebody has got there meanwhile."""
        within, self._within = self._within, None
        outer: list[Claimed] = []
        while within is not None:
            outer.append(within)
            within = within._within
        if any(each.position > self._start for each in outer):
            return False
        for each in outer:
            if each.stop is None or each.stop > self._start:
                each.shorten(self._start)
        return True

    def carry(self, stream: Stream) -> None:
        """This one fetches it."""
        self._stream = stream

    def shorten(self, stop: int) -> None:
        """End there, or at L{position} if it is beyond that already."""
        self.stop = max(stop, self.position)
        if self._stream is not None:
            self._stream.shorten(self.stop)


class Streams:
    """Puts a fill's questions to the origin, and writes what comes.

    @ivar answered: whether the origin has agreed to send the body.
    @ivar proved: whether it is the origin alone that has, so that the body is its repository's own.
    @ivar ranged: whether it has sent a part when asked for one.
    @ivar turn: at which of the registry's URLs the next question begins.
    """

    def __init__(
        self,
        tools: Tools,
        query: Query,
        ingest: IIngest,
        target: Target,
        fill: Reports,
        begun: Callable[[], None],
        progressed: Callable[[], None],
        expected: int | None,
    ) -> None:
        """
        @param target: where the bytes are written.
        @param begun: called when an answer has begun to come.
        @param progressed: called after each batch that has been written and marked.
        @param expected: the size that a descriptor gave, for an origin that does not say.
        """
        self.answered = False
        self.proved = False
        self.ranged = False
        self.turn = query.turn
        self._tools = tools
        self._query = query
        self._ingest = ingest
        self._target = target
        self._fill = fill
        self._begun = begun
        self._progressed = progressed
        self._expected = expected
        self._claims: list[Claimed] = []
        self._near = False

    @property
    def claims(self) -> list[runs.Claim]:
        """What is being fetched."""
        return [runs.Claim(claim.start, claim.position, claim.stop) for claim in self._claims]

    def free(self) -> runs.Run | None:
        """The first missing run that nobody fetches; C{None} if there is none."""
        claims = self.claims
        offset = 0
        while (hole := self._ingest.hole(offset)) is not None:
            run = runs.in_turn(hole, claims)
            if run is not None or hole[1] is None:
                return run
            offset = hole[1]
        return None

    def claim(self, start: int, stop: int | None, split: int | None = None) -> Claimed:
        """Nobody else asks for it, until L{release}.

        @param split: which of L{claims} ends where this one begins, once that has an answer.
        """
        claim = Claimed(start, stop, None if split is None else self._claims[split])
        self._claims.append(claim)
        return claim

    def release(self, claim: Claimed) -> None:
        """Others may ask for what is missing of it."""
        self._claims.remove(claim)

    async def fetch(self, claim: Claimed, *, ahead: bool = False) -> None:
        """Ask for a run, and write what comes. A failure has the next question put elsewhere.

        @param ahead: whether it is out of turn, so that nothing in front of it is worth reading.
        @raise RangeIgnored: if it is, and the origin sends the whole.
        @raise OriginError: if not all of it came.
        @raise crcache.errors.StoreError: if it could not be written.
        """
        turn = self.turn
        try:
            await self._fetch(claim, turn, ahead)
        except OriginError:
            # Of several streams that fail at one URL, only the first goes on to the next.
            self.turn = max(self.turn, turn + 1)
            raise

    async def _fetch(self, claim: Claimed, turn: int, ahead: bool) -> None:
        start, size = claim.start, self._ingest.size
        whole = start == 0 and claim.stop == size
        span = None if whole else (start, None if claim.stop == size else claim.stop)
        resumes = self._query.resumes or self.answered
        query = replace(self._query, span=span, turn=turn, resumes=resumes, checked=True)
        answer = await self._tools.upstream.ask(query)
        try:
            skip = await self._admit(answer, query, start)
            if ahead and skip:
                raise RangeIgnored(f"{query.registry} ignores ranges; what is far ahead is fetched in its turn")
        except BaseException:
            answer.abort()
            raise
        if claim.stop is None:
            claim.stop = self._ingest.size
        elif claim.stop <= start or not claim.take_over():
            answer.abort()
            return
        stream = Stream(self._tools.clock, self._target, start, claim.stop, self._progressed, skip=skip)
        claim.carry(stream)
        self._begun()
        await stream.run(answer)
        if claim.stop is None:
            self._ingest.settle(stream.offset)
        elif stream.offset < claim.stop:
            if answer.status == 200 and answer.length is None:
                # It has ended as it was meant to. Kept, its bytes would spoil the next right answer.
                raise OriginLied(f"{query.registry} sent {stream.offset} bytes of a body of {claim.stop}")
            raise BodyCut(f"{query.registry} ended its answer at byte {stream.offset} of {claim.stop}")

    async def _admit(self, answer: IAnswer, query: Query, start: int) -> int:
        """Check an answer's head; how many bytes of its body lie before what was asked for."""
        nearby = INearby.providedBy(answer)
        if nearby:
            self._near = True
            self._fill.doubted()
        part = part_of(answer, query)
        # A descriptor's size helps only where no origin has ever said one.
        unsaid = part.size is None and self._ingest.size is None
        size = self._expected if unsaid else part.size
        # First: whoever is let in by what follows is sent the body by way of the disk.
        await self._ingest.room(self._ingest.size if size is None else size)
        self._ingest.settle(size)
        self.answered = True
        self.proved = not self._near
        self.ranged = self.ranged or (query.span is not None and part.start == query.span[0] > 0)
        self._fill.answered(self._ingest.size, query.repository if self.proved else None)
        return start - part.start
