"""Connections kept for the next request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool, ResponseNeverReceived

from crcache.upstream.link import Link
from crcache.upstream.proxy import Proxy
from crcache.upstream.trust import Trust

_IDLE = 60


class Lease:
    """What one request sees of the pool: it gets its connection here, and can let go of that one.

    It takes the place of an C{HTTPConnectionPool} towards C{Agent}.

    @ivar reused: whether the connection had carried a request before.
    """

    def __init__(self, pool: HTTPConnectionPool, pools: Pools, taken: Callable[[], object]) -> None:
        """
        @param taken: called when there is a connection.
        """
        self._pool = pool
        self._pools = pools
        self._taken = taken
        self.persistent: bool = pool.persistent
        self.link: Link | None = None
        self.reused = False

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        """The HTTP client on an idle connection, or on a new one."""
        got: Deferred[Any] = self._pool.getConnection(key, endpoint)
        return got.addCallback(self._take)

    def _take(self, http: Any) -> Any:
        link = self._pools.links.get(http)
        if link is None:
            self.reused = True
            raise ResponseNeverReceived([Failure(ConnectionLost())])
        self.link = link
        self.reused = link.uses > 0
        link.use(self)
        link.last = self._pools.retired
        self._taken()
        return http

    def answered(self) -> None:
        """The head of the answer has come."""
        if self.link is not None and self.link.user is self:
            self.link.answered()

    @property
    def ended(self) -> bool:
        """Whether the connection has been given back, or lost."""
        link = self.link
        return link is None or link.user is not self or link.idle or link.lost is not None

    @property
    def clean(self) -> bool:
        """Whether the connection was closed in an orderly way, as far as it has been closed."""
        return self.link is None or self.link.lost is None or self.link.lost.check(ConnectionDone) is not None

    def abort(self) -> None:
        """Close the connection at once, unless the answer is complete. Idempotent."""
        if not self.ended and self.link is not None:
            self.link.abort()


class Pools:
    """A pool for every way of trusting, every proxy, and whether only public addresses are connected to: connections
    are shared only within one.

    @ivar links: the open connections, by the HTTP client on top.
    @ivar retired: whether none is kept any more.
    """

    def __init__(self, reactor: Any, links: dict[Any, Link], per_origin: int) -> None:
        """
        @param per_origin: how many idle connections to one origin are kept.
        """
        self._reactor = reactor
        self.links = links
        self.retired = False
        self._per_origin = per_origin
        self._pools: dict[tuple[Trust, Proxy | None, bool], HTTPConnectionPool] = {}

    def lease(
        self,
        trust: Trust,
        proxy: Proxy | None,
        anywhere: bool,
        persistent: bool = True,
        taken: Callable[[], object] = lambda: None,
    ) -> Lease:
        """For one request. Not persistent: on a connection of its own, which is closed after it.

        @param anywhere: whether it may be to any address, not only to a public one.
        @param taken: called when there is a connection.
        """
        if not persistent or self.retired:
            return Lease(HTTPConnectionPool(self._reactor, persistent=False), self, taken)
        pool = self._pools.get((trust, proxy, anywhere))
        if pool is None:
            pool = self._pools[trust, proxy, anywhere] = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = self._per_origin
            pool.cachedConnectionTimeout = _IDLE
            # Only whoever asked can tell whether its request may be repeated.
            pool.retryAutomatically = False
        return Lease(pool, self, taken)

    def retire(self) -> None:
        """Close what is idle now, and keep nothing any more: each connection ends with the request that is on it.

        Idempotent.
        """
        self.retired = True
        # One that has not been used yet is being opened for somebody.
        idle = [link for link in self.links.values() if link.idle and link.uses]
        for link in self.links.values():
            link.last = True
            link.closed().addCallback(lambda _: self._forget())
        self._forget()
        for link in idle:
            link.abort()

    def _forget(self) -> None:
        """Twisted's pools keep a timer for each connection that has been put back, open or not."""
        for pool in self._pools.values():
            pool.closeCachedConnections()

    def gone(self) -> Deferred[None]:
        """Fires when the connections that are open now are gone."""
        done: Deferred[Any] = gatherResults([link.closed() for link in self.links.values()])
        return done.addCallback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Abort all connections, idle or not. Fires when the last is gone."""
        waiting = [link.closed() for link in self.links.values()]
        waiting.extend(pool.closeCachedConnections() for pool in self._pools.values())
        self._pools.clear()
        for link in list(self.links.values()):
            link.abort()
        done: Deferred[Any] = gatherResults(waiting)
        return done.addCallback(lambda _: None)
