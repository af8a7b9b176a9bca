"""Tests for L{crcache.config_parents}."""

from __future__ import annotations

from crcache.commands.check_config import describe
from crcache.settings import ParentSettings
from tests.config_case import ConfigCase


class ParentsTests(ConfigCase):
    """The key C{parents}."""

    def test_none(self) -> None:
        """There need be none."""
        for text in ("", "parents: []"):
            self.assertEqual(self.config(text).parents, ())

    def test_forms(self) -> None:
        """A URL, or a list of URLs and of mappings; URLs end as others spell them."""
        self.assertEqual(self.config("parents: HTTP://Rack:3000/").parents, (ParentSettings("http://rack:3000"),))
        found = self.config(
            "parents:\n- http://10.0.0.1:3000\n- {url: 'https://site.example.com/mirror/', ca: tls/ca.pem}\n"
            "- {url: https://b, client-cert: tls/client.pem, client-key: tls/client.key}\n"
        ).parents
        tls = self.directory / "tls"
        self.assertEqual(
            found,
            (
                ParentSettings("http://10.0.0.1:3000"),
                ParentSettings("https://site.example.com/mirror", tls / "ca.pem"),
                ParentSettings("https://b", None, tls / "client.pem", tls / "client.key"),
            ),
        )

    def test_shown(self) -> None:
        """check-config shows them so that they can be read again."""
        config = self.config("parents: [http://a, {url: https://b, ca: tls/ca.pem}]")
        shown = describe(config)["parents"]
        self.assertEqual(shown, ["http://a", {"url": "https://b", "ca": str(self.directory / "tls/ca.pem")}])

    def test_mistakes(self) -> None:
        """Each mistake is one line that names the key."""
        for text, expected in (
            ("parents:", "1: parents: has no value"),
            ("parents: rack:3000", "1: parents: must begin with http:// or https://"),
            ("parents: [ftp://rack]", "1: parents: must begin with http:// or https://"),
            ("parents:\n- http://a\n- http://u:s3cret@b", "3: parents: must not carry a user name or password"),
            ("parents: http://a/v2/", "1: parents: must end before /v2"),
            ("parents: http://a?b", "1: parents: must not have a ? or # in it"),
            ("parents:\n- http://a\n- http://A/", "3: parents: http://a is there twice"),
            ("parents: [{ca: tls/ca.pem}]", "1: parents: has no url"),
            ("parents: [{url: https://a, ca: none.pem}]", "1: parents.ca: "),
            ("parents: [{url: http://a, ca: tls/ca.pem}]", "1: parents.ca: has no meaning for a parent at http://"),
            ("parents: [{url: https://a, client-key: tls/client.key}]", "1: parents.client-key: needs client-cert too"),
            ("parents: [{url: https://a, username: me}]", "1: parents: unknown key 'username'"),
            ("parents: [[http://a]]", "1: parents: must be a single value"),
            ("parents:\n" + "".join(f"- http://a{n}\n" for n in range(65)), "66: parents: there are more than 64"),
        ):
            told = self.refused(text)
            self.assertTrue(told.startswith(expected), (text, told))
