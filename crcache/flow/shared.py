"""A piece of work that several ask for at once is done once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crcache.facts import Crowd, Query

T = TypeVar("T")


class Shared(Generic[T]):
    """Work now being done, by key. Whoever asks while it is done waits for the same result."""

    def __init__(self) -> None:
        self._running: dict[Hashable, list[Deferred[T]]] = {}
        self._crowds: dict[Hashable, Crowd] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._running

    def join(
        self, key: Hashable, work: Callable[[], Coroutine[Deferred[Any], Any, T]], query: Query | None = None
    ) -> Deferred[T]:
        """The result of the work under this key, begun now if it is not being done.

        Cancelling what this returns leaves the work, and those who also wait for it, alone.

        @param query: what the work would ask: of that which is being done, the crowd learns for whom besides.
        """
        waiting: Deferred[T] = Deferred()
        waiters = self._running.get(key)
        if waiters is not None:
            waiters.append(waiting)
            if query is not None and key in self._crowds:
                self._crowds[key].join(query.peer)
            return waiting
        waiters = self._running[key] = [waiting]
        if query is not None and query.crowd is not None:
            self._crowds[key] = query.crowd

        def ended(result: T | Failure) -> None:
            del self._running[key]
            self._crowds.pop(key, None)
            for each in waiters:
                # One who has cancelled has been called already, and takes a second result silently.
                if isinstance(result, Failure):
                    each.errback(result)
                else:
                    each.callback(result)

        Deferred.fromCoroutine(work()).addBoth(ended)
        return waiting
