"""How origins are asked: the story of one query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache import __version__
from crcache.errors import OriginError, OriginTimeout, OriginUnreachable, ShuttingDown
from crcache.facts import Query
from crcache.grammar.length import parse_length
from crcache.grammar.reference import Registry
from crcache.interfaces import IAnswer, IMeter, IUpstream
from crcache.secret import Secret
from crcache.settings import Credentials, RegistrySettings, UpstreamSettings
from crcache.upstream.answer import Answer, KeptAnswer
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange, Exchanger, refuse_encoding
from crcache.upstream.health import Health
from crcache.upstream.limits import Limits, Slot
from crcache.upstream.negotiation import Grant, Negotiator
from crcache.upstream.reading import read
from crcache.upstream.redirect import follow
from crcache.upstream.site import Site
from crcache.upstream.token import Realms
from crcache.upstream.urls import origin_of, question

#: Requests for one query at one URL: with what is known, and after each challenge.
_ROUNDS = 3
#: The body of a 401 is read so far.
_REFUSAL = 64 * 1024


@implementer(IUpstream)
class Upstream:
    """All origins. Nothing is opened before the first question."""

    def __init__(
        self,
        reactor: Any,
        settings: UpstreamSettings,
        registry_settings: Callable[[Registry], RegistrySettings],
        credentials: Credentials,
        meter: IMeter,
        environ: Mapping[str, str],
        clock: Any = None,
    ) -> None:
        """
        @param environ: where the proxies are, if the settings do not say.
        @param clock: an C{IReactorTime} for all timeouts; the reactor if left out.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._clock = reactor if clock is None else clock
        self._settings = settings
        self._registry_settings = registry_settings
        self._meter = meter
        self._exchanger = Exchanger(reactor, self._clock, settings, environ)
        self._health = Health(self._clock)
        self._limits = Limits(settings.max_connections)
        realms = Realms(self._exchanger, self._limits, self._clock, meter, settings.first_byte_timeout)
        self._negotiator = Negotiator(realms, credentials, self._clock)
        self._closed = False
        self._asking = 0
        self._answered: list[Deferred[None]] = []

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """See L{IUpstream}."""
        if self._closed:
            return fail(ShuttingDown("crcache is shutting down; ask the origin"))
        self._asking += 1
        asking: Deferred[IAnswer] = Deferred.fromCoroutine(self._ask(query))
        return asking.addBoth(self._asked)

    def _asked(self, result: Any) -> Any:
        self._asking -= 1
        if self._asking == 0:
            waiting, self._answered = self._answered, []
            for each in waiting:
                each.callback(None)
        return result

    def retire(self) -> Deferred[None]:
        """Another one is asked from now on. Idle connections are closed at once; questions that have been put are
        answered, and their connections closed then.

        Fires when the last connection is gone, at the latest after L{close}. A question that comes all the same is
        answered on a connection of its own.
        """
        self._exchanger.retire()
        return Deferred.fromCoroutine(self._gone())

    async def _gone(self) -> None:
        while self._asking or self._exchanger.open:
            if self._asking:
                answered: Deferred[None] = Deferred()
                self._answered.append(answered)
                await answered
            await self._exchanger.gone()

    def close(self) -> Deferred[None]:
        """Abort all connections and answer no more questions. Fires when the last connection is gone."""
        self._closed = True
        return self._exchanger.close()

    async def _ask(self, query: Query) -> IAnswer:
        """The registry's URLs in their order. All of them together have the first-byte timeout: each that is not the
        last has its share of what is left."""
        settings = self._registry_settings(query.registry)
        deadline = self._clock.seconds() + self._settings.first_byte_timeout
        problem: OriginError = OriginUnreachable(f"{query.registry} has no url; configure one")
        first = query.turn % max(len(settings.urls), 1)
        for index, base in enumerate((*settings.urls[first:], *settings.urls[:first])):
            share = (deadline - self._clock.seconds()) / (len(settings.urls) - index)
            site = Site(settings, base.rstrip("/"), query.repository, query.request_id)
            try:
                answer = await self._in_time(site, query, max(share, 0.0))
            except (OriginUnreachable, OriginTimeout) as error:
                problem = error
            else:
                self._health.answered(query.registry, answer.status, query.request_id)
                return answer
        self._health.failed(query.registry, problem.message, query.request_id)
        raise problem

    def _in_time(self, site: Site, query: Query, seconds: float) -> Deferred[IAnswer]:
        asking: Deferred[IAnswer] = Deferred.fromCoroutine(self._at(site, query))
        return within(
            asking,
            seconds,
            self._clock,
            lambda: OriginTimeout(f"{site.origin} did not answer within {seconds:g} s; try again"),
        )

    async def _at(self, site: Site, query: Query) -> IAnswer:
        if query.authorization is not None:
            return await self._once(site, query, query.authorization)
        used = await self._negotiator.prepare(site)
        for _ in range(_ROUNDS):
            answer = await self._once(site, query, None if used is None else used.authorization)
            if not isinstance(answer, _Refusal):
                self._negotiator.accepted(used)
                return answer
            grant: Grant | None = await self._negotiator.respond(site, answer.challenges, used)
            if grant is None:
                break
            used = grant
        return answer

    async def _once(self, site: Site, query: Query, authorization: Secret | None) -> IAnswer:
        """One request, with its redirects, in a slot of its origin."""
        slot = await self._limits.acquire(site.origin, query.method == "GET" and query.kind != "manifest")
        try:
            exchange = await follow(
                self._exchanger,
                query.method,
                question(site.base, query),
                _headers(query),
                site.settings,
                authorization,
                lambda status: self._meter.asked(site.registry, query.kind, status),
                downgrade=site.plain,
            )
            self._note_rate(site, exchange)
            return await self._answer(site, query, exchange, slot)
        except BaseException:
            slot.release()
            raise

    async def _answer(self, site: Site, query: Query, exchange: Exchange, slot: Slot) -> IAnswer:
        def received(count: int) -> None:
            self._meter.received(site.registry, count)

        if exchange.status == 401 and origin_of(exchange.url) == site.origin:
            body = await read(exchange, _REFUSAL)
            slot.release()
            return _Refusal(
                exchange.status, exchange.headers, body or b"", received, exchange.lines("WWW-Authenticate")
            )
        head = query.method == "HEAD"
        if exchange.status // 100 == 2 and not head:
            refuse_encoding(exchange)
        return Answer(exchange, self._clock, self._settings.stall_timeout, received, slot.release, head)

    def _note_rate(self, site: Site, exchange: Exchange) -> None:
        remaining = (exchange.header("RateLimit-Remaining") or "").partition(";")[0].strip()
        count = parse_length(remaining)
        if count is not None:
            self._meter.rate_limit(site.registry, count)


class _Refusal(KeptAnswer):
    """A 401 of the registry itself."""

    def __init__(
        self, status: int, headers: Headers, body: bytes, received: Callable[[int], object], challenges: list[str]
    ) -> None:
        super().__init__(status, headers, body, received)
        self.challenges = challenges


def _headers(query: Query) -> Headers:
    headers = Headers(
        {
            "User-Agent": [f"crcache/{__version__}"],
            "Accept": list(query.accept) or ["*/*"],
            "Accept-Encoding": ["identity"],
            "X-Request-Id": [query.request_id],
        }
    )
    if query.span is not None:
        start, stop = query.span
        headers.setRawHeaders("Range", [f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"])
    return headers
