"""Who clients are to us, and how much each of them may have at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from twisted.logger import Logger

from crcache import events

log = Logger()

#: Bits of an IPv6 address that one customer has: the rest is his to choose.
_PREFIX = 64


def peer_of(address: object) -> str:
    """What a client is counted under: its IPv4 address, or the /64 of its IPv6 address; empty if it has neither.

    An IPv4 address is itself also where it comes mapped into IPv6, as on a socket for both.
    """
    host = getattr(address, "host", None)
    try:
        found = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _PREFIX), strict=False))


class Tally:
    """So many things of each peer, and of all. Of an empty peer (a UNIX socket's) only all are counted.

    @ivar total: of all.
    """

    def __init__(self) -> None:
        self.total = 0
        self._each: dict[str, int] = {}

    def __len__(self) -> int:
        """Of how many peers there are any."""
        return len(self._each)

    def of(self, peer: str) -> int:
        """How many of this peer."""
        return self._each.get(peer, 0)

    def add(self, peer: str) -> None:
        """One more."""
        self.total += 1
        if peer:
            self._each[peer] = self._each.get(peer, 0) + 1

    def remove(self, peer: str) -> None:
        """One fewer."""
        self.total -= 1
        if peer:
            self._each[peer] -= 1
            if not self._each[peer]:
                del self._each[peer]


class Admission:
    """Says of each connection whether there is room for it. What there are it is told.

    @ivar tally: the connections that there are.
    """

    def __init__(
        self,
        most: Callable[[], int],
        most_each: Callable[[], int],
        refused: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """
        @param most: so many connections there may be.
        @param most_each: and of one peer.
        @param refused: called with the reason, one of a few words, for each connection that is not let live.
        """
        self.tally = Tally()
        self.refused = refused
        self._most = most
        self._most_each = most_each

    def admits(self, peer: str) -> bool:
        """Whether there is room for one more of this peer. If not, that has been told."""
        most, each = self._most(), self._most_each()
        if self.tally.total >= most:
            log.warn(
                "there are {count} connections: no more are taken for now (limits.connections, and descriptors)",
                event=events.CONNECTIONS_REFUSED,
                count=self.tally.total,
            )
            self.refused("connections")
            return False
        if peer and self.tally.of(peer) >= each:
            log.warn(
                "{client} has {count} connections: no more are taken from there for now (limits.connections-per-peer)",
                event=events.CONNECTIONS_REFUSED,
                client=peer,
                count=self.tally.of(peer),
            )
            self.refused("connections-per-peer")
            return False
        return True


def unlimited() -> Admission:
    """For listeners that nobody but their owner reaches."""
    return Admission(lambda: 1 << 62, lambda: 1 << 62)
