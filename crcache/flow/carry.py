"""One client's answer, carried on from the origin when its file gives no more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from crcache import events
from crcache.errors import CrcacheError, GivenUp, StoreError
from crcache.facts import Verdict
from crcache.flow.ending import end_short, reset
from crcache.flow.lasting import Lasting
from crcache.flow.letting_go import request_id_of
from crcache.flow.relay import Relay
from crcache.flow.window import Window
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer
from crcache.sending import IRest
from crcache.workers import Workers

log = Logger()

_BUFFER = 1 << 20
#: How files fail that will not be better the next time.
_DAMAGES = frozenset(
    {errno.EIO, errno.ESTALE, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO}
)


@dataclass(frozen=True)
class Means:
    """What sends work with. Handed down from the composition root.

    @ivar reading: threads that read files.
    @ivar hashing: threads that hash.
    @ivar retry: how many seconds to wait after so many failures in a row without progress; C{None} to give up.
    """

    reading: Workers
    hashing: Workers
    clock: IReactorTime
    retry: Callable[[int], float | None]

    def lasting(
        self, request: Request, rest: IRest, start: int, stop: int | None, answer: IAnswer | None = None
    ) -> Lasting:
        """An origin's body that is asked for again where it breaks off."""
        return Lasting(rest, start, stop, self.clock, self.retry, request_id_of(request), answer)


class Carry:
    """Takes an answer over in the middle of its body: the client gets the rest as a relay, from where it is."""

    def __init__(self, request: Request, window: Window, rest: IRest | None, means: Means) -> None:
        self._request = request
        self._window = window
        self._rest = rest
        self._means = means

    def can(self, problem: CrcacheError | None) -> bool:
        """Whether the rest may be had from the origin, in spite of this: the disk's problem is not the client's."""
        # What another process gave up may be wrong, and only the digest tells.
        known = isinstance(problem, StoreError) or (isinstance(problem, GivenUp) and self._window.held)
        return known and self._rest is not None

    def end(self, problem: CrcacheError | None) -> None:
        """End an answer that L{can} not go on."""
        if isinstance(problem, GivenUp):
            reset(self._request)
        else:
            end_short(self._request)

    def start(self, problem: CrcacheError, slow: bool) -> Deferred[int]:
        """Go on. The request must have no producer; the window is this object's from now on.

        @param slow: whether the client takes nothing just now.
        @return: fires with the number of body bytes written from now on, once the answer is over.
        """
        rest, window = self._rest, self._window
        assert rest is not None
        log.warn(
            "sending {digest} goes on without the cache: {problem} (request {request_id})",
            event=events.CARRIED_ON,
            digest=str(rest.digest),
            problem=problem.message,
            request_id=request_id_of(self._request),
        )
        return Deferred.fromCoroutine(self._go_on(rest, window, slow))

    def cut_short(self, told: str) -> StoreError:
        """The file has become shorter, as these words say. They are logged, and what is committed is dropped."""
        log.error(
            "{problem} (request {request_id})",
            event=events.CONTENT_DAMAGED,
            problem=told,
            request_id=request_id_of(self._request),
            **({} if self._rest is None else {"digest": str(self._rest.digest)}),
        )
        self.damaged()
        return StoreError(told)

    def unreadable(self, error: BaseException | None, why: object) -> StoreError:
        """The file cannot be read, as C{why} says. That is logged; what is committed is dropped, if it is to blame."""
        told = f"a cached file cannot be read: {why}"
        log.error(
            "{problem} (request {request_id})",
            event=events.CACHE_FAILED,
            problem=told,
            request_id=request_id_of(self._request),
        )
        self.damaged(error)
        return StoreError(told)

    def damaged(self, error: BaseException | None = None) -> None:
        """The file gives less than it should. What is committed so is dropped; a fill's owner notices by itself.

        @param error: why it cannot be read; C{None} if it ends too soon. Of the machine's troubles it is innocent.
        """
        innocent = error is not None and getattr(error, "errno", None) not in _DAMAGES
        if self._rest is not None and self._window.body.verdict is Verdict.VERIFIED and not innocent:
            self._rest.damaged(self._window.body)

    async def _go_on(self, rest: IRest, window: Window, slow: bool) -> int:
        request, left = self._request, Event()
        request.notifyFinish().addErrback(lambda _: left.set())
        hasher = None
        try:
            if window.held:
                hasher = await self._hash_before(rest.digest, window, left)
        except (StoreError, OSError) as problem:
            log.info(
                "the rest of {digest} cannot be checked: {problem} (request {request_id})",
                event=events.RELAY_BROKEN,
                digest=str(rest.digest),
                problem=str(problem),
                request_id=request_id_of(request),
            )
            end_short(request)
            return 0
        finally:
            window.close()
        if left.is_set():
            return 0
        answer = self._means.lasting(request, rest, *window.span)
        digest = rest.digest if window.held else None
        relay = Relay(request, answer, digest, self._means.hashing, self._means.clock)
        return await relay.go_on(hasher, slow)

    async def _hash_before(self, digest: Digest, window: Window, left: Event) -> Any:
        """The state of a hasher that has seen all before what is still to be sent.

        @raise StoreError: if that is not to be had.
        @raise OSError: as preadv(2).
        """
        if not window.unbroken:
            raise StoreError("what comes before the range is not there")
        return await self._means.hashing.run(_hash, digest, window.fd, window.offset, left)


def _hash(digest: Digest, fd: int, end: int, left: Event) -> Any:
    """Blocking: for a worker thread. Nobody waits for it once C{left} is set."""
    hasher, at = digest.hasher(), 0
    buffer = memoryview(bytearray(_BUFFER))
    while at < end and not left.is_set():
        count = os.preadv(fd, [buffer[: end - at]], at)
        if not count:
            raise StoreError(f"the file ends at byte {at}, before what was sent of it")
        hasher.update(buffer[:count])
        at += count
    return hasher
