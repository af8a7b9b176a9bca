"""L{crcache.config_cache}: how large the cache may be."""

from __future__ import annotations

from crcache.commands.check_config import describe
from crcache.errors import ConfigError
from crcache.settings import Bounds, Share
from tests.config_case import ConfigCase


class BoundsTests(ConfigCase):
    """The keys, and what is wrong with them."""

    def test_values(self) -> None:
        """Sizes and parts of the file system are read, and shown again as they would be read."""
        for text, expected in (
            ("", Bounds()),
            ("max-size: 500GiB", Bounds(500 << 30)),
            ("max-size: 12.5%\n  min-free: 0", Bounds(Share(12.5), 0)),
            ("min-free: 10 GiB\n  high-watermark: 80%", Bounds(min_free=10 << 30, high=0.8, low=0.8)),
            ("high-watermark: 99%\n  low-watermark: 50%", Bounds(high=0.99, low=0.5)),
        ):
            config = self.config(f"cache:\n  {text}\n" if text else "")
            self.assertEqual(config.bounds, expected)
            section = describe(config)["cache"]
            assert isinstance(section, dict)
            again = "".join(f"  {key}: {section[key]}\n" for key in ("max-size", "min-free"))
            again += "".join(f"  {key}: {section[key]}\n" for key in ("high-watermark", "low-watermark"))
            self.assertEqual(self.config(f"cache:\n{again}").bounds, expected)

    def test_mistakes(self) -> None:
        """Each mistake names the key, and says what would be right."""
        for text, told in (
            ("max-size: 0", "cache.max-size: must be more than nothing"),
            ("max-size: 0%", "cache.max-size: must be more than nothing"),
            ("max-size: 101%", "cache.max-size: must not be more than 100%"),
            ("max-size: x%", "cache.max-size: 'x%' is not a part of the file system such as 80%"),
            ("max-size: 500", "cache.max-size: 500 needs a unit, as in 500GiB"),
            ("min-free: -1%", "cache.min-free: '-1%' is not a part"),
            ("min-free: 5 GB", "cache.min-free: '5 GB' is not a size"),
            ("high-watermark: 0%", "cache.high-watermark: must be a part of what is allowed, such as 90%"),
            ("low-watermark: 5GiB", "cache.low-watermark: must be a part of what is allowed, such as 90%"),
            ("low-watermark: 96%", "cache.low-watermark: must not be above high-watermark, which is 95%"),
        ):
            problem = self.assertRaises(ConfigError, self.config, f"cache:\n  {text}\n")
            self.assertIn(told, problem.message)
