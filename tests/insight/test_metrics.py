"""Counters and their labels."""

from __future__ import annotations

from prometheus_client import generate_latest
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crcache import __version__
from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.insight.metrics import Meter
from crcache.interfaces import IMeter

GHCR = Registry("ghcr.io")


class MeterTests(SynchronousTestCase):
    """L{Meter}."""

    def setUp(self) -> None:
        self.meter = Meter([DOCKER_IO])

    def _value(self, name: str, **labels: str) -> float | None:
        return self.meter.collectors.get_sample_value(name, labels)

    def test_interface(self) -> None:
        """It is a meter."""
        verifyObject(IMeter, self.meter)

    def test_own_registry(self) -> None:
        """Two meters in one process do not get in each other's way."""
        other = Meter([])
        self.meter.filling(1)
        self.assertEqual(other.collectors.get_sample_value("crcache_fills"), 0)

    def test_answered(self) -> None:
        """Requests are counted by registry, kind, status and cache; the wait by cache."""
        self.meter.answered(DOCKER_IO, "blob", 200, "hit", 0.004)
        self.meter.answered(DOCKER_IO, "blob", 200, "hit", None)
        count = self._value("crcache_requests_total", registry="docker.io", kind="blob", status="200", cache="hit")
        self.assertEqual(count, 2)
        self.assertEqual(self._value("crcache_time_to_first_byte_seconds_count", cache="hit"), 1)
        self.assertEqual(self._value("crcache_time_to_first_byte_seconds_bucket", cache="hit", le="0.0025"), 0)
        self.assertEqual(self._value("crcache_time_to_first_byte_seconds_bucket", cache="hit", le="0.005"), 1)

    def test_bytes(self) -> None:
        """Bytes add up, to clients by cache and from origins."""
        self.meter.sent(DOCKER_IO, "miss", 10)
        self.meter.sent(DOCKER_IO, "miss", 5)
        self.meter.received(DOCKER_IO, 7)
        self.assertEqual(self._value("crcache_sent_bytes_total", registry="docker.io", cache="miss"), 15)
        self.assertEqual(self._value("crcache_upstream_bytes_total", registry="docker.io"), 7)

    def test_origins(self) -> None:
        """What origins answered, tokens included, and that they did not; resumptions; pull limits."""
        self.meter.asked(DOCKER_IO, "manifest", 200)
        self.meter.asked(DOCKER_IO, "token", None)
        self.meter.resumed(DOCKER_IO)
        self.meter.rate_limit(DOCKER_IO, 90)
        self.meter.rate_limit(DOCKER_IO, 89)
        name = "crcache_upstream_requests_total"
        self.assertEqual(self._value(name, registry="docker.io", kind="manifest", status="200"), 1)
        self.assertEqual(self._value(name, registry="docker.io", kind="token", status="none"), 1)
        self.assertEqual(self._value("crcache_upstream_resumes_total", registry="docker.io"), 1)
        self.assertEqual(self._value("crcache_upstream_rate_limit_remaining", registry="docker.io"), 89)

    def test_gauges(self) -> None:
        """Fills and followers come and go."""
        self.meter.filling(1)
        self.meter.filling(1)
        self.meter.filling(-1)
        self.meter.following(1)
        self.assertEqual(self._value("crcache_fills"), 1)
        self.assertEqual(self._value("crcache_followers"), 1)

    def test_bounded(self) -> None:
        """Whatever clients and origins say, the label set does not grow."""
        for number in range(500):
            registry = Registry(f"r{number}.example.com")
            self.meter.answered(registry, f"kind{number}", 1000 + number, f"cache{number}", 0.1)
            self.meter.sent(registry, f"cache{number}", 1)
            self.meter.asked(registry, f"kind{number}", 600 + number)
            self.meter.received(registry, 1)
            self.meter.resumed(registry)
            self.meter.rate_limit(registry, number)
        self.assertEqual(
            self._value("crcache_requests_total", registry="other", kind="other", status="other", cache="none"), 500
        )
        text = generate_latest(self.meter.collectors).decode()
        self.assertNotIn("example.com", text)
        self.assertLess(len(text.splitlines()), 150)

    def test_no_registry(self) -> None:
        """Requests that name no registry are counted apart from those that name an unheard-of one."""
        self.meter.answered(None, "ping", 200, "none", 0.001)
        self.meter.answered(GHCR, "blob", 200, "hit", 0.001)
        name = "crcache_requests_total"
        self.assertEqual(self._value(name, registry="none", kind="ping", status="200", cache="none"), 1)
        self.assertEqual(self._value(name, registry="other", kind="blob", status="200", cache="hit"), 1)

    def test_never_raises(self) -> None:
        """A nonsensical count is dropped: counters never fall, callers never fail."""
        self.meter.sent(DOCKER_IO, "hit", 3)
        self.meter.sent(DOCKER_IO, "hit", -1)
        self.assertEqual(self._value("crcache_sent_bytes_total", registry="docker.io", cache="hit"), 3)

    def test_process(self) -> None:
        """The process' own memory, descriptors and processor time are there, and what is running."""
        text = generate_latest(self.meter.collectors).decode()
        for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
            self.assertIn(f"\n{name} ", text)
        self.assertRegex(text, rf'\ncrcache_info{{python="[^"]+",twisted="[^"]+",version="{__version__}"}} 1\.0\n')

    def test_summary(self) -> None:
        """Sums over all labels, for people."""
        self.meter.answered(DOCKER_IO, "blob", 200, "hit", 0.1)
        self.meter.answered(GHCR, "blob", 404, "none", 0.1)
        self.meter.sent(DOCKER_IO, "hit", 10)
        self.meter.filling(1)
        self.assertEqual(
            self.meter.summary(),
            {
                "requests": 2,
                "sent_bytes": 10,
                "upstream_bytes": 0,
                "upstream_requests": 0,
                "upstream_resumes": 0,
                "fills": 1,
                "followers": 0,
            },
        )
