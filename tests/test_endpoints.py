"""L{crcache.endpoints}."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from crcache.endpoints import TlsEndpoint, check_endpoint, parse_tls


class CheckEndpointTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """What Twisted can listen on passes, without a reactor's doing anything."""
        for text in [
            "tcp:3000",
            "tcp:0",
            "tcp:65535:interface=127.0.0.1",
            "tcp6:3000",
            "tcp:3000:interface=\\:\\:1",
            "unix:/run/crcache/admin.sock:mode=660",
            "tls:3443",
            "tls:3443:interface=\\:\\:1",
        ]:
            check_endpoint(text, object())

    def test_refused(self) -> None:
        """What it cannot is one line that shows the text."""
        for text in [
            "",
            "tcp",
            "tcp:abc",
            "tcp:-1",
            "tcp:65536",
            "tcp:99999999999999999999",
            "tcp:3000:interfaces=127.0.0.1",
            "foo:1",
            "a=b",
            "tcp:3000\\",
            "unix:/x:mode=abc",
            "ssl:3443:privateKey=/nonexistent",
            "ssl:3443:privateKey=/dev/null",
            "tls",
            "tls:",
            "tls:65536",
            "tls:-1",
            "tls:999999",
            "tls:3443:interface=localhost",
            "tls:3443:interface=",
            "tls:3443:privateKey=/dev/null",
            "off",
        ]:
            error = self.assertRaises(ValueError, check_endpoint, text, object())
            self.assertIn(ascii(text), str(error))
            self.assertNotIn("\n", str(error))

    def test_tls(self) -> None:
        """What is crcache's own type, and nothing else."""
        for text, expected in [
            ("tls:3443", TlsEndpoint(3443, "")),
            ("tls:3443:interface=127.0.0.1", TlsEndpoint(3443, "127.0.0.1")),
            ("tls:3443:interface=\\:\\:1", TlsEndpoint(3443, "::1")),
            ("tcp:3443", None),
            ("ssl:3443", None),
        ]:
            self.assertEqual(parse_tls(text), expected)

    def test_server_port(self) -> None:
        """Who writes a port, or an address and port, is shown the endpoint that means it."""
        for text, better in [
            ("3000", "tcp:3000 is"),
            (":3000", "tcp:3000 is"),
            ("127.0.0.1:3000", "tcp:3000:interface=127.0.0.1 is"),
        ]:
            self.assertIn(better, str(self.assertRaises(ValueError, check_endpoint, text, object())))

    def test_missing_file(self) -> None:
        """A TLS endpoint whose key is not there names the file."""
        error = self.assertRaises(ValueError, check_endpoint, "ssl:3443:privateKey=/nonexistent/key.pem", object())
        self.assertIn("needs /nonexistent/key.pem: No such file", str(error))

    def test_systemd(self) -> None:
        """A socket that systemd did not hand over is a mistake only where it should have been."""
        check_endpoint("systemd:domain=INET:index=0", object(), inherited=False)
        error = self.assertRaises(ValueError, check_endpoint, "systemd:domain=INET:index=0", object())
        self.assertIn("systemd", str(error))
        self.assertRaises(ValueError, check_endpoint, "systemd:domain=INET:index=x", object(), inherited=False)

    def test_import_leaves_environment_alone(self) -> None:
        """Importing the module does not take systemd's variables, and neither it nor a check chooses a reactor."""
        script = (
            "import os, sys\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "from crcache.endpoints import check_endpoint\n"
            "assert os.environ['LISTEN_FDS'] == '1'\n"
            "check_endpoint('tcp:3000', object())\n"
            "assert 'twisted.internet.reactor' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
