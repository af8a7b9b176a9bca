"""One HTTP request and the head of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.client import Agent, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from crcache.errors import Astray, OriginLied
from crcache.policy import reach
from crcache.settings import RegistrySettings, UpstreamSettings
from crcache.upstream.connect import Connector
from crcache.upstream.failures import STALE_CONNECTION, explain, was_cancelled
from crcache.upstream.pool import Lease, Pools
from crcache.upstream.proxy import Proxies, Proxy
from crcache.upstream.trust import trust_for
from crcache.upstream.urls import Origin, bare, origin_of

log = Logger()

#: Further connections kept beside those of bodies: for HEADs, tokens, manifests.
_SMALL = 8
#: Idle connections that may turn out to be dead before a request gets one of its own.
_STALE = 3


@dataclass(frozen=True)
class Exchange:
    """An answer's head, with the connection that its body comes from.

    @ivar url: what was asked.
    """

    url: str
    response: Any
    lease: Lease

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.response.code)

    @property
    def headers(self) -> Headers:
        """The header lines, without those of the connection."""
        headers: Headers = self.response.headers
        return headers

    def header(self, name: str) -> str | None:
        """The first line of that name, or C{None}."""
        lines = self.lines(name)
        return lines[0] if lines else None

    def lines(self, name: str) -> list[str]:
        """All lines of that name, whatever bytes are in them."""
        return [line.decode("latin-1") for line in self.headers.getRawHeaders(name.encode("ascii"), [])]


@implementer(IAgentEndpointFactory)
class _Always:
    """The one endpoint that was chosen already."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: Any) -> Any:
        return self._endpoint


class Exchanger:
    """Puts single requests to any origin on behalf of a registry. Follows and retries nothing that was answered."""

    def __init__(self, reactor: Any, clock: Any, settings: UpstreamSettings, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._connector = Connector(reactor, clock, settings.connect_timeout)
        self._pools = Pools(reactor, self._connector.links, settings.max_connections + _SMALL)
        self._proxies = Proxies(settings.proxy, environ)

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Headers,
        settings: RegistrySettings,
        body: IBodyProducer | None = None,
        heard: Callable[[], object] = lambda: None,
    ) -> Exchange:
        """Ask, and ask again as often as only a connection that had been idle was dead.

        Cancelling it closes the connection.

        @param heard: called when there is a connection that the request is sent on.
        @raise OriginUnreachable: if there is no answer.
        @raise Astray: if the registry has no business there.
        """
        origin = origin_of(url)
        anywhere = _judge(settings, origin)
        astray = None if anywhere else reach.astray(settings, origin.host, origin.port)
        (request_id,) = headers.getRawHeaders("X-Request-Id", ["-"])
        trust = trust_for(settings, origin)
        proxy = self._proxies.choose(origin)
        for attempt in range(_STALE + 1):
            endpoint = self._connector.endpoint(origin, trust, proxy, astray)
            # What has a body cannot be sent twice, so it never goes on a connection that may be dead.
            fresh = body is not None or attempt == _STALE
            lease = self._pools.lease(trust, proxy, anywhere, persistent=not fresh, taken=heard)
            request = headers.copy()
            agent = self._agent(origin.scheme, endpoint, proxy, lease, request)
            try:
                response = await agent.request(method.encode("ascii"), url.encode("ascii"), request, body)
            except Exception as error:
                lease.abort()
                if was_cancelled(error):
                    raise CancelledError() from None
                if lease.reused and isinstance(error, STALE_CONNECTION):
                    continue
                problem = explain(error, str(origin))
                log.debug(
                    "{method} {url}: {problem} (request {request_id})",
                    request_id=request_id,
                    method=method,
                    url=bare(url),
                    problem=problem.message,
                )
                raise problem from error
            lease.answered()
            log.debug(
                "{method} {url}: {status} (request {request_id})",
                request_id=request_id,
                method=method,
                url=bare(url),
                status=response.code,
            )
            return Exchange(url, response, lease)
        raise AssertionError("the last attempt is on a connection of its own")

    def _agent(self, scheme: str, endpoint: Any, proxy: Proxy | None, lease: Lease, headers: Headers) -> Any:
        if proxy is None or scheme == "https":
            pool: Any = lease
            return Agent.usingEndpointFactory(self._reactor, _Always(endpoint), pool)
        if proxy.authorization is not None:
            headers.setRawHeaders("Proxy-Authorization", [proxy.authorization.reveal()])
        return ProxyAgent(_Same(endpoint, proxy), self._reactor, lease)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._pools.links)

    def retire(self) -> None:
        """Close idle connections at once, and each other one with the request that is on it. Idempotent."""
        self._pools.retire()

    def gone(self) -> Deferred[None]:
        """Fires when the connections that are open now are gone."""
        return self._pools.gone()

    def close(self) -> Deferred[None]:
        """Abort all connections. Fires when the last is gone."""
        return self._pools.close()


def _judge(settings: RegistrySettings, origin: Origin) -> bool:
    """Whether a registry's question may be put at any address of an origin; otherwise at a public one.

    @raise Astray: if at none, as far as can be told without resolving the name.
    """
    if reach.trusted(settings, origin.host, origin.port):
        return True
    problem = reach.misleading(settings, origin.host, origin.port)
    if problem is not None:
        raise Astray(problem)
    return False


class _Same:
    """An endpoint that equals any other to the same proxy, so that the pool shares their connections."""

    def __init__(self, endpoint: Any, proxy: Proxy) -> None:
        self._endpoint = endpoint
        self._proxy = proxy

    def connect(self, factory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._proxy == self._proxy

    def __hash__(self) -> int:
        return hash(self._proxy)


def encoded(exchange: Exchange) -> bool:
    """Whether the body is not the content itself but encoded, for all that identity was asked for."""
    encoding = exchange.header("Content-Encoding")
    return encoding is not None and encoding.strip().lower() not in ("", "identity")


def refuse_encoding(exchange: Exchange) -> None:
    """Go no further with an encoded body.

    @raise OriginLied: if it is one (the connection is closed).
    """
    if encoded(exchange):
        exchange.lease.abort()
        where = origin_of(exchange.url)
        raise OriginLied(f"{where} sent an encoded body though identity was asked for; check what is in front of it")
