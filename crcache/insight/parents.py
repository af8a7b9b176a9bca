"""What parents are asked, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter

from crcache.insight.metrics import Meter, kind_label, status_label


class ParentMeter:
    """Counts beside the other metrics. Only the configuration names parents, so no client can multiply the labels."""

    def __init__(self, meter: Meter) -> None:
        collectors = meter.collectors
        self._requests = Counter(
            "crcache_parent_requests", "Requests put to parents.", ("parent", "kind", "status"), registry=collectors
        )
        self._received = Counter(
            "crcache_parent_bytes", "Bytes of bodies received from parents.", ("parent",), registry=collectors
        )

    def asked(self, parent: str, kind: str, status: int | None) -> None:
        """A parent has been asked; status C{None}: there was no answer."""
        self._requests.labels(parent, kind_label(kind), "none" if status is None else status_label(status)).inc()

    def received(self, parent: str, count: int) -> None:
        """Bytes of bodies came from a parent."""
        self._received.labels(parent).inc(count)
