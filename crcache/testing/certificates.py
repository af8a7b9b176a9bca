"""Certificates for tests: an authority, and what it signs for servers and clients."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions

_DAY = datetime.timedelta(days=1)
#: Days, counted from now.
VALID = -1, 30


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Put C{<name>.pem} and C{<name>.key} there, and return their paths."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        paths[0].write_bytes(self.certificate)
        paths[1].write_bytes(self.key)
        return paths


class Authority:
    """A certificate authority that exists as long as the test.

    @ivar certificate: its own, PEM.
    """

    def __init__(self, name: str = "crcache test authority", days: tuple[int, int] = VALID) -> None:
        """
        @param days: its own certificate is valid from then to then, counted from now.
        """
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = (
            _builder(self._name, self._name, self._key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        signed = builder.sign(self._key, hashes.SHA256())
        self.certificate = signed.public_bytes(serialization.Encoding.PEM)

    def write(self, directory: Path, name: str = "ca") -> Path:
        """Put C{<name>.pem} there, and return its path."""
        path = directory / f"{name}.pem"
        path.write_bytes(self.certificate)
        return path

    def server(self, hosts: Sequence[str] = ("127.0.0.1", "localhost"), days: tuple[int, int] = VALID) -> Certificate:
        """A certificate for a server with these names and addresses.

        @param days: it is valid from then to then, counted from now.
        """
        return self._issue(hosts, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def client(self, name: str = "crcache", days: tuple[int, int] = VALID) -> Certificate:
        """A certificate for a client; C{days} as in L{server}."""
        return self._issue([name], ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def context(self, hosts: Sequence[str] = ("127.0.0.1", "localhost"), client_ca: bytes | None = None) -> object:
        """A context factory to listen with.

        @param client_ca: the PEM of the authority whose certificates clients must show; C{None} asks for none.
        """
        return listening(self.server(hosts), client_ca)

    def _issue(self, names: Sequence[str], usage: x509.ObjectIdentifier, days: tuple[int, int]) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
        builder = (
            _builder(subject, self._name, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            named = x509.SubjectAlternativeName([_general(name) for name in names])
            builder = builder.add_extension(named, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(signed.public_bytes(serialization.Encoding.PEM), private)


def listening(certificate: Certificate, client_ca: bytes | None = None) -> CertificateOptions:
    """A context factory to listen with that certificate; see L{Authority.context}."""
    key = crypto.load_privatekey(crypto.FILETYPE_PEM, certificate.key)
    own = crypto.load_certificate(crypto.FILETYPE_PEM, certificate.certificate)
    if client_ca is None:
        return CertificateOptions(privateKey=key, certificate=own)
    authority = crypto.load_certificate(crypto.FILETYPE_PEM, client_ca)
    return CertificateOptions(
        privateKey=key, certificate=own, verify=True, requireCertificate=True, caCerts=[authority]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[int, int]
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * _DAY)
        .not_valid_after(now + days[1] * _DAY)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
