"""What operators see of the bucket behind the cache directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class BucketCollector(Collector):
    """Counts that somebody else keeps.

    @ivar state: says them, by name; what it does not say is nothing.
    """

    def __init__(self) -> None:
        self.state: Callable[[], Mapping[str, Any]] = dict

    def collect(self) -> Iterator[Any]:
        """As C{prometheus_client} has it."""
        said = self.state()
        answers = CounterMetricFamily("crcache_s3_answers", "Objects that the bucket was asked for.", labels=["result"])
        for result, name in (("hit", "hits"), ("miss", "misses"), ("failed", "failed")):
            answers.add_metric([result], said.get(name, 0))
        yield answers
        for name, key, text in (
            ("crcache_s3_received_bytes", "received", "Bytes of objects received from the bucket."),
            ("crcache_s3_uploads", "uploads", "Contents uploaded to the bucket."),
            ("crcache_s3_sent_bytes", "sent", "Bytes of contents uploaded to the bucket."),
        ):
            yield CounterMetricFamily(name, text, value=said.get(key, 0))
        yield GaugeMetricFamily(
            "crcache_s3_waiting_uploads",
            "Uploads to the bucket that wait, of all processes on the cache directory.",
            value=said.get("waiting", 0),
        )
        yield GaugeMetricFamily(
            "crcache_s3_failing",
            "1 while the bucket is not asked, or not uploaded to.",
            value=bool(said.get("problem")),
        )
