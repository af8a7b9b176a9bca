"""What dashboards rely on: every counter there from the first scrape on, and no more of them than planned."""

from __future__ import annotations

import math

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.insight.metrics import BUCKETS, Meter

#: By name: the type, the labels, and whether there is a sample before anything has happened.
PROMISED = {
    "crcache_requests_total": ("counter", {"registry", "kind", "status", "cache"}),
    "crcache_sent_bytes_total": ("counter", {"registry", "cache"}),
    "crcache_upstream_bytes_total": ("counter", {"registry"}),
    "crcache_upstream_requests_total": ("counter", {"registry", "kind", "status"}),
    "crcache_upstream_resumes_total": ("counter", {"registry"}),
    "crcache_fills": ("gauge", set()),
    "crcache_followers": ("gauge", set()),
    "crcache_cache_bytes": ("gauge", set()),
    "crcache_cache_max_bytes": ("gauge", set()),
    "crcache_evicted_bytes_total": ("counter", set()),
    "crcache_time_to_first_byte_seconds": ("histogram", {"cache"}),
    "crcache_upstream_rate_limit_remaining": ("gauge", {"registry"}),
    "crcache_connections": ("gauge", set()),
    "crcache_requests_in_flight": ("gauge", set()),
    "crcache_refused_connections_total": ("counter", {"reason"}),
    "crcache_draining": ("gauge", set()),
}

#: With one registry named: its name, `other` and `none`.
REGISTRIES = 3
#: ping, manifest, blob, tags, referrers, token, other.
KINDS = 7
#: hit, miss, collapsed, stale, bypass, none.
CACHES = 6
#: Those that HTTP knows, 499, other, none.
STATUSES = 70


class PromiseTests(SynchronousTestCase):
    """The names that are promised."""

    def setUp(self) -> None:
        self.meter = Meter([DOCKER_IO])

    def families(self) -> dict[str, Metric]:
        """What a scrape sees, by the name of the samples."""
        found = {}
        for family in text_string_to_metric_families(generate_latest(self.meter.collectors).decode()):
            found[family.name + ("_total" if family.type == "counter" else "")] = family
        return found

    def test_first_scrape(self) -> None:
        """Each is announced with its type at once, and has a value unless labels are needed for one."""
        families = self.families()
        for name, (kind, labels) in PROMISED.items():
            family = families.get(name)
            assert family is not None, name
            self.assertEqual(family.type, kind, name)
            samples = [sample for sample in family.samples if sample.name == name]
            self.assertEqual(len(samples), 0 if labels else 1, name)

    def test_labels(self) -> None:
        """Each has exactly the labels that are promised."""
        self.meter.answered(DOCKER_IO, "blob", 200, "hit", 0.1)
        self.meter.sent(DOCKER_IO, "hit", 1)
        self.meter.received(DOCKER_IO, 1)
        self.meter.asked(DOCKER_IO, "blob", 200)
        self.meter.resumed(DOCKER_IO)
        self.meter.rate_limit(DOCKER_IO, 1)
        families = self.families()
        for name, (_, labels) in PROMISED.items():
            for sample in families[name].samples:
                if not sample.name.endswith("_created"):
                    self.assertEqual(set(sample.labels) - {"le"}, labels, sample)

    def test_cache(self) -> None:
        """The cache's bytes are unknown until they are counted, and then what is said at the moment of the scrape."""
        name = self.meter.collectors.get_sample_value
        self.assertTrue(math.isnan(name("crcache_cache_bytes") or 0))
        said: list[int | None] = [None, None]
        self.meter.watch_cache(lambda: said[0], lambda: said[1])
        self.assertTrue(math.isnan(name("crcache_cache_max_bytes") or 0))
        said[:] = [5, 7]
        self.assertEqual((name("crcache_cache_bytes"), name("crcache_cache_max_bytes")), (5, 7))

    def test_evicted(self) -> None:
        """What is removed to make room adds up, and nothing takes from it."""
        for count in (5, -3, 2):
            self.meter.evicted(count)
        self.assertEqual(self.meter.collectors.get_sample_value("crcache_evicted_bytes_total"), 7)

    def test_clients(self) -> None:
        """Connections, requests in flight and the end are what the site and the daemon say."""
        self.meter.watch_clients(lambda: 3, lambda: 2, lambda: True)
        value = self.meter.collectors.get_sample_value
        names = ("crcache_connections", "crcache_requests_in_flight", "crcache_draining")
        self.assertEqual([value(name) for name in names], [3, 2, 1])

    def test_bounded(self) -> None:
        """Ten thousand registries, and odd kinds, statuses and states, make no more series than the labels allow."""
        before = len(generate_latest(self.meter.collectors).splitlines())
        for number in range(10_000):
            registry = DOCKER_IO if number % 3 == 0 else Registry(f"r{number}.example.com")
            odd = f'\n"odd{number}' if number % 2 else "blob"
            status = number - 5000
            self.meter.answered(registry if number % 5 else None, odd, status, odd, 0.1)
            self.meter.sent(registry, odd, 1)
            self.meter.asked(registry, odd, status if number % 7 else None)
            self.meter.received(registry, 1)
            self.meter.resumed(registry)
            self.meter.rate_limit(registry, number)
        text = generate_latest(self.meter.collectors).decode()
        self.assertNotIn("example.com", text)
        self.assertNotIn("odd", text)
        # A counter is a sample and the time of its creation.
        bound = 2 * REGISTRIES * (KINDS * STATUSES * CACHES + CACHES + 1 + KINDS * STATUSES + 1 + 1)
        bound += CACHES * (len(BUCKETS) + 4)
        after = len(text.splitlines()) - before
        self.assertLess(after, bound)
        # And far fewer than that here: two kinds and one state of the cache were ever spoken of.
        self.assertLess(after, 2 * REGISTRIES * (2 * STATUSES * 2) + 100)
