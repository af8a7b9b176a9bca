"""Whose credentials a private fill asks its origin with: one that a client lends it, for as long as it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from crcache.errors import OriginError
from crcache.facts import Query
from crcache.flow.answers import refusal
from crcache.flow.collect import dismiss
from crcache.interfaces import IAnswer, IUpstream
from crcache.secret import Secret

#: Seconds for which a credential may be used whose client does not watch yet: the origin may still be asked about it.
MOMENT = 20.0
#: Seconds without any after which the fill is let be: containerd's next range request finds it running.
LINGER = 2.0


class Loan:
    """One client's credential.

    @ivar refusal: what the origin has said to it, if that was no.
    """

    __slots__ = ("authorization", "refusal")

    def __init__(self, authorization: Secret, refusal: OriginError | None) -> None:
        self.authorization = authorization
        self.refusal = refusal


@implementer(IUpstream)
class Lending:
    """Puts a fill's questions with a credential that is lent just now, the latest first; with another if it is refused.

    Nothing is kept of one that has been given back.
    """

    def __init__(
        self, upstream: IUpstream, clock: IReactorTime, awaited: Callable[[], bool], left: Callable[[], bool]
    ) -> None:
        """
        @param awaited: whether somebody waits for the head of an answer: those who lend do not watch before that.
        @param left: called when nobody has lent anything for a while; false if that does not matter just now.
        """
        self._upstream = upstream
        self._clock = clock
        self._awaited = awaited
        self._left = left
        self._loans: dict[Loan, None] = {}
        self._offers: dict[Loan, None] = {}
        self._moments: dict[Loan, IDelayedCall] = {}
        self._leaving: IDelayedCall | None = None
        self._lacking: list[Deferred[None]] = []
        self._closed = False

    # Towards clients

    def offer(self, authorization: Secret) -> None:
        """It may be used as one that was lent, and is the one that is lent next if that is the same."""
        loan = self._begin(authorization)
        if not self._closed:
            self._offers[loan] = None

    def lend(self, authorization: Secret) -> Loan:
        """It may be used for a moment, and until the head of an answer can be written; after that, from L{hold} on."""
        for loan in self._offers:
            if loan.authorization == authorization:
                self._end_moment(loan)
                self._begin_moment(loan)
                return loan
        return self._begin(authorization)

    def _begin(self, authorization: Secret) -> Loan:
        refusals = (loan.refusal for loan in self._loans if loan.refusal and loan.authorization == authorization)
        loan = Loan(authorization, next(refusals, None))
        self._add(loan)
        self._begin_moment(loan)
        return loan

    def _begin_moment(self, loan: Loan) -> None:
        if not self._closed:
            self._moments[loan] = self._clock.callLater(MOMENT, self._passed, loan)

    def hold(self, loan: Loan) -> None:
        """It may be used until L{give_back}. Idempotent."""
        self._end_moment(loan)
        self._add(loan)

    def give_back(self, loan: Loan) -> None:
        """It must not be used any more. Idempotent."""
        self._end_moment(loan)
        if loan in self._loans:
            del self._loans[loan]
            self._linger()

    def close(self) -> None:
        """No more questions are put. Idempotent; nobody is held alive by this object any more."""
        self._closed = True
        self._awaited = self._left = _no
        self._loans.clear()
        self._offers.clear()
        for timer in (*self._moments.values(), self._leaving):
            if timer is not None:
                timer.cancel()
        self._moments.clear()
        self._leaving = None

    def _add(self, loan: Loan) -> None:
        if self._closed or loan in self._loans:
            return
        self._loans[loan] = None
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.cancel()
        lacking, self._lacking = self._lacking, []
        for waiting in lacking:
            # One that was cancelled has been called already, and takes a second result silently.
            waiting.callback(None)

    def _end_moment(self, loan: Loan) -> None:
        self._offers.pop(loan, None)
        moment = self._moments.pop(loan, None)
        if moment is not None:
            moment.cancel()

    def _passed(self, loan: Loan) -> None:
        """Its moment has."""
        del self._moments[loan]
        if self._awaited():
            self._begin_moment(loan)
        else:
            self.give_back(loan)

    def _linger(self) -> None:
        if not self._loans and self._leaving is None and not self._closed:
            self._leaving = self._clock.callLater(LINGER, self._lingered)

    def _lingered(self) -> None:
        self._leaving = None
        if self._awaited() or not self._left():
            self._linger()

    # Towards the origin

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}, with each credential that is lent and has not been refused yet, until one is good.

        The answer is the last refusal if none is; if none is left, it fails with that refusal. It waits while nothing
        is lent at all.
        """
        return Deferred.fromCoroutine(self._ask(query))

    async def _ask(self, query: Query) -> IAnswer:
        while True:
            loan = self._good()
            if loan is None:
                await self._lacked()
                continue
            answer = await self._upstream.ask(replace(query, authorization=loan.authorization))
            if answer.status not in (401, 403):
                return answer
            self._refused(loan, refusal(answer, query))
            if self._good() is None:
                return answer
            dismiss(answer, head=query.method == "HEAD")

    def _good(self) -> Loan | None:
        """The latest that is not known to be refused."""
        return next((loan for loan in reversed(self._loans) if loan.refusal is None), None)

    def _refused(self, loan: Loan, problem: OriginError) -> None:
        loan.refusal = problem
        for other in self._loans:
            if other.refusal is None and other.authorization == loan.authorization:
                other.refusal = problem

    async def _lacked(self) -> None:
        """Wait until something is lent.

        @raise crcache.errors.OriginError: if all that is lent has been refused.
        """
        for loan in self._loans:
            if loan.refusal is not None:
                # Each who asks gets its own: tracebacks gather in it.
                raise type(loan.refusal)(loan.refusal.message, headers=loan.refusal.headers)
        waiting: Deferred[None] = Deferred()
        self._lacking.append(waiting)
        await waiting


def _no() -> bool:
    """What is asked when it is over."""
    return False
