"""Counters for Prometheus, with labels that no client can multiply."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import twisted
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from zope.interface import implementer

from crcache import __version__
from crcache.grammar.reference import Registry
from crcache.insight.bucket import BucketCollector
from crcache.interfaces import IMeter

#: Bounds of the histogram of times to the first byte, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)

_KINDS = frozenset({"ping", "manifest", "blob", "tags", "referrers", "token"})
_CACHES = frozenset({"hit", "miss", "collapsed", "stale", "bypass"})
_STATUSES = {int(status): str(int(status)) for status in HTTPStatus} | {499: "499"}


@implementer(IMeter)
class Meter:
    """Counts into a collector registry of its own.

    @ivar collectors: what `/metrics` shows; others may register their collectors here too.
    """

    def __init__(self, named: Iterable[Registry]) -> None:
        """
        @param named: the registries that are counted under their own names; all others are C{other}.
        """
        self.collectors = CollectorRegistry(auto_describe=True)
        self._named = {registry: str(registry) for registry in named}
        ProcessCollector(registry=self.collectors)
        info = Info("crcache", "What is running.", registry=self.collectors)
        info.info({"version": __version__, "twisted": twisted.__version__, "python": platform.python_version()})
        self._requests = _Counters(
            self, "crcache_requests", "Requests answered.", ("registry", "kind", "status", "cache")
        )
        self._sent = _Counters(self, "crcache_sent_bytes", "Bytes of bodies sent to clients.", ("registry", "cache"))
        self._received = _Counters(
            self, "crcache_upstream_bytes", "Bytes of bodies received from origins.", ("registry",)
        )
        self._asked = _Counters(
            self, "crcache_upstream_requests", "Requests put to origins.", ("registry", "kind", "status")
        )
        self._resumed = _Counters(
            self, "crcache_upstream_resumes", "Fills that went on after their upstream broke off.", ("registry",)
        )
        self._fills = Gauge("crcache_fills", "Fills running now.", registry=self.collectors)
        self._followers = Gauge(
            "crcache_followers",
            "Clients being sent a body that still grows, beyond the first of each.",
            registry=self.collectors,
        )
        self._first_byte = Histogram(
            "crcache_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its answer.",
            ("cache",),
            buckets=BUCKETS,
            registry=self.collectors,
        )
        self._waits: dict[str, Histogram] = {}
        self._content = Gauge(
            "crcache_cache_bytes",
            "Bytes of content in the cache directory, of all who use it; NaN until they have been counted.",
            registry=self.collectors,
        )
        self._room = Gauge(
            "crcache_cache_max_bytes",
            "Bytes that there may be, by cache.max-size and cache.min-free; NaN until content has been counted.",
            registry=self.collectors,
        )
        self._evicted = Counter(
            "crcache_evicted_bytes",
            "Bytes of content removed to make room; damaged content that is dropped does not count.",
            registry=self.collectors,
        )
        self._connections = Gauge("crcache_connections", "Connections of clients.", registry=self.collectors)
        self._in_flight = Gauge(
            "crcache_requests_in_flight", "Requests of clients being answered.", registry=self.collectors
        )
        self._refused = Counter(
            "crcache_refused_connections",
            "Connections of clients that were closed: there were too many, or no request came in time.",
            ("reason",),
            registry=self.collectors,
        )
        self._draining = Gauge("crcache_draining", "1 once it has been told to stop.", registry=self.collectors)
        self._bucket = BucketCollector()
        self.collectors.register(self._bucket)
        for gauge in (self._content, self._room):
            gauge.set(math.nan)
        self._rate_limit = Gauge(
            "crcache_upstream_rate_limit_remaining",
            "What origins last said is left of their pull limit.",
            ("registry",),
            registry=self.collectors,
        )

    def name(self, further: Iterable[Registry]) -> None:
        """Count these under their own names from now on, beside those that had been named before."""
        self._named.update((registry, str(registry)) for registry in further)

    def watch_cache(self, content: Callable[[], int | None], room: Callable[[], int | None]) -> None:
        """Show the cache's bytes, and how many there could be, as these say at the moment; C{None}: nobody knows."""
        self._content.set_function(lambda: _known(content()))
        self._room.set_function(lambda: _known(room()))

    def watch_clients(
        self, connections: Callable[[], int], busy: Callable[[], int], draining: Callable[[], bool]
    ) -> None:
        """Show clients' connections, those of them on which a request is being answered, and whether it all ends."""
        self._connections.set_function(connections)
        self._in_flight.set_function(busy)
        self._draining.set_function(draining)

    def watch_bucket(self, state: Callable[[], Mapping[str, object] | None]) -> None:
        """Show what this says of the bucket at the moment; C{None}: there is none."""
        self._bucket.state = lambda: state() or {}

    def refused(self, reason: str) -> None:
        """A client's connection was closed. C{reason}: one of a few words."""
        self._refused.labels(reason).inc()

    def evicted(self, count: int) -> None:
        """So many bytes of content were removed to make room. Dropping what is damaged is no eviction."""
        self._evicted.inc(max(count, 0))

    def answered(self, registry: Registry | None, kind: str, status: int, cache: str, seconds: float | None) -> None:
        """As L{IMeter.answered}."""
        cache = cache if cache in _CACHES else "none"
        self._requests.add(1, self._name(registry), kind_label(kind), status_label(status), cache)
        if seconds is not None:
            wait = self._waits.get(cache)
            if wait is None:
                wait = self._waits[cache] = self._first_byte.labels(cache)
            wait.observe(seconds)

    def sent(self, registry: Registry | None, cache: str, count: int) -> None:
        """As L{IMeter.sent}."""
        self._sent.add(count, self._name(registry), cache if cache in _CACHES else "none")

    def asked(self, registry: Registry, kind: str, status: int | None) -> None:
        """As L{IMeter.asked}."""
        self._asked.add(1, self._name(registry), kind_label(kind), "none" if status is None else status_label(status))

    def received(self, registry: Registry, count: int) -> None:
        """As L{IMeter.received}."""
        self._received.add(count, self._name(registry))

    def resumed(self, registry: Registry) -> None:
        """As L{IMeter.resumed}."""
        self._resumed.add(1, self._name(registry))

    def filling(self, change: int) -> None:
        """As L{IMeter.filling}."""
        self._fills.inc(change)

    def following(self, change: int) -> None:
        """As L{IMeter.following}."""
        self._followers.inc(change)

    def rate_limit(self, registry: Registry, remaining: int) -> None:
        """As L{IMeter.rate_limit}. Of registries that are not named, the last to speak is seen."""
        self._rate_limit.labels(self._name(registry)).set(remaining)

    def summary(self) -> Mapping[str, int]:
        """The sums over all labels, for people: name without prefix → value."""
        return {
            "requests": self._requests.total(),
            "sent_bytes": self._sent.total(),
            "upstream_bytes": self._received.total(),
            "upstream_requests": self._asked.total(),
            "upstream_resumes": self._resumed.total(),
            "fills": int(self.collectors.get_sample_value("crcache_fills") or 0),
            "followers": int(self.collectors.get_sample_value("crcache_followers") or 0),
        }

    def _name(self, registry: Registry | None) -> str:
        return "none" if registry is None else self._named.get(registry, "other")


class _Counters:
    """One metric's counters, looked up without the library's lock and checks once they exist."""

    def __init__(self, meter: Meter, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self._metric = Counter(name, documentation, labels, registry=meter.collectors)
        self._children: dict[tuple[str, ...], Counter] = {}

    def add(self, amount: int, *labels: str) -> None:
        if amount < 0:
            return
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        child.inc(amount)

    def total(self) -> int:
        samples = (sample for metric in self._metric.collect() for sample in metric.samples)
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))


def _known(value: int | None) -> float:
    return math.nan if value is None else value


def kind_label(kind: str) -> str:
    """What is asked, as a label."""
    return kind if kind in _KINDS else "other"


def status_label(status: int) -> str:
    """A status as a label; an origin may invent any number, but not a label for it."""
    return _STATUSES.get(status, "other")
