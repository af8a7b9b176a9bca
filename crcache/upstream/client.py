"""How origins are asked: the story of one query."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from zope.interface import implementer

from crcache.errors import Astray, OriginBusy, OriginError, OriginLied, OriginTimeout, OriginUnreachable, ShuttingDown
from crcache.facts import Query
from crcache.grammar.length import parse_length
from crcache.grammar.reference import Registry
from crcache.grammar.retry_after import parse_retry_after
from crcache.interfaces import IAnswer, IMeter, IUpstream
from crcache.policy.tour import PASSING, Tour
from crcache.secret import Secret
from crcache.settings import RegistrySettings, UpstreamSettings
from crcache.upstream.answer import Answer, Refusal
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange, Exchanger, refuse_encoding
from crcache.upstream.failures import Passing
from crcache.upstream.gates import Entry, Gates
from crcache.upstream.guard import tell
from crcache.upstream.health import Health
from crcache.upstream.holdoff import HoldOff
from crcache.upstream.keys import Keys
from crcache.upstream.limits import Limits, Slot
from crcache.upstream.lines import request_headers, retry_after
from crcache.upstream.negotiation import Grant, Negotiator
from crcache.upstream.pauses import Pauses
from crcache.upstream.reading import read
from crcache.upstream.redirect import follow
from crcache.upstream.silent import Silent
from crcache.upstream.site import Site
from crcache.upstream.token import RealmBusy, Realms
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
        keys: Keys,
        meter: IMeter,
        environ: Mapping[str, str],
        clock: Any = None,
        health: Health | None = None,
        chance: Callable[[], float] = random.random,
        named: Callable[[Registry], bool] = lambda registry: False,
    ) -> None:
        """
        @param keys: the administrator's credentials.
        @param environ: where the proxies are, if the settings do not say.
        @param clock: an C{IReactorTime} for all timeouts; the reactor if left out.
        @param health: where it is noted which registries fail; one of its own if left out.
        @param chance: from 0 up to 1, anew each time.
        @param named: whether the administrator has named a registry: it waits for no others'.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._clock = reactor if clock is None else clock
        self._settings = settings
        self._registry_settings = registry_settings
        self._meter = meter
        self._exchanger = Exchanger(reactor, self._clock, settings, environ)
        self._health = Health(self._clock) if health is None else health
        self._gates = Gates(self._clock)
        self._holdoff = HoldOff(keys, self._clock)
        self._silent = Silent(self._clock)
        self._pauses = Pauses(self._clock)
        self._chance = chance
        self._limits = Limits(settings.max_connections, named)
        realms = Realms(self._exchanger, self._limits, self._clock, meter, settings.first_byte_timeout)
        self._negotiator = Negotiator(realms, keys, self._clock)
        self._closed = False
        self._asking = 0
        self._answered: list[Deferred[None]] = []

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """See L{IUpstream}."""
        if self._closed:
            return fail(_ending())
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
        self._limits.close(_ending)
        self._pauses.end()
        return self._exchanger.close()

    async def _ask(self, query: Query) -> IAnswer:
        """The registry's URLs in their order, some of them again. All of them together have the first-byte timeout."""
        entry = self._gates.enter(query)
        try:
            answer = await self._toured(query, entry)
            entry.answered(answer.status)
            self._health.answered(query.registry, answer.status, query.request_id)
            return answer
        except (OriginUnreachable, OriginTimeout) as problem:
            if not (entry.queued or entry.shut):
                entry.failed(problem)
                self._health.failed(query.registry, problem.message, query.request_id)
            raise
        except (OriginLied, Astray) as problem:
            # That it answers is all that counts there.
            entry.answered(200)
            if isinstance(problem, Astray):
                tell(problem, query)
            raise
        finally:
            entry.leave()

    async def _toured(self, query: Query, entry: Entry) -> IAnswer:
        settings = self._registry_settings(query.registry)
        urls = [base.rstrip("/") for base in settings.urls]
        deadline = self._clock.seconds() + self._settings.first_byte_timeout
        held = self._held(urls, query)
        free = min(held.values()) if held and len(held) == len(urls) else 0.0
        if query.resumes and 0 < free < self._settings.first_byte_timeout:
            await self._pause(free, entry)
        elif free:
            raise self._holdoff.busy(held, query)
        problem: OriginError = OriginUnreachable(f"{query.registry} has no url; configure one")
        tour = Tour(urls, query.turn, [base for base in urls if self._silent.lately(base)], () if free else held)
        answer: IAnswer | None = None
        while (stop := tour.next(deadline - self._clock.seconds(), self._chance)) is not None:
            if answer is not None:
                answer.abort()
                answer = None
            await self._pause(stop.pause, entry)
            site = Site(settings, stop.url, query.repository, query.request_id, query.peer)
            share = max(min(stop.share, deadline - self._clock.seconds()), 0.0)
            try:
                answer = await self._in_time(site, query, entry, share)
            except CancelledError:
                if entry.shut:
                    raise entry.remembered() from None
                raise
            except (OriginUnreachable, OriginTimeout, OriginBusy, OriginLied, Astray) as error:
                if entry.shut:
                    raise
                problem = error
                self._failed(site, query, entry, error, tour)
                continue
            self._silent.forget(stop.url)
            said = parse_retry_after(*retry_after(answer))
            if answer.status == 429:
                self._holdoff.note(stop.url, query, said)
            elif answer.status in PASSING:
                if not tour.failed(stop.url, said or 0.0):
                    self._holdoff.note(stop.url, query, said, every=True, status=answer.status)
            else:
                return answer
        if answer is None:
            raise problem
        return answer

    def _held(self, urls: list[str], query: Query) -> dict[str, float]:
        """Those that limit our rate, and for how many seconds more they do."""
        return {base: left for base in urls if (left := self._holdoff.left(base, query)) > 0}

    async def _pause(self, seconds: float, entry: Entry) -> None:
        if seconds:
            entry.waits()
            await self._pauses.wait(seconds)
        if self._closed:
            raise _ending()
        entry.check()

    def _failed(self, site: Site, query: Query, entry: Entry, error: OriginError, tour: Tour) -> None:
        """What follows from a URL's not answering, beside that the next one is asked."""
        if self._closed:
            raise _ending() from None
        if isinstance(error, RealmBusy):
            self._holdoff.note(site.base, query, error.said, every=True)
        elif isinstance(error, Passing):
            tour.failed(site.base)
        elif isinstance(error, (OriginUnreachable, OriginTimeout)) and not entry.queued:
            self._silent.note(site.base)
            self._limits.known.drop(site.origin)

    def _in_time(self, site: Site, query: Query, entry: Entry, seconds: float) -> Deferred[IAnswer]:
        asking: Deferred[IAnswer] = entry.begins(lambda: Deferred.fromCoroutine(self._at(site, query, entry)))

        def late() -> OriginTimeout:
            entry.late()
            if entry.queued:
                return OriginTimeout(f"no connection to {site.origin} was free for {seconds:.3g} s; try again")
            return OriginTimeout(f"{site.origin} did not answer within {seconds:.3g} s; try again")

        return within(asking, seconds, self._clock, late)

    async def _at(self, site: Site, query: Query, entry: Entry) -> IAnswer:
        if query.authorization is not None:
            return await self._once(site, query, entry, query.authorization)
        used = await self._negotiator.prepare(site)
        for _ in range(_ROUNDS):
            answer = await self._once(site, query, entry, None if used is None else used.authorization)
            if not isinstance(answer, Refusal):
                self._negotiator.accepted(used)
                return answer
            grant: Grant | None = await self._negotiator.respond(site, answer.challenges, used)
            if grant is None:
                break
            used = grant
        return answer

    async def _once(self, site: Site, query: Query, entry: Entry, authorization: Secret | None) -> IAnswer:
        """One request, with its redirects, in a slot of its origin."""
        body = query.method == "GET" and query.kind != "manifest"
        place = self._limits.acquire(site.origin, body, site.registry, query.peer, query.crowd)
        with entry.queueing(place):
            slot = await place
        try:
            entry.check()
            if self._holdoff.left(site.base, query) > 0:
                raise self._holdoff.busy([site.base], query)
            with entry.sending():
                exchange = await follow(
                    self._exchanger,
                    query.method,
                    question(site.base, query),
                    request_headers(query),
                    site.settings,
                    authorization,
                    lambda status: self._meter.asked(site.registry, query.kind, status),
                    downgrade=site.plain,
                    leave=not query.follows,
                    heard=entry.heard,
                )
                slot.answered()
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
            return Refusal(exchange.status, exchange.headers, body or b"", received, exchange.lines("WWW-Authenticate"))
        head = query.method == "HEAD"
        if exchange.status // 100 == 2 and not head:
            refuse_encoding(exchange)
        return Answer(exchange, self._clock, self._settings.stall_timeout, received, slot.release, head)

    def _note_rate(self, site: Site, exchange: Exchange) -> None:
        remaining = (exchange.header("RateLimit-Remaining") or "").partition(";")[0].strip()
        count = parse_length(remaining)
        if count is not None:
            self._meter.rate_limit(site.registry, count)


def _ending() -> ShuttingDown:
    return ShuttingDown("crcache is shutting down; ask the origin")
