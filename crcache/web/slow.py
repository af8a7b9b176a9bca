"""Clients that take too long over a request's head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger

from crcache import events

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from crcache.web.channel import Channel

log = Logger()

#: Seconds for a request's head from its first byte on, and for the first one of a connection from when that was made:
#: a handshake of TLS is part of it.
HEAD = 20.0


class HeadWatch:
    """Ends one connection, if the head that is awaited there does not come in time, however busily it comes.

    Between requests, when nothing of the next has come, nothing is awaited: how long that may last is no matter of
    this.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._timer: IDelayedCall | None = None

    def look(self, awaited: bool) -> None:
        """Whether a head is awaited now: after each change of that."""
        if awaited and self._timer is None:
            self._timer = self._channel.callLater(HEAD, self._late)
        elif not awaited:
            self.stop()

    def stop(self) -> None:
        """Nothing is awaited any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        channel: Any = self._channel
        client = getattr(channel.getPeer(), "host", "-")
        if channel.silent and not _in_handshake(channel):
            # Go, and with it containerd, Docker and podman, opens some ahead that it turns out not to need.
            log.debug("{client} has not said anything; its connection is closed", client=client)
        else:
            log.info(
                "{client} has not sent a request within {seconds:g} s; its connection is closed",
                event=events.CLIENT_SLOW,
                client=client,
                seconds=HEAD,
            )
            channel.site.admission.refused("slow")
        cast(ITCPTransport, channel.transport).abortConnection()


def _in_handshake(channel: Any) -> bool:
    return bool(channel.isSecure()) and channel.transport.getHandle().get_peer_finished() is None
