"""What credential helpers have answered: kept for minutes, asked for once however many wait."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from crcache import events
from crcache.credentials.helper import HelperFailed
from crcache.settings import Credential
from crcache.workers import Workers

log = Logger()

#: Seconds for which an answer is kept: credentials, that there are none, that the helper failed.
KEPT = 300.0
NONE_KEPT = 60.0
FAILURE_KEPT = 30.0
#: Answers that are kept, and questions that may wait: clients can name any registry.
_MOST = 1024
_WAITING = 64
#: Helpers that run at once for registries that clients have made up: fewer than there are threads, so that others'
#: questions wait for none of them.
STRANGERS = 3

#: A helper, and the server that it is asked about.
_Key = tuple[str, str]


@dataclass
class _Answer:
    """@ivar renewed: whether it was asked for since the one before it had been refused."""

    credential: Credential | None
    until: float
    renewed: bool


class Helpers:
    """Asks in threads, and remembers. All methods are called in the reactor thread."""

    def __init__(self, workers: Workers, clock: Any, ask: Callable[[str, str], Credential | None]) -> None:
        """
        @param workers: the threads; as many helpers run at once.
        @param ask: blocks; raises L{HelperFailed}.
        """
        self._workers = workers
        self._clock = clock
        self._ask = ask
        self._answers: OrderedDict[_Key, _Answer] = OrderedDict()
        self._waiting: dict[_Key, list[Deferred[Credential | None]]] = {}
        self._stale: set[_Key] = set()
        self._queue: deque[_Key] = deque()
        self._strangers = 0
        self._outdated: set[_Key] = set()
        self._ended = False

    def ask(self, name: str, server: str, named: bool = False) -> Deferred[Credential | None]:
        """What a helper knows of a server; C{None} also if it fails, which is logged. It never fails itself.

        Cancelling it leaves the helper running: its answer is kept for the next one.

        @param named: whether the administrator has named the server: it waits for none that he has not.
        """
        key = name, server
        answer = self._answers.get(key)
        if answer is not None and self._clock.seconds() < answer.until:
            self._answers.move_to_end(key)
            return succeed(answer.credential)
        if self._ended:
            return succeed(None)
        if key not in self._waiting:
            if not named and len(self._queue) + self._strangers >= _WAITING:
                self._say(name, server, "too many questions wait already")
                return succeed(None)
            self._waiting[key] = []
            if named:
                self._begin(key)
            else:
                self._queue.append(key)
                self._next()
        waiter: Deferred[Credential | None] = Deferred(lambda waiter: self._leave(key, waiter))
        # What is done inline is done by now.
        if key not in self._waiting:
            return succeed(self._answers[key].credential)
        self._waiting[key].append(waiter)
        return waiter

    def refused(self, name: str, server: str, credential: Credential) -> None:
        """What it gave was not taken: it is asked again, once; if that helps nothing, not before its time."""
        key = name, server
        answer = self._answers.get(key)
        if answer is not None and answer.credential == credential and not answer.renewed:
            del self._answers[key]
            self._stale.add(key)

    def forget(self) -> None:
        """Ask anew from now on: the administrator may have changed something."""
        self._answers.clear()
        self._stale.clear()
        # What a helper says that runs already may be what it knew before.
        self._outdated.update(self._waiting)

    def end(self) -> None:
        """Nobody waits any longer: there is nothing to be known."""
        self._ended = True
        self._queue.clear()
        waiting, self._waiting = self._waiting, {}
        for waiters in waiting.values():
            for waiter in waiters:
                waiter.callback(None)

    def _next(self) -> None:
        while self._queue and self._strangers < STRANGERS:
            self._strangers += 1
            self._begin(self._queue.popleft()).addBoth(self._stranger_left)

    def _stranger_left(self, result: Any) -> Any:
        self._strangers -= 1
        self._next()
        return result

    def _begin(self, key: _Key) -> Deferred[None]:
        work = self._workers.run(self._ask, *key)
        return work.addErrback(self._failed, *key).addCallback(self._done, key)

    def _leave(self, key: _Key, waiter: Deferred[Credential | None]) -> None:
        if waiter in self._waiting.get(key, ()):
            self._waiting[key].remove(waiter)

    def _failed(self, failure: Any, name: str, server: str) -> HelperFailed:
        if self._ended:
            return HelperFailed()
        if failure.check(HelperFailed):
            self._say(name, server, str(failure.value))
        else:
            log.failure("a credential helper could not be asked", failure, event=events.INTERNAL_ERROR)
        return HelperFailed()

    def _say(self, name: str, server: str, problem: str) -> None:
        log.warn(
            "docker-credential-{helper} gives no credentials for {server}, which is asked without: {problem}",
            event=events.HELPER_FAILED,
            helper=name,
            server=server,
            problem=problem,
        )

    def _done(self, found: Credential | HelperFailed | None, key: _Key) -> None:
        failed = isinstance(found, HelperFailed)
        credential = None if isinstance(found, HelperFailed) else found
        kept = FAILURE_KEPT if failed else NONE_KEPT if credential is None else KEPT
        until = self._clock.seconds() + (0.0 if key in self._outdated else kept)
        self._answers[key] = _Answer(credential, until, key in self._stale)
        self._outdated.discard(key)
        self._stale.discard(key)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)
        for waiter in self._waiting.pop(key, ()):
            waiter.callback(credential)
