"""Threads for blocking work: bounded pools that exist only between start and stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A pool of at most C{size} threads for one kind of work (disk, hashing, names), so that none starves another.

    No thread is started before L{start}: twistd forks between building the service and starting it.
    """

    def __init__(self, reactor: IReactorFromThreads, size: int, name: str) -> None:
        self._reactor = reactor
        pool: Any = ThreadPool(minthreads=0, maxthreads=size, name=name)
        # A disk that answers no more must not keep the process from ending.
        pool.threadFactory = partial(Thread, daemon=True)
        self.pool: ThreadPool = pool

    def start(self) -> None:
        """Let work begin."""
        self.pool.start()

    def stop(self) -> None:
        """Wait for the work at hand, then end the threads."""
        self.pool.stop()

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call C{work} in a thread; its result or exception arrives in the reactor thread."""
        done: Deferred[T] = deferToThreadPool(self._reactor, self.pool, work, *args, **kwargs)
        return done


class Inline(Workers):
    """Work done at once in the calling thread: for tests, and for the command line, which has no reactor."""

    def __init__(self) -> None:
        """There is nothing to set up."""

    def start(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call C{work} now."""
        return execute(work, *args, **kwargs)
