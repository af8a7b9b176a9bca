"""Work that many wait for, and memory that does not grow for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Shared(Generic[T]):
    """One piece of work and everyone who waits for it. When the last of them has gone, it is cancelled.

    @ivar over: whether the result is there.
    """

    def __init__(self, work: Deferred[T]) -> None:
        self._work = work
        self._waiting: list[Deferred[T]] = []
        self.over = False
        self._result: Any = None
        work.addBoth(self._finish)

    def join(self) -> Deferred[T]:
        """The result, when it is there. Cancelling this leaves the others alone."""
        waiter: Deferred[T] = Deferred(self._leave)
        if self.over:
            waiter.callback(self._result)
        else:
            self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[T]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting:
            self._work.cancel()

    def _finish(self, result: Any) -> None:
        self.over = True
        self._result = result
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(result)


class Recent(Generic[K, T]):
    """A dictionary that forgets what has not been looked at for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, T] = OrderedDict()

    def get(self, key: K) -> T | None:
        """The value, or C{None}."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: K, value: T) -> None:
        """Keep a value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget a value. Idempotent."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
