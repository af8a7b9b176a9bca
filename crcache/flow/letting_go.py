"""A client that takes nothing of what is there for it is let go."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from crcache import events
from crcache.flow.ending import give_up

log = Logger()

#: Seconds for which a client may take nothing.
PATIENCE = 300.0
#: How often within that time it is looked for.
_LOOKS = 5


class LetGo:
    """Looks now and then whether an answer goes on, and ends it if its client alone is what it waits for."""

    def __init__(self, clock: IReactorTime, request: Request, given: Callable[[], int | None]) -> None:
        """
        @param given: how many bytes have been given to the client's connection; C{None} while there are no others.
        """
        self._clock = clock
        self._request = request
        self._given = given
        self._taken: int | None = None
        self._looks = 0
        self._next: IDelayedCall | None = None
        self._later()

    def stop(self) -> None:
        """It is over. Idempotent; nobody is held alive by this object any more."""
        self._given = _nothing
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _later(self) -> None:
        self._next = self._clock.callLater(PATIENCE / _LOOKS, self._look)

    def _look(self) -> None:
        self._next = None
        given = self._given()
        taken = None if given is None else given - _waiting(self._request)
        self._looks = self._looks + 1 if taken is not None and taken == self._taken else 0
        self._taken = taken
        if self._looks < _LOOKS:
            self._later()
            return
        log.info(
            "a client has taken nothing for {patience:g} s; it is let go (request {request_id})",
            event=events.CLIENT_LET_GO,
            patience=PATIENCE,
            request_id=request_id_of(self._request),
        )
        give_up(self._request)


def _nothing() -> None:
    """What is given to a client whose answer is over."""


def request_id_of(request: Request) -> str:
    """What a request is called in the log: as its answer's head says."""
    return str(request.responseHeaders.getRawHeaders("X-Request-Id", ["-"])[0])


def _waiting(request: Request) -> int:
    """Bytes in the system's own buffer that the client's system has not acknowledged."""
    transport: Any = getattr(request.channel, "transport", None)
    try:
        handle = getattr(transport, "transport", transport).getHandle()
        found = fcntl.ioctl(handle.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError):
        return 0
    return int(struct.unpack("i", found)[0])
