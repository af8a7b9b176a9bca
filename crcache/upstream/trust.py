"""Whom to trust in TLS, and how to show who we are."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

from crcache.errors import OriginUnreachable
from crcache.settings import RegistrySettings
from crcache.upstream.urls import Origin, origin_of

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
#: Contexts kept: each has parsed its roots, which takes milliseconds for a whole bundle (tens, with Twisted 22.4), and
#: almost a mebibyte. Clients and redirects can name any host.
_KEPT = 32


@dataclass(frozen=True)
class Trust:
    """How to speak TLS; connections are shared only under an equal one.

    @ivar ca: PEM of the only roots; with C{system} of further ones. C{None}: the system's.
    @ivar system: trust the system's roots beside C{ca}.
    """

    ca: Path | None = None
    system: bool = False
    client_cert: Path | None = None
    client_key: Path | None = None
    insecure: bool = False


def trust_for(settings: RegistrySettings, origin: Origin) -> Trust:
    """The trust for one origin on behalf of a registry.

    At the registry's own URLs its C{ca} replaces the system's roots, and its client certificate and
    C{insecure-skip-verify} apply. Elsewhere (redirects, token realms) the system's roots and the C{ca} are both
    trusted, the client certificate is not shown, and certificates are verified.
    """
    if any(origin == origin_of(url) for url in settings.urls):
        return Trust(settings.ca, False, settings.client_cert, settings.client_key, settings.insecure_skip_verify)
    return Trust(settings.ca, settings.ca is not None)


class Creators:
    """Makes what begins a TLS connection, and keeps the latest ones."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Trust, str], IOpenSSLClientConnectionCreator] = OrderedDict()

    def creator(self, trust: Trust, host: str) -> IOpenSSLClientConnectionCreator:
        """The connection creator for a host (a name or an address, without brackets).

        @raise OriginUnreachable: if a file of the trust cannot be used, or the name is not one that can be verified.
        """
        found = self._made.pop((trust, host), None)
        if found is None:
            try:
                found = _make(trust, host)
            except UnicodeError:
                # Twisted takes names of strict IDNA alone: no underscore, no "--" in third place.
                message = f"TLS cannot be spoken to a host of this name: {host}; use another name for it"
                raise OriginUnreachable(message) from None
            except (OSError, ValueError, VerifyError, crypto.Error, SSL.Error) as error:
                files = ", ".join(str(path) for path in (trust.ca, trust.client_cert, trust.client_key) if path)
                message = f"the TLS files of {host} cannot be used ({type(error).__name__}); check {files}"
                raise OriginUnreachable(message) from error
        self._made[trust, host] = found
        if len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return found


def _make(trust: Trust, host: str) -> IOpenSSLClientConnectionCreator:
    own, extra = _client_certificate(trust)
    if trust.insecure:
        key = {} if own is None else {"privateKey": own.privateKey.original, "certificate": own.original}
        return _Unverified(host, CertificateOptions(**key, **extra).getContext())
    authorities = [] if trust.ca is None else _authorities(trust.ca)
    if not authorities or trust.system:
        creator = optionsForClientTLS(host, clientCertificate=own, extraCertificateOptions=extra)
        return _Also(creator, authorities) if authorities else creator
    roots = trustRootFromCertificates(authorities)
    return optionsForClientTLS(host, trustRoot=roots, clientCertificate=own, extraCertificateOptions=extra)


def _authorities(path: Path) -> list[Certificate]:
    found = [Certificate.loadPEM(pem) for pem in _PEM.findall(path.read_bytes())]
    if not found:
        raise ValueError("no certificate in it")
    return found


def _client_certificate(trust: Trust) -> tuple[PrivateCertificate | None, dict[str, Any]]:
    if trust.client_cert is None:
        return None, {}
    chain = _PEM.findall(trust.client_cert.read_bytes())
    if not chain:
        raise ValueError("no certificate in it")
    key = (trust.client_key or trust.client_cert).read_bytes()
    own = PrivateCertificate.loadPEM(chain[0] + b"\n" + key)
    further = [Certificate.loadPEM(pem).original for pem in chain[1:]]
    return own, {"extraCertChain": further} if further else {}


@implementer(IOpenSSLClientConnectionCreator)
class _Also:
    """Trusts further authorities beside those that a creator trusts already."""

    def __init__(self, creator: Any, authorities: list[Certificate]) -> None:
        self._creator = creator
        self._authorities = authorities

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._creator.clientConnectionForTLS(tlsProtocol)
        authorities, self._authorities = self._authorities, []
        if authorities:
            store: Any = connection.get_context().get_cert_store()
            for authority in authorities:
                store.add_cert(authority.original)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Takes any certificate, as C{insecure-skip-verify} asks; the name is still sent (SNI)."""

    def __init__(self, host: str, context: SSL.Context) -> None:
        self._host = host
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not (isIPAddress(self._host) or isIPv6Address(self._host)):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


def verifies(creator: object) -> bool:
    """Whether connections that this creator begins are for a certain host alone."""
    return creator is not None and not isinstance(creator, _Unverified)
