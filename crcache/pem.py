"""Files that hold certificates and private keys in PEM, looked at before they are needed.

Each function raises C{ValueError} with what is wrong, naming the file, or returns it.
"""

from __future__ import annotations

import re
from pathlib import Path

from OpenSSL import crypto
from twisted.internet.ssl import Certificate, KeyPair

_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_BEGUN = b"-----BEGIN CERTIFICATE-----"
_KEY = re.compile(b"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")


def certificates(path: Path) -> Path:
    """A file that holds certificates, each of which can be used."""
    text = _read(path)
    found = _CERTIFICATE.findall(text)
    if _BEGUN not in text:
        raise ValueError(f"{path} holds no certificate in PEM ({_BEGUN.decode()})")
    try:
        for each in found:
            Certificate.loadPEM(each)
    except Exception:
        found.clear()
    # One more that was begun is a file that somebody is still writing.
    if len(found) != text.count(_BEGUN):
        which = "no certificate that can be used" if text.count(_BEGUN) == 1 else "a certificate that cannot be used"
        raise ValueError(f"{path} holds {which}")
    return path


def each_certificate(path: Path) -> list[bytes]:
    """The certificates in a file, in their order, each by itself."""
    return _CERTIFICATE.findall(_read(path))


def private_key(path: Path) -> Path:
    """A file that holds a private key, not encrypted: nobody is there to type the passphrase."""
    text = _read(path)
    if _KEY.search(text) is None:
        raise ValueError(f"{path} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in text or b"Proc-Type: 4,ENCRYPTED" in text:
        raise ValueError(f"{path} is encrypted; store the key without a passphrase")
    _load_key(path)
    return path


def private_key_of(certificate: Path, key: Path) -> Path:
    """C{key}, if it is that of the first certificate in its file."""
    private_key(key)
    certificates(certificate)
    shown = Certificate.loadPEM(_read(certificate))
    if not _load_key(key).matches(shown.getPublicKey()):
        raise ValueError(f"{key} is not the key of the certificate in {certificate}")
    return key


def _load_key(path: Path) -> KeyPair:
    try:
        return KeyPair.load(_read(path), crypto.FILETYPE_PEM)
    except Exception:
        raise ValueError(f"{path} holds no private key that can be used") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
