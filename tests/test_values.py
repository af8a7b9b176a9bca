"""L{crcache.values}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache import values


class BooleanTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        """The usual words are understood in any case; others are refused, naming the right ones."""
        for text in ["yes", "true", "on", "1", "True", "YES"]:
            self.assertIs(values.boolean(text), True)
        for text in ["no", "false", "off", "0", "False"]:
            self.assertIs(values.boolean(text), False)
        for text in ["", "maybe", "y", "2"]:
            self.assertIn("yes or no", str(self.assertRaises(ValueError, values.boolean, text)))


class AtLeastTests(SynchronousTestCase):
    def test_range(self) -> None:
        """Whole numbers from the minimum on, and nothing that merely looks like one."""
        self.assertEqual(values.at_least(0)("0"), 0)
        self.assertEqual(values.at_least(1)("64"), 64)
        for text in ["0", "-1", "1.0", "", "٣", "1_000", " 5", "9999999999"]:
            self.assertRaises(ValueError, values.at_least(1), text)


class PatternTests(SynchronousTestCase):
    def test_compiled(self) -> None:
        """It is the expression that was typed."""
        self.assertTrue(values.pattern("-rc[0-9]+$").search("1.0-rc1"))

    def test_refused(self) -> None:
        """What cannot be compiled, or would quietly switch off all caching of tags, is refused."""
        for text in ["(", "[", "*", "a{99999999999999999999}", ""]:
            self.assertRaises(ValueError, values.pattern, text)


class BaseUrlTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """A base URL has a scheme, a host, perhaps a port and a path; trailing slashes go."""
        for text, expected in [
            ("https://harbor.example.com", "https://harbor.example.com"),
            ("https://harbor.example.com/", "https://harbor.example.com"),
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
            ("http://[::1]:5001/", "http://[::1]:5001"),
            ("HTTPS://Harbor.Example.COM/Team/Mirror//", "https://harbor.example.com/Team/Mirror"),
            ("http://my_registry:5000", "http://my_registry:5000"),
        ]:
            self.assertEqual(values.base_url(text), expected)

    def test_refused(self) -> None:
        """Whatever could not be asked, or would be asked wrongly, is refused; the message shows nothing of it."""
        for text in [
            "",
            "harbor.example.com",
            "https:harbor.example.com",
            "ftp://harbor.example.com",
            "https://",
            "https:///path",
            "https://hidden:hidden@harbor.example.com",
            "ftp://hidden:hidden@harbor.example.com",
            "https://harbor.example.com:hidden@x",
            "https://harbor.example.com/?hidden",
            "https://harbor.example.com/?",
            "https://harbor.example.com/#hidden",
            "https://harbor.example.com:0",
            "https://harbor.example.com:",
            "https://harbor.example.com:99999",
            "https://harbor.example.com:hidden",
            "https://harbor example.com/hidden",
            "https://harbor.example.com/hid den",
            "https://[::1/hidden",
            "https://härbor.example.com/hidden",
            "https://harbor.example.com/v2",
            "https://harbor.example.com/hidden/v2/",
        ]:
            error = self.assertRaises(ValueError, values.base_url, text)
            self.assertNotIn("hid", str(error))


class ProxyUrlTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """A proxy is a host and port, with or without TLS."""
        self.assertEqual(values.proxy_url("http://Proxy:3128/"), "http://proxy:3128")
        self.assertEqual(values.proxy_url("https://proxy"), "https://proxy")

    def test_refused(self) -> None:
        """Credentials, which the environment may have, and paths are refused."""
        for text in ["proxy:3128", "http://hidden:hidden@proxy", "http://proxy/path", "socks5://hidden:hidden@x"]:
            self.assertNotIn("hidden", str(self.assertRaises(ValueError, values.proxy_url, text)))


class RegistryTests(SynchronousTestCase):
    def test_canonical(self) -> None:
        """Docker Hub's three names are one registry."""
        names = ["docker.io", "index.docker.io", "registry-1.docker.io"]
        self.assertEqual({str(values.registry(name)) for name in names}, {"docker.io"})

    def test_refused(self) -> None:
        """A URL, a path, a name with credentials in front are not registries."""
        for text in ["https://ghcr.io", "ghcr.io/team", "", "a b", "hidden:hidden@ghcr.io", "ghcr.io:99999"]:
            self.assertNotIn("hidden", str(self.assertRaises(ValueError, values.registry, text)))


class FileTests(SynchronousTestCase):
    def write(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_relative(self) -> None:
        """A relative path begins at the base, an absolute one does not, and a tilde is the home directory."""
        self.assertEqual(values.absolute("tls/ca.pem", Path("/etc/crcache")), Path("/etc/crcache/tls/ca.pem"))
        self.assertEqual(values.absolute("/ca.pem", Path("/etc/crcache")), Path("/ca.pem"))
        self.assertEqual(values.absolute("~/ca.pem", Path("/etc/crcache")), Path.home() / "ca.pem")
        self.assertRaises(ValueError, values.absolute, "", Path("/"))
        self.assertRaises(ValueError, values.absolute, "~nobody-of-that-name/ca.pem", Path("/"))
