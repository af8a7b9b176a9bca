"""The parents as a source: for each question the nearest to it, and then one more."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from zope.interface import implementer

from crcache.errors import OriginError, OriginTimeout, ShuttingDown
from crcache.facts import Query
from crcache.flow.collect import dismiss
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Tag
from crcache.grammar.via import entry
from crcache.interfaces import IAnswer
from crcache.parents.parent import Parent, ParentAnswer
from crcache.policy.nearness import ranked
from crcache.settings import ParentSettings, UpstreamSettings
from crcache.sources import ILastResort
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange, Exchanger, refuse_encoding
from crcache.upstream.limits import Limits
from crcache.upstream.lines import request_headers
from crcache.upstream.urls import question

#: Parents that are asked the same, one after another.
TRIES = 2
#: The share of C{first-byte-timeout} that all of them have together: the origin has to have its own.
SHARE = 0.5


class Counts(Protocol):
    """Counts what parents are asked, apart from what origins are. Cheap, and never raises."""

    def asked(self, parent: str, kind: str, status: int | None) -> None:
        """One has been asked: its host and port; C{kind} as in L{Query}, or C{ping}; status C{None}: no answer."""

    def received(self, parent: str, count: int) -> None:
        """Bytes of bodies came from one."""


class Named(Protocol):
    """What this cache is called."""

    def pseudonym(self) -> str:
        """The name; empty as long as it is not known."""

    def named(self) -> Deferred[None]:
        """Fires when it is."""


class _Pending:
    """A question whose answer is waited for.

    @ivar heard: whether there is a connection that it is sent on.
    @ivar crossed: whether it has been called off because it waits for itself.
    @ivar queued: whether it waits for a connection to be free.
    """

    def __init__(self) -> None:
        self.asked = self.heard = self.crossed = False
        self.queued = False
        self.parent: Parent | None = None
        self.work: Deferred[ParentAnswer | None] | None = None

    def sent(self) -> None:
        self.heard = True


@implementer(ILastResort)
class Parents:
    """Asks them as a client would, but for the hops in `Via`; nothing is opened before the first question."""

    def __init__(
        self,
        reactor: Any,
        settings: UpstreamSettings,
        parents: Sequence[ParentSettings],
        meter: Counts,
        environ: Mapping[str, str],
        name: Named,
        ttl: Callable[[Registry], float],
    ) -> None:
        """
        @param environ: where the proxies are, if the settings do not say.
        @param name: this cache's own.
        @param ttl: as for L{Ancestry<crcache.parents.ancestry.Ancestry>}.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._clock = reactor
        self._settings = settings
        self._meter = meter
        self._name = name
        self._ttl = ttl
        self._budget = settings.first_byte_timeout * SHARE
        self._exchanger = Exchanger(reactor, reactor, settings, environ)
        self._limits = Limits(settings.max_connections, lambda registry: True)
        seconds = min(settings.connect_timeout, self._budget)
        self._parents = {each.url: Parent(each, reactor, self._ping, seconds) for each in parents}
        self._pending: dict[Hashable, set[_Pending]] = {}
        self._stale: dict[Hashable, str] = {}
        self._closed = False

    def describe(self, named: Callable[[Registry], bool]) -> list[dict[str, object]]:
        """How they do, as JSON can carry it.

        @param named: which registries may be named.
        """
        return [parent.describe(named) for parent in self._parents.values()]

    def ask(self, query: Query) -> Deferred[IAnswer | None]:
        """As L{ISource.ask<crcache.sources.ISource>}. What a tag means a parent must know from its origin: what it
        knows from before its origin failed is no better than what is known here, nor what would not be told here any
        more because the parent's tag-ttl is longer."""
        return Deferred.fromCoroutine(self._ask(query, stale=False))

    def resort(self, query: Query) -> Deferred[IAnswer | None]:
        """As L{ILastResort.resort}: what a tag meant the last time that a parent could ask."""
        return Deferred.fromCoroutine(self._ask(query, stale=True))

    def crossed(self, hops: tuple[str, ...], registry: Registry, reference: Tag | Digest) -> None:
        """Somebody else asks for this: if it is one of those that are asked for the same just now, each would wait for
        the other. What is asked there is called off.

        @param hops: the pseudonyms of those that it comes from.
        """
        for pending in list(self._pending.get((registry, reference), ())):
            parent, work = pending.parent, pending.work
            if parent is not None and work is not None and parent.pseudonym in hops:
                pending.crossed = True
                work.cancel()

    async def _ask(self, query: Query, *, stale: bool) -> IAnswer | None:
        subject = _subject(query)
        if stale:
            url = self._stale.pop(subject, None)
            order = [] if url is None else [url]
        else:
            self._stale.pop(subject, None)
            order = ranked(list(self._parents), subject)
        until, tries = self._clock.seconds() + self._budget, TRIES
        with suppress(OriginTimeout):
            late = OriginTimeout("nobody knows yet what this cache is called")
            await within(self._name.named(), self._budget, self._clock, lambda: late)
        for position, url in enumerate(order):
            left = until - self._clock.seconds()
            if tries == 0 or left <= 0 or self._closed or not self._name.pseudonym():
                break
            share = left / min(tries, len(order) - position)
            pending = _Pending()
            answer = await self._tried(self._parents[url], query, pending, share)
            tries -= pending.asked
            if answer is None:
                continue
            old = answer.stale or answer.age > self._ttl(query.registry)
            if old and isinstance(query.reference, Tag) and not stale:
                dismiss(answer, head=query.method == "HEAD")
                self._remember(subject, url)
                continue
            return answer
        return None

    def _remember(self, subject: str, url: str) -> None:
        self._stale[subject] = url
        if len(self._stale) > _MOST:
            del self._stale[next(iter(self._stale))]

    async def _tried(self, parent: Parent, query: Query, pending: _Pending, share: float) -> ParentAnswer | None:
        """What one of them says; C{None} if that is of no use. Cancelling it closes the connection."""
        key = query.registry, query.reference
        pending.parent = parent
        self._pending.setdefault(key, set()).add(pending)
        late = OriginTimeout(f"{parent.name} did not answer within {share:.3g} s")
        pending.work = Deferred.fromCoroutine(self._put(parent, query, pending))
        try:
            return await within(pending.work, share, self._clock, lambda: late)
        except CancelledError:
            if not pending.crossed:
                raise
        except (OriginError, ShuttingDown):
            if pending.asked and not (pending.queued or pending.crossed or self._closed):
                parent.failed(query, pending.heard)
        finally:
            self._pending[key].discard(pending)
            if not self._pending[key]:
                del self._pending[key]
        return None

    async def _put(self, parent: Parent, query: Query, pending: _Pending) -> ParentAnswer | None:
        if not await parent.ready(query.registry):
            return None
        pending.asked = pending.queued = True
        body = query.method == "GET" and query.kind != "manifest"
        slot = await self._limits.acquire(parent.origin, body, query.registry, query.peer, query.crowd)
        pending.queued = False
        answer: ParentAnswer | None = None
        try:
            if self._closed:
                return None
            answer = await self._exchanged(parent, query, pending, slot.release)
        finally:
            if answer is None:
                slot.release()
        parent.answered(query, answer.status)
        if answer.status == 200 or (answer.status == 206 and query.span is not None):
            return answer.dated()
        dismiss(answer, head=query.method == "HEAD")
        return None

    async def _exchanged(
        self, parent: Parent, query: Query, pending: _Pending, release: Callable[[], object]
    ) -> ParentAnswer:
        url = question(parent.url, replace(query, parameters=(*query.parameters, ("ns", str(query.registry)))))
        headers = request_headers(query)
        headers.setRawHeaders("Via", [self._via(query.via)])
        if query.authorization is not None:
            headers.setRawHeaders("Authorization", [query.authorization.reveal()])
        try:
            exchange = await self._exchanger.exchange(
                query.method, url, headers, parent.of(query.registry), heard=pending.sent
            )
        except OriginError:
            self._meter.asked(parent.name, query.kind, None)
            raise
        self._meter.asked(parent.name, query.kind, exchange.status)
        head = query.method == "HEAD"
        if exchange.status // 100 == 2 and not head:
            refuse_encoding(exchange)

        def received(count: int) -> None:
            self._meter.received(parent.name, count)

        return ParentAnswer(exchange, self._clock, self._settings.stall_timeout, received, release, head)

    def _via(self, before: tuple[str, ...]) -> str:
        return ", ".join((*before, entry(self._name.pseudonym())))

    def _ping(self, parent: Parent) -> Deferred[Exchange]:
        return Deferred.fromCoroutine(self._pinged(parent))

    async def _pinged(self, parent: Parent) -> Exchange:
        headers = Headers({"Via": [self._via(())], "X-Request-Id": ["-"]})
        exchange = await self._exchanger.exchange("GET", f"{parent.url}/v2/", headers, parent.of(DOCKER_IO))
        self._meter.asked(parent.name, "ping", exchange.status)
        dismiss(ParentAnswer(exchange, self._clock, self._settings.stall_timeout, _nothing, _nothing))
        return exchange

    # The end

    def retire(self) -> Deferred[None]:
        """Others are asked from now on: idle connections are closed, what is on its way is answered. Fires when the
        last connection is gone."""
        self._closed = True
        self._exchanger.retire()
        return self._exchanger.gone()

    def close(self) -> Deferred[None]:
        """Abort all connections. Fires when the last one is gone."""
        self._closed = True
        self._limits.close(lambda: ShuttingDown("crcache is shutting down; ask the origin"))
        for parent in self._parents.values():
            parent.stop()
        return self._exchanger.close()


#: Tags of which it is remembered who knew them from before.
_MOST = 1024


def _subject(query: Query) -> str:
    """What decides who is asked: content is the same whichever repository, and registry, it is asked of."""
    if isinstance(query.reference, Digest):
        return str(query.reference)
    return f"{query.registry}/{query.repository}:{query.reference or ''}"


def _nothing(*_: object) -> None:
    """Of what is not counted, and holds no place."""
