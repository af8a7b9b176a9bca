"""One client being sent a file, perhaps a growing one, with sendfile."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from twisted.web.http import HTTPChannel
from twisted.web.server import Request
from zope.interface import implementer

from crcache import events
from crcache.errors import CrcacheError
from crcache.flow.carry import Carry, Means
from crcache.flow.ending import end_short, reset
from crcache.flow.letting_go import LetGo, request_id_of
from crcache.flow.window import Window
from crcache.interfaces import IWatcher

log = Logger()

#: Bytes offered to the socket at one event, so that many clients have their turns.
WINDOW = 1 << 20

#: What a socket fails with. All else is the file's.
_CLIENTS = frozenset(
    {
        errno.EBADF,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
    }
)


@implementer(IPullProducer, IWatcher)
class FileSend:
    """Sends a window of a body from its descriptor straight to a TCP or UNIX socket.

    It takes the place of the HTTP channel as the producer of the transport itself. Registered there as a pull producer
    it is called whenever the transport's own buffer (with the answer's head in it) is empty in a writable event; it
    asks for the next such event only when there is something to send, so a waiting one costs nothing.
    """

    def __init__(self, request: Request, transport: Any, window: Window, means: Means, carry: Carry) -> None:
        """
        @param transport: the channel's transport, as L{plain_socket} found it.
        @param carry: goes on when the file gives no more.
        """
        self._request = request
        self._channel: HTTPChannel = request.channel
        self._transport = transport
        self._socket: socket.socket = transport.getHandle()
        self._window = window
        self._reading = means.reading
        self._clock = means.clock
        self._carry = carry
        self._let_go: LetGo | None = None
        self._probing = True
        self._in_memory_to = 0
        self._registering = False
        self._waiting = False
        self._loading = False
        self._over = False
        self._done: Deferred[int] = Deferred()

    def start(self) -> Deferred[int]:
        """Write the head, then the body; fires with the number of body bytes sent once it is over."""
        self._window.body.watch(self, self._window.span)
        self._request.write(b"")
        self._transport.unregisterProducer()
        self._registering = True
        self._transport.registerProducer(self, False)
        self._registering = False
        self._let_go = LetGo(self._clock, self._request, self._given)
        return self._done

    def _given(self) -> int | None:
        return None if self._waiting or self._loading else self._window.offset

    # IPullProducer

    def resumeProducing(self) -> None:
        """As L{IPullProducer}: the socket can take more."""
        if self._registering or self._over or self._loading:
            return
        try:
            self._produce()
        except OSError as error:
            if isinstance(error, ConnectionError) or error.errno in _CLIENTS:
                # The transport notices it as well.
                told, request_id = "sending broke off: {error} (request {request_id})", request_id_of(self._request)
                log.debug(told, error=error.strerror, request_id=request_id)
                self._end_short()
            else:
                self._leave_file(self._carry.unreadable(error, error.strerror))
        except Exception:
            log.failure(
                "sending broke off (request {request_id})",
                event=events.INTERNAL_ERROR,
                request_id=request_id_of(self._request),
            )
            self._end_short()

    def stopProducing(self) -> None:
        """As L{IPullProducer}: the connection is gone."""
        self._end()

    # IWatcher

    def moved(self) -> None:
        """As L{IWatcher}."""
        if self._waiting and not self._over and (self._window.failed or self._window.limit() > self._window.offset):
            self._waiting = False
            self._transport.startWriting()

    def _produce(self) -> None:
        window = self._window
        if window.finished:
            self._finish()
            return
        if window.wrong:
            self._reset()
            return
        if window.torn:
            self._leave_file(self._carry.cut_short("a cached file was cut while it was sent"))
            return
        end = min(window.limit(), window.offset + WINDOW)
        if window.offset < self._in_memory_to:
            end = min(end, self._in_memory_to)
        if end <= window.offset:
            if window.failed:
                self._leave_file(window.problem)
            else:
                self._waiting = True
            return
        if not self._in_memory(end - 1):
            self._load(end)
            return
        try:
            sent = os.sendfile(self._socket.fileno(), window.fd, window.offset, end - window.offset)
        except BlockingIOError:
            sent = -1
        if sent == 0:
            self._leave_file(self._carry.cut_short(f"a cached file ends at byte {window.offset}, before its time"))
            return
        window.offset += max(sent, 0)
        if sent > 0 and (window.wrong or window.torn):
            # Meanwhile, or else it would have been seen before.
            self._reset()
            return
        if window.finished:
            self._finish()
        else:
            self._transport.startWriting()

    def _in_memory(self, at: int) -> bool:
        """Whether the window's last byte can be had without waiting for a disk."""
        if not self._probing or at < self._in_memory_to:
            return True
        try:
            os.preadv(self._window.fd, [bytearray(1)], at, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # Not every file system can tell; those that keep everything in memory among them.
            self._probing = False
        return True

    def _load(self, end: int) -> None:
        self._loading = True
        self._in_memory_to = end
        self._reading.run(self._window.read_in, end).addBoth(self._loaded)

    def _loaded(self, _: object) -> None:
        # If reading failed, sendfile will say so too.
        self._loading = False
        if self._over:
            self._window.close()
        else:
            self._transport.startWriting()

    def _finish(self) -> None:
        self._give_back()
        self._over_now()
        self._window.close()
        self._request.finish()
        self._done.callback(self._window.sent)

    def _give_back(self) -> None:
        """Have the channel in its place again."""
        self._transport.unregisterProducer()
        self._transport.registerProducer(self._channel, True)
        # It may have been paused for an earlier answer, and the transport told us in its stead that it is empty again.
        self._channel.resumeProducing()

    def _reset(self) -> None:
        reset(self._request)
        self._end()

    def _leave_file(self, problem: CrcacheError | None) -> None:
        """The file gives no more, for this reason."""
        if problem is None or not self._carry.can(problem):
            self._carry.end(problem)
            self._end()
            return
        self._give_back()
        sent = self._window.sent
        self._over = True
        self._carry.start(problem, slow=False).addCallback(lambda more: sent + more).chainDeferred(self._done)
        self._over_now()

    def _end_short(self) -> None:
        end_short(self._request)
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over_now()
            if not self._loading:
                self._window.close()
            self._done.callback(self._window.sent)

    def _over_now(self) -> None:
        self._over = True
        self._window.body.unwatch(self)
        if self._let_go is not None:
            self._let_go.stop()


def plain_socket(request: Request) -> Any | None:
    """The transport of a request whose bytes go to a socket unchanged, or C{None} (TLS, or something wrapped)."""
    transport = request.channel.transport
    handle = getattr(transport, "getHandle", None)
    if handle is None or not isinstance(handle(), socket.socket):
        return None
    return transport if hasattr(transport, "startWriting") and hasattr(transport, "registerProducer") else None
