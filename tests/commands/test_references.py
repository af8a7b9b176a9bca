"""L{crcache.commands.references}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.commands.references import parse_name
from crcache.errors import CrcacheError

HEX = 64 * "a"


class ParseTests(SynchronousTestCase):
    """L{parse_name}."""

    def test_meanings(self) -> None:
        """A name means what docker takes it for."""
        for text, meaning in (
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana", "docker.io/grafana/grafana"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("registry-1.docker.io/a/b", "docker.io/a/b"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("localhost/a", "localhost/a"),
            ("host:5000/a:tag", "host:5000/a:tag"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("host/a", "docker.io/host/a"),
            (f"nginx@sha256:{HEX}", f"docker.io/library/nginx@sha256:{HEX}"),
            (f"ghcr.io/a:1@sha256:{HEX}", f"ghcr.io/a@sha256:{HEX}"),
        ):
            self.assertEqual(str(parse_name(text)), meaning)
            self.assertEqual(parse_name(meaning), parse_name(text))

    def test_latest(self) -> None:
        """Of a repository alone the image is C{latest}."""
        self.assertEqual(str(parse_name("nginx").image), "latest")
        self.assertIsNone(parse_name("nginx").reference)

    def test_refused(self) -> None:
        """What is no name is refused."""
        for text in (
            *("", "/", "a//b", "A/b", "nginx:", "nginx:-x", "nginx@", "nginx@sha256:abc", "ghcr.io/", "ghcr.io/:1"),
            *("../../etc/passwd", "ghcr.io/../a", "nginx:a:b", "http://ghcr.io/a", "host:99999/a", " nginx", "a b"),
            *("ghcr.io/a\n", "nginx:1\n", "ghcr.io/_tags/a"),
        ):
            self.assertRaises(CrcacheError, parse_name, text)
