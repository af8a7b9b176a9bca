"""A site's connections: how many there are, and how they are brought to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.web.peers import Tally

if TYPE_CHECKING:
    from crcache.web.channel import Channel

log = Logger()

#: Seconds that an idle connection stays open after all: a request may have come that nobody has read yet.
SETTLE = 0.05

#: Seconds in which the first request of a fresh connection, or the rest of one that has begun to come, is waited for.
FRESH = 1.0

#: Seconds for what has been answered in full to leave the process before it, too, is broken off.
FLUSH = 0.25


class Connections:
    """All connections of one site.

    Clients send a request again, without a word to anybody, if it was put on a connection that had served before and
    that ended before any byte of the answer; Go does so, and with it containerd, Docker and podman. So to end idle
    connections loses nothing; what is on its first request, though, gets its answer.

    @ivar draining: whether every answer is its connection's last.
    """

    def __init__(self, clock: Any, tally: Tally) -> None:
        """
        @param clock: the reactor's time.
        @param tally: where they are counted, too.
        """
        self._tally = tally
        self.draining = False
        self._clock = clock
        self._timers: dict[Channel, Any] = {}
        self._deadline: Any = None
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._timers)

    @property
    def busy(self) -> int:
        """How many requests are being answered."""
        return sum(channel.busy for channel in self._timers)

    def add(self, channel: Channel) -> None:
        """A connection was made."""
        self._timers[channel] = None
        self._tally.add(channel.peer)
        if self.draining:
            self._see_off(channel)

    def remove(self, channel: Channel) -> None:
        """A connection is gone."""
        if channel in self._timers:
            _cancel(self._timers.pop(channel))
            self._tally.remove(channel.peer)
        self._tell()

    def drain(self, seconds: float) -> Deferred[None]:
        """As L{crcache.web.site.Site.drain}."""
        if not self.draining:
            self.draining = True
            for channel in self._timers:
                self._see_off(channel)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if self._timers:
            self._by(self._clock.seconds() + max(seconds, 0), self._break_off)
        self._tell()
        return done

    def _see_off(self, channel: Channel) -> None:
        channel.last_answer()
        self._timers[channel] = self._clock.callLater(SETTLE if channel.idle else FRESH, channel.leave)

    def _by(self, time: float, do: Callable[[], None]) -> None:
        if self._deadline is not None and self._deadline.active():
            if self._deadline.getTime() <= time:
                return
            self._deadline.cancel()
        self._deadline = self._clock.callLater(max(time - self._clock.seconds(), 0), do)

    def _break_off(self) -> None:
        """The time is up. What has not been written to its end is cut short, so that nobody takes it for whole."""
        cut = self.busy
        if cut:
            told = "{count} answers are broken off; clients that resume get the rest elsewhere"
            log.warn(told, event=events.BROKEN_OFF, count=cut)
        for channel in tuple(self._timers):
            channel.give_up()
        if self._timers:
            self._by(self._clock.seconds() + FLUSH, self._cut)

    def _cut(self) -> None:
        for channel in tuple(self._timers):
            channel.cut()

    def _tell(self) -> None:
        if not self._waiting or self._timers:
            return
        _cancel(self._deadline)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)


def _cancel(timer: Any) -> None:
    if timer is not None and timer.active():
        timer.cancel()
