"""What the daemon does now, in one line: for `systemctl status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def serving(addresses: Sequence[str], clients: int, counters: Mapping[str, int]) -> str:
    """While it serves.

    @param clients: connections that are open.
    @param counters: as L{crcache.insight.metrics.Meter.summary}.
    """
    return (
        f"serving on {', '.join(addresses)}; {_count(counters['fills'], 'fill')}, {_count(clients, 'client')};"
        f" {size(counters['sent_bytes'])} sent"
    )


def waiting(reason: str) -> str:
    """While the cache directory is not there."""
    return f"waiting for {reason}"


def draining(requests: int) -> str:
    """While it stops."""
    return f"draining: {_count(requests, 'request')} left"


def size(count: int) -> str:
    """Bytes as people read them: C{1.2 GiB}."""
    value, unit = float(count), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
