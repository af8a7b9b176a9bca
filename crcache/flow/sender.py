"""Chooses how a body goes to a client."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.server import Request
from zope.interface import implementer

from crcache.errors import BodyCut
from crcache.facts import Verdict
from crcache.flow.push import PushSend
from crcache.flow.relay import Relay
from crcache.flow.send import FileSend, plain_socket
from crcache.flow.window import Window
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer, IBody, ISender, IWatcher
from crcache.workers import Workers


@implementer(ISender)
class Sender:
    """sendfile where the socket is plain and the length known, a push producer elsewhere."""

    def __init__(self, reading: Workers, hashing: Workers) -> None:
        """
        @param reading: threads that read files.
        @param hashing: threads that hash.
        """
        self._reading = reading
        self._hashing = hashing

    def send(self, request: Request, body: IBody, start: int, stop: int | None, held: bool) -> Deferred[int]:
        """As L{ISender.send}."""
        if request.channel is None:
            return succeed(0)
        if body.verdict is Verdict.FAILED:
            # It has failed since the cache answered: there is still time to say so.
            raise BodyCut("the origin broke off before the first byte; try again")
        window = Window(body, start, stop, held)
        transport = None if stop is None else plain_socket(request)
        if transport is None:
            return PushSend(request, window, self._reading).start()
        return FileSend(request, transport, window, self._reading).start()

    def relay(self, request: Request, answer: IAnswer, digest: Digest | None) -> Deferred[int]:
        """As L{ISender.relay}."""
        if request.channel is None:
            answer.abort()
            return succeed(0)
        return Relay(request, answer, digest, self._hashing).start()

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
