"""Tests that are coroutines, on every Twisted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Server
from twisted.trial.unittest import TestCase

#: The reactor: which of its interfaces it has is not known before it runs.
reactor: Any = cast(Any, _reactor)


class AsyncTestCase(TestCase):
    """A test case whose C{async def test_…} methods are run.

    Trial before 22.8 would call them, await nothing, and report success.
    """

    timeout = 10

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(method):
                setattr(cls, name, _started(method))


def _started(method: Callable[..., Coroutine[Deferred[object], object, None]]) -> Callable[..., Deferred[None]]:
    @functools.wraps(method)
    def start(self: AsyncTestCase) -> Deferred[None]:
        return Deferred.fromCoroutine(method(self))

    return start


def pause(seconds: float) -> Deferred[None]:
    """A moment."""
    deferred: Deferred[None] = Deferred()
    reactor.callLater(seconds, deferred.callback, None)
    return deferred


async def quiet() -> None:
    """Wait until this process' listeners have no connection left, at most a few seconds."""
    for _ in range(500):
        if not any(isinstance(reader, Server) for reader in (*reactor.getReaders(), *reactor.getWriters())):
            return
        await pause(0.01)
