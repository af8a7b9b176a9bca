"""Chooses how a body goes to a client."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.server import Request
from zope.interface import implementer

from crcache.errors import BodyCut, GivenUp, StoreError
from crcache.facts import Verdict
from crcache.flow.carry import Carry, Means
from crcache.flow.push import PushSend
from crcache.flow.relay import Relay
from crcache.flow.send import FileSend, plain_socket
from crcache.flow.window import Window
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import ContentRange
from crcache.interfaces import IAnswer, IBody, IWatcher
from crcache.sending import IRest, ISender


@implementer(ISender)
class Sender:
    """sendfile where the socket is plain and the length known, a push producer elsewhere."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def send(
        self, request: Request, body: IBody, start: int, stop: int | None, held: bool, rest: IRest | None = None
    ) -> Deferred[int]:
        """As L{ISender.send}."""
        if request.channel is None:
            return succeed(0)
        try:
            if body.verdict is Verdict.FAILED:
                # It has failed since the cache answered: there is still time to say so.
                problem = body.problem
                said = "the origin broke off before the first byte; try again"
                raise problem if isinstance(problem, StoreError | GivenUp) else BodyCut(said)
            window = Window(body, start, stop, held)
        except (StoreError, GivenUp):
            if rest is None:
                raise
            return Deferred.fromCoroutine(self._without_file(request, start, stop, held, rest))
        transport = None if stop is None else plain_socket(request)
        carry = Carry(request, window, rest, self._means)
        if transport is None:
            return PushSend(request, window, self._means, carry).start()
        return FileSend(request, transport, window, self._means, carry).start()

    async def _without_file(self, request: Request, start: int, stop: int | None, held: bool, rest: IRest) -> int:
        # What is to be checked is so as the end of the whole.
        first = 0 if held else start
        answer = await rest.ask(first, stop)
        if request.channel is None:
            answer.abort()
            return 0
        lasting = self._means.lasting(request, rest, first, stop, answer)
        return await self._relay(request, lasting, rest.digest if held else None, start - first)

    def relay(
        self,
        request: Request,
        answer: IAnswer,
        digest: Digest | None,
        rest: IRest | None = None,
        start: int = 0,
        part: ContentRange | None = None,
        proved: Callable[[int], None] | None = None,
    ) -> Deferred[int]:
        """As L{ISender.relay}."""
        if request.channel is None:
            answer.abort()
            return succeed(0)
        if rest is not None:
            # An answer may end sooner than its range does, or later.
            end = None if answer.length is None else start + answer.length
            stop = end if part is None else part.stop
            answer = self._means.lasting(request, rest, start, stop, answer)
        return self._relay(
            request, answer, digest, 0 if part is None else part.start - start, proved if start == 0 else None
        )

    def _relay(
        self,
        request: Request,
        answer: IAnswer,
        digest: Digest | None,
        skip: int,
        proved: Callable[[int], None] | None = None,
    ) -> Deferred[int]:
        return Relay(request, answer, digest, self._means.hashing, self._means.clock, skip, proved).start()

    def sized(self, body: IBody) -> Deferred[int]:
        """As L{ISender.sized}."""
        if body.size is not None:
            return succeed(body.size)
        if body.verdict is Verdict.FAILED:
            return fail(_no_size())
        return _Sized(body).known


def _no_size() -> BodyCut:
    return BodyCut("the origin gave no length, and the body broke off")


@implementer(IWatcher)
class _Sized:
    """Waits for a size."""

    def __init__(self, body: IBody) -> None:
        self._body = body
        self.known: Deferred[int] = Deferred(canceller=lambda _: body.unwatch(self))
        body.watch(self)

    def moved(self) -> None:
        """As L{IWatcher}."""
        if self._body.size is not None:
            self._body.unwatch(self)
            self.known.callback(self._body.size)
        elif self._body.verdict is Verdict.FAILED:
            self._body.unwatch(self)
            self.known.errback(_no_size())
