"""L{crcache.insight.oneline}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.insight import oneline


class OneLineTests(SynchronousTestCase):
    """The line of `systemctl status`."""

    def test_serving(self) -> None:
        """It says where, and how much, in the singular where there is one."""
        counters = {"fills": 3, "sent_bytes": 1288490188, "requests": 5}
        self.assertEqual(
            oneline.serving(["[::]:3000", "/run/x.sock"], 1, counters),
            "serving on [::]:3000, /run/x.sock; 3 fills, 1 client; 1.2 GiB sent",
        )

    def test_others(self) -> None:
        """It says what is waited for, and how much is left."""
        self.assertEqual(oneline.waiting("cache directory /x: gone"), "waiting for cache directory /x: gone")
        self.assertEqual(oneline.draining(4), "draining: 4 requests left")
        self.assertEqual(oneline.draining(1), "draining: 1 request left")

    def test_sizes(self) -> None:
        """Sizes have the unit in which they are below 1024."""
        for count, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1048575, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (5000 << 50, "5000.0 PiB"),
        ):
            self.assertEqual(oneline.size(count), text)
