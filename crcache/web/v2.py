"""`/v2/`: turns a request into an ask, hands it to the cache, and has the outcome or the error rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from crcache import events
from crcache.errors import CrcacheError, Overloaded, ShuttingDown
from crcache.grammar.reference import Registry
from crcache.grammar.via import caches, entry
from crcache.interfaces import ICache, IMeter
from crcache.outcomes import Relayed
from crcache.sending import ISender
from crcache.web.deliver import Delivery
from crcache.web.parse import parse, request_id_of, via_of
from crcache.web.peers import Tally
from crcache.web.render import end_short, refuse
from crcache.web.requestlog import Exchange, RequestLog

if TYPE_CHECKING:
    from crcache.web.channel import Channel
    from crcache.web.site import Request

log = Logger()


class V2(Resource):
    """All that a listener for clients answers. What is not under `/v2/` gets its 404 in the same JSON.

    @ivar tally: the requests that are worked at.
    """

    isLeaf = True

    def __init__(
        self,
        cache: ICache,
        sender: ISender,
        meter: IMeter,
        clock: IReactorTime,
        default_registry: Registry,
        most_each: Callable[[], int] = lambda: 1 << 62,
        pseudonym: Callable[[], str] = str,
    ) -> None:
        """
        @param default_registry: what a docker client means that names no registry; may be set anew at any time.
        @param most_each: so many requests of one peer are worked at, whether or not it is still there.
        @param pseudonym: what other caches are told that this one is called; empty while it is not known.
        """
        self.tally = Tally()
        self._most_each = most_each
        self._pseudonym = pseudonym
        super().__init__()
        self._cache = cache
        self._delivery = Delivery(sender, meter)
        self._requests = RequestLog(meter)
        self._clock = clock
        self.default_registry = default_registry

    def render(self, request: IRequest) -> int:
        """Answer the request, in time. Every method comes here."""
        answering = Deferred.fromCoroutine(self._answer(cast("Request", request)))
        answering.addErrback(_cancelled)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        exchange = Exchange(
            method=request.method.decode("ascii", "backslashreplace"),
            client=str(getattr(request.client, "host", "-")),
            request_id=request_id_of(request.requestHeaders),
            began=self._clock.seconds(),
            peer=cast("Channel", request.channel).peer,
        )

        def gone(_: Failure) -> None:
            exchange.gone = True

        request.notifyFinish().addErrback(gone)
        self.tally.add(exchange.peer)
        self._introduce(request)
        try:
            await self._serve(request, exchange)
        except CrcacheError as error:
            self._refuse(request, exchange, error)
        except CancelledError:
            self._refuse(request, exchange, ShuttingDown("Ask the registry itself: this cache is stopping."))
            raise
        except Exception:
            log.failure("request {request_id} failed", Failure(), event=events.INTERNAL_ERROR, **events.about(exchange))
            told = CrcacheError(f"internal error; the log has request id {exchange.request_id}")
            self._refuse(request, exchange, told)
        finally:
            self.tally.remove(exchange.peer)
            exchange.complete = bool(request.finished)
            exchange.first_byte = request.answered_at
            self._requests.finished(exchange, self._clock.seconds())

    def _introduce(self, request: Request) -> None:
        """Other caches are told who answers, lest both wait for each other some day; clients are not."""
        pseudonym = self._pseudonym()
        if pseudonym and caches(via_of(request.requestHeaders)):
            request.responseHeaders.setRawHeaders(b"Via", [entry(pseudonym).encode("ascii")])

    async def _serve(self, request: Request, exchange: Exchange) -> None:
        ask = parse(request, self.default_registry, exchange)
        if self.tally.of(exchange.peer) > (most := self._most_each()):
            # Not the number that there are, by which a client could see what others behind its address do.
            told = f"{most} requests from your address are being answered already; ask the registry itself, or later."
            raise Overloaded(told, headers=[("Retry-After", "1")])
        outcome = await self._cache.handle(ask)
        if not exchange.gone:
            await self._delivery.deliver(request, exchange, outcome)
        elif isinstance(outcome, Relayed):
            outcome.answer.abort()

    def _refuse(self, request: Request, exchange: Exchange, error: CrcacheError) -> None:
        if exchange.gone or request.finished:
            return
        if request.startedWriting:
            end_short(request)
            return
        exchange.problem = error.message
        exchange.status, exchange.sent = refuse(request, error, exchange.request_id, exchange.registry)


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
