"""The example configuration that is shipped."""

from __future__ import annotations

import re
from pathlib import Path

from crcache.config_s3 import S3_KEYS
from crcache.grammar.reference import Registry
from tests.config_case import CERTIFICATE, KEY, ConfigCase

EXAMPLE = Path(__file__).parent.parent / "systemd" / "crcache.yaml"


class ExampleTests(ConfigCase):
    def test_as_shipped(self) -> None:
        """The example file changes nothing as it is."""
        self.assertEqual(self.config(EXAMPLE.read_text()), self.config(""))

    def test_defaults_shown(self) -> None:
        """What it shows commented out are the defaults, and all keys of the common sections are there."""
        text = re.sub(r"(?m)^( *)#(?=[a-z])", r"\1", EXAMPLE.read_text())
        shown = self.config(text)
        self.assertEqual(shown.cache_directory, Path("/var/cache/crcache"))
        expected = self.config("cache: {directory: /var/cache/crcache}")
        self.assertEqual(shown, expected)
        for key in ["listen", "admin", "drain-timeout", "log-format", "log-level"]:
            self.assertRegex(text, rf"(?m)^{key}: ")
        for key in ["directory", "manifests", "ignore", "tag-ttl", "stale-if-error", "negative-ttl"]:
            self.assertRegex(text, rf"(?m)^ *{key}: ")
        for key in ["connect-timeout", "first-byte-timeout", "stall-timeout", "retries", "max-connections"]:
            self.assertRegex(text, rf"(?m)^  {key}: ")
        for key in ["connections", "connections-per-peer", "requests-per-peer"]:
            self.assertRegex(text, rf"(?m)^  {key}: ")
        self.assertRegex(text, r"(?m)^  # proxy: http://")

    def test_tls_shown(self) -> None:
        """The section that it shows as an example is right, too, given its files."""
        shown = re.search(r"(?m)^# tls:\n(?:#   .*\n)+", EXAMPLE.read_text())
        assert shown is not None
        for name, content in (("cert.pem", CERTIFICATE), ("key.pem", KEY), ("clients.pem", CERTIFICATE)):
            (self.directory / "tls" / name).write_text(content)
        text = re.sub(r"(?m)^# ", "", shown[0]).replace("/etc/crcache/tls/", f"{self.directory}/tls/")
        found = self.config(text).tls
        assert found is not None
        self.assertIsNotNone(found.clients_ca)

    def test_s3_shown(self) -> None:
        """So is the bucket."""
        shown = re.search(r"(?m)^  # s3:\n(?:  #   .*\n)+", EXAMPLE.read_text())
        assert shown is not None
        for key in S3_KEYS:
            self.assertRegex(shown[0], rf"(?m)^  #   {key}: ")
        (self.directory / "tls" / "s3-ca.pem").write_text(CERTIFICATE)
        text = re.sub(r"(?m)^  # ", "  ", shown[0]).replace("/etc/crcache/tls/", f"{self.directory}/tls/")
        found = self.config(f"cache:\n{text}").s3
        assert found is not None
        self.assertEqual((found.bucket, found.prefix), ("registry-cache", "site-a/"))

    def test_registries_shown(self) -> None:
        """The registries that it shows as examples are right, too, given their files."""
        text = re.sub(r"(?m)^  # (?=  |[a-z\"0-9.:]+:$)", "  ", EXAMPLE.read_text().split("\nregistries:\n")[1])
        (self.directory / "tls" / "harbor-ca.pem").write_text(CERTIFICATE)
        text = text.replace("/etc/crcache/tls/", f"{self.directory}/tls/")
        config = self.config("registries:\n" + text)
        self.assertEqual(
            [str(registry) for registry in config.registries],
            ["docker.io", "127.0.0.1:5001", "harbor.example.com", "test.example.com"],
        )
        self.assertTrue(config.registries[Registry("test.example.com")].insecure_skip_verify)
        self.assertIsNotNone(config.registries[Registry("harbor.example.com")].client_key)
