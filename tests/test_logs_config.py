"""How the log's form and level are configured."""

from __future__ import annotations

from pathlib import Path

from crcache.commands.check_config import describe
from crcache.options import Options
from crcache.settings import Config
from tests.config_case import ConfigCase


class LogConfigTests(ConfigCase):
    """C{log-format} and C{log-level}, in the file and as flags."""

    def parse(self, text: str, *flags: str) -> Config:
        """What is in force with this file and these flags."""
        file = self.directory / "crcache.yaml"
        file.write_text(text)
        options = Options({"HOME": "/home/somebody"}, object(), Path("/nonexistent"))
        options.parseOptions(["--config", str(file), *flags])
        return options.config

    def told(self, text: str, *flags: str) -> str:
        """The line that refuses them."""
        error = self.assertRaises(SystemExit, self.parse, text, *flags)
        return str(error).replace(str(self.directory), "")

    def test_default(self) -> None:
        """Nothing need be said."""
        config = self.parse("")
        self.assertEqual((config.log_format, config.log_level), ("auto", "info"))

    def test_file(self) -> None:
        """The file says it, and check-config shows it."""
        config = self.parse("log-format: json\nlog-level: debug\n")
        self.assertEqual((config.log_format, config.log_level), ("json", "debug"))
        shown = describe(config)
        self.assertEqual((shown["log-format"], shown["log-level"]), ("json", "debug"))

    def test_flags(self) -> None:
        """A flag wins over the file."""
        config = self.parse("log-format: json\nlog-level: debug\n", "--log-format", "text", "--log-level=warn")
        self.assertEqual((config.log_format, config.log_level), ("text", "warn"))

    def test_mistakes(self) -> None:
        """A word that is none of them is told with those that are."""
        self.assertEqual(
            self.told("log-format: xml\n"),
            "crcache: /crcache.yaml:1: log-format: must be auto, journal, text or json, not 'xml'",
        )
        self.assertEqual(
            self.told("", "--log-level", "loud"), "crcache: --log-level: must be debug, info, warn or error, not 'loud'"
        )
        self.assertIn("log-level: must be debug", self.told("log-level: INFO\n"))
