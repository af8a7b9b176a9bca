"""L{crcache.pem}."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from crcache import pem
from crcache.testing.certificates import Authority

GARBAGE = b"-----BEGIN %s-----\nAAAA\n-----END %s-----\n"


class PemTests(SynchronousTestCase):
    """Files as an administrator has them, and as some program is just writing them."""

    def setUp(self) -> None:
        authority = Authority()
        self.root = authority.certificate
        self.first, self.second = authority.client("a"), authority.client("b")

    def write(self, data: bytes) -> Path:
        """A file."""
        path = Path(self.mktemp())
        path.write_bytes(data)
        return path

    def refused(self, check: Callable[[Path], Path], data: bytes, why: str) -> None:
        """It is, in one line with its name and the reason."""
        path = self.write(data)
        message = str(self.assertRaises(ValueError, check, path))
        self.assertIn(f"{path} {why}", message)
        self.assertNotIn("\n", message)

    def test_certificates(self) -> None:
        """One certificate will do, or several, with text around them."""
        for data in (self.root, b"text before\n" + self.root + b"between" + self.first.certificate + b"after"):
            path = self.write(data)
            self.assertEqual(pem.certificates(path), path)

    def test_no_certificates(self) -> None:
        """What is not one, or is not whole, alone or behind a good one, will not."""
        garbage = GARBAGE % (b"CERTIFICATE", b"CERTIFICATE")
        for data, why in (
            (b"", "holds no certificate in PEM"),
            (self.first.key, "holds no certificate in PEM"),
            (self.root.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "holds no certificate in PEM"),
            (garbage, "holds no certificate that can be used"),
            (self.root[:200], "holds no certificate that can be used"),
            (self.root + self.first.certificate[:200], "holds a certificate that cannot be used"),
            (self.root + garbage, "holds a certificate that cannot be used"),
        ):
            self.refused(pem.certificates, data, why)

    def test_unreadable(self) -> None:
        """A file that is not there, or is none, is named."""
        for path in (Path("/nonexistent"), Path("/")):
            for check in (pem.certificates, pem.private_key):
                self.assertIn(f"{path} cannot be read: ", str(self.assertRaises(ValueError, check, path)))

    def test_private_key(self) -> None:
        """A key will do in the form of its kind and in that of all kinds."""
        forms = serialization.PrivateFormat
        key = rsa.generate_private_key(65537, 2048)
        plain = serialization.NoEncryption()
        old = key.private_bytes(serialization.Encoding.PEM, forms.TraditionalOpenSSL, plain)
        self.assertIn(b"BEGIN RSA PRIVATE KEY", old)
        for data in (self.first.key, old):
            path = self.write(data)
            self.assertEqual(pem.private_key(path), path)

    def test_no_private_key(self) -> None:
        """What is not one, or is encrypted, will not: nobody can be asked for its passphrase."""
        for data, why in (
            (b"", "holds no private key in PEM"),
            (self.root, "holds no private key in PEM"),
            (GARBAGE % (b"PRIVATE KEY", b"PRIVATE KEY"), "holds no private key that can be used"),
            (self.first.key[:80], "holds no private key that can be used"),
            (GARBAGE % (b"ENCRYPTED PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"), "is encrypted"),
            (b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "is encrypted"),
        ):
            self.refused(pem.private_key, data, why)

    def test_pair(self) -> None:
        """A key belongs to the first certificate of its file, also if both are in one file."""
        chain = self.write(self.first.certificate + self.root)
        key = self.write(self.first.key)
        self.assertEqual(pem.private_key_of(chain, key), key)
        both = self.write(self.first.key + self.first.certificate)
        self.assertEqual(pem.private_key_of(both, both), both)
        why = f"is not the key of the certificate in {chain}"
        self.refused(lambda path: pem.private_key_of(chain, path), self.second.key, why)
