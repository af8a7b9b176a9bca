"""One parent: whether it is there, what it calls itself, and how one question is put to it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.errors import CrcacheError, OriginTimeout
from crcache.facts import Query
from crcache.grammar.length import parse_length
from crcache.grammar.reference import Registry
from crcache.grammar.via import caches, parse_via
from crcache.policy.nearness import WELL, Standing, erred, failed, skipped
from crcache.settings import ParentSettings, RegistrySettings
from crcache.sources import IAged
from crcache.upstream.answer import Answer
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange
from crcache.upstream.urls import Origin, origin_of

log = Logger()

#: Registries of which it is remembered that a parent fails with them; clients can name any.
_MOST = 256

#: Puts a `GET` of its `/v2/`: the answer's head.
Ping = Callable[["Parent"], Deferred[Exchange]]


@implementer(IAged)
class ParentAnswer(Answer):
    """An answer of a parent's.

    @ivar age: seconds since an origin vouched for it, as the parent says.
    """

    age = 0.0

    def dated(self) -> ParentAnswer:
        """The same, with the age that it says (RFC 9111, 5.1)."""
        lines = self.headers.getRawHeaders(b"Age", [])
        self.age = float(parse_length(lines[0].decode("latin-1").strip()) or 0) if lines else 0.0
        return self

    @property
    def stale(self) -> bool:
        """Whether the parent would rather have asked the origin (RFC 9211; a C{detail} of crcache's own)."""
        lines = self.headers.getRawHeaders(b"Cache-Status", [])
        return any(b"detail=stale-if-error" in line for line in lines)


class Parent:
    """What is known of one of the parents, for as long as it is configured.

    It is there if it has answered a `GET` of `/v2/`, whatever it said; before that, and after a question that got no
    answer, it has to. So that it is away costs those who ask the time of one question, and finding out that it is back
    nothing: nobody waits for that.

    @ivar url: without a trailing slash.
    @ivar pseudonym: what it calls itself; empty if it does not, as what is no crcache.
    @ivar looped: whether it has said that what it was asked had come from itself, which has been told of.
    """

    def __init__(self, settings: ParentSettings, clock: Any, ping: Ping, seconds: float) -> None:
        """
        @param seconds: for which a ping is waited.
        """
        self.url = settings.url
        self.pseudonym = ""
        self.looped = False
        self._settings = settings
        self._clock = clock
        self._ping = ping
        self._seconds = seconds
        self._there = False
        self._doubted = False
        self._pinging: Deferred[Exchange] | None = None
        self._waiting: list[Deferred[bool]] = []
        self._standing = WELL
        self._problem = ""
        self._with: OrderedDict[Registry, Standing] = OrderedDict()

    @property
    def origin(self) -> Origin:
        """Scheme, host and port."""
        return origin_of(self.url)

    @property
    def name(self) -> str:
        """Host and port, for logs and metrics."""
        return str(self.origin)

    def of(self, registry: Registry) -> RegistrySettings:
        """How it is reached, as for a registry's URL: it is named by the administrator, so it may be anywhere."""
        own = self._settings
        return RegistrySettings(registry, (self.url,), own.ca, own.client_cert, own.client_key)

    # Whether it is there

    def ready(self, registry: Registry) -> Deferred[bool]:
        """Whether it may be asked about a registry; waits for it only if nobody has found out yet."""
        now = self._clock.seconds()
        if skipped(self._with.get(registry, WELL), now):
            return succeed(False)
        if not (self._there or skipped(self._standing, now)):
            self._look()
        if self._there or self._doubted or self._standing.failures:
            return succeed(self._there)
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _look(self) -> None:
        if self._pinging is not None:
            return

        def late() -> OriginTimeout:
            return OriginTimeout(f"{self.name} did not answer within {self._seconds:.3g} s")

        self._pinging = within(self._ping(self), self._seconds, self._clock, late)
        self._pinging.addCallbacks(self._pinged, self._silent)

    def _pinged(self, exchange: Exchange) -> None:
        self._pinging = None
        found = caches(parse_via(exchange.lines("Via")))
        self.pseudonym = found[-1] if found else ""
        if exchange.status == 508:
            self.loops("-")
            self._fail("it is this very cache")
        elif exchange.status >= 500:
            self._fail(f"it answers {exchange.status}")
        else:
            self._answers()
        self._tell()

    def _silent(self, failure: Any) -> None:
        self._pinging = None
        problem = failure.value
        if not failure.check(CancelledError):
            self._fail(problem.message if isinstance(problem, CrcacheError) else str(problem))
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._there)

    def _answers(self) -> None:
        if self._standing.failures:
            log.info(
                "the parent {origin} answers again, after {seconds:.0f} s",
                event=events.PARENT_ANSWERS,
                origin=self.name,
                seconds=self._clock.seconds() - self._standing.since,
            )
        self._there, self._doubted, self._standing, self._problem = True, False, WELL, ""

    def _fail(self, problem: str) -> None:
        if not self._standing.failures:
            log.warn(
                "the parent {origin} is not asked for a while: {problem}",
                event=events.PARENT_FAILING,
                origin=self.name,
                problem=problem,
            )
            self._problem = problem
        self._there = self._doubted = False
        self._standing = failed(self._standing, self._clock.seconds())

    # What comes of questions

    def answered(self, query: Query, status: int) -> None:
        """It has. A 5xx is about the registry that is asked about, as far as anybody can tell: so is a 429."""
        if status == 508:
            self.loops(query.request_id)
        elif status >= 500 or status == 429:
            self._note(query.registry, erred(self._with.get(query.registry, WELL), self._clock.seconds()))
        else:
            self._with.pop(query.registry, None)

    def failed(self, query: Query, heard: bool) -> None:
        """It has not. That may be for the registry, which it has to wait for itself: a ping tells, and until it does
        nobody else asks.

        @param heard: whether there was a connection.
        """
        if heard:
            self._note(query.registry, failed(self._with.get(query.registry, WELL), self._clock.seconds()))
        self._there, self._doubted = False, True
        self._look()

    def _note(self, registry: Registry, standing: Standing) -> None:
        self._with[registry] = standing
        self._with.move_to_end(registry)
        if len(self._with) > _MOST:
            self._with.popitem(last=False)

    def loops(self, request_id: str) -> None:
        """It says that a question had come from itself: told once."""
        if not self.looped:
            self.looped = True
            log.warn(
                "the parents form a loop: {origin} is asked for what it has asked for itself (request {request_id})",
                event=events.PARENTS_LOOP,
                origin=self.name,
                request_id=request_id,
            )

    def stop(self) -> None:
        """It is not asked any more."""
        if self._pinging is not None:
            self._pinging.cancel()

    def describe(self, named: Callable[[Registry], bool]) -> dict[str, object]:
        """How it does, as JSON can carry it.

        @param named: which registries may be named.
        """
        now = self._clock.seconds()
        told: dict[str, object] = {"url": self.url, "up": self._there}
        if self._standing.failures:
            told["seconds"] = round(now - self._standing.since, 3)
            told["problem"] = self._problem
        without = sorted(str(each) for each, how in self._with.items() if named(each) and skipped(how, now))
        return {**told, "not_asked_about": without} if without else told
