"""What TLS listeners show to clients and want of them, replaceable while they listen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLContextFactory, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from crcache import pem
from crcache.errors import ConfigError
from crcache.settings import TlsSettings


@implementer(IOpenSSLServerConnectionCreator)
class Identity:
    """Who we are to clients.

    @ivar shown: what begins the TLS of a new connection, in any of the ways that Twisted knows.
    """

    def __init__(self, shown: Any = None) -> None:
        self.shown = shown

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """As L{IOpenSSLServerConnectionCreator}."""
        shown = self.shown
        if IOpenSSLServerConnectionCreator.providedBy(shown):
            connection: SSL.Connection = shown.serverConnectionForTLS(tlsProtocol)
            return connection
        return SSL.Connection(shown.getContext(), None)


class Secured(TLSMemoryBIOFactory):
    """Speaks TLS in front of a factory that need not take every connection."""

    noisy = False

    def __init__(self, identity: Identity, factory: Any) -> None:
        super().__init__(identity, False, factory)

    def buildProtocol(self, addr: Any) -> Any:
        """C{None} where the factory behind says so."""
        inner: Any = self.wrappedFactory.buildProtocol(addr)
        if inner is None:
            return None
        return self.protocol(self, inner)


_NEVER = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_SSLv3 | SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1


def harden(shown: Any) -> None:
    """Try what is to be shown, and have it speak TLS 1.2 or later, and not negotiate anew on a connection that stands.

    Twisted itself would find out in part only with the first connection that it cannot be used; before 22.5 it speaks
    TLS 1.0.
    """
    if IOpenSSLContextFactory.providedBy(shown):
        shown.getContext().set_options(_NEVER)


class Tls:
    """What all C{tls:} endpoints show: the section C{tls} of the configuration.

    @ivar name: as the log calls it.
    @ivar used: whether there are such endpoints; otherwise no file is looked at.
    """

    name = "tls"

    def __init__(self, settings: TlsSettings | None) -> None:
        self.identity = Identity()
        self.used = False
        self._settings = settings

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made of."""
        settings = self._settings
        if settings is None or not self.used:
            return ()
        return tuple(each for each in (settings.certificate, settings.key, settings.clients_ca) if each is not None)

    def begin(self) -> Identity:
        """An endpoint is about to listen.

        @raise ValueError: if one of the files cannot be used.
        """
        if not self.used:
            if self._settings is None:
                raise ValueError("there is no section tls in the configuration")
            self.identity.shown = _options(self._settings)
            self.used = True
        return self.identity

    def prepare(self, settings: TlsSettings | None = None) -> Callable[[], None]:
        """Read the files again; for any thread.

        @param settings: in place of those in force; C{None}: these.
        @return: puts them in force for new connections, at once and without fail; for the reactor's thread.
        @raise ConfigError: with one line that names the file; what was shown before still is.
        """
        before = self._settings
        wanted = settings or before
        if not self.used or wanted is None:
            return lambda: None
        try:
            shown = _options(wanted)
        except ValueError as error:
            raise ConfigError(f"tls: {error}") from None

        def commit() -> None:
            # Unless the settings have changed since, and whoever asked for these knew nothing of it.
            if settings is not None or self._settings is before:
                self._settings = wanted
                self.identity.shown = shown

        return commit


def _options(settings: TlsSettings) -> CertificateOptions:
    """As Twisted has them by default: TLS 1.2 and later, ciphers with forward secrecy, no compression, no sessions.

    Without sessions a client shows its certificate on each connection.

    @raise ValueError: with what is wrong with which file.
    """
    pem.private_key_of(settings.certificate, settings.key)
    more: dict[str, Any] = {}
    if settings.clients_ca is not None:
        pem.certificates(settings.clients_ca)
    try:
        own, *chain = (Certificate.loadPEM(each).original for each in pem.each_certificate(settings.certificate))
        if settings.clients_ca is not None:
            authorities = [Certificate.loadPEM(each) for each in pem.each_certificate(settings.clients_ca)]
            more["trustRoot"] = trustRootFromCertificates(authorities)
        key = KeyPair.load(settings.key.read_bytes(), crypto.FILETYPE_PEM).original
        options = CertificateOptions(privateKey=key, certificate=own, extraCertChain=chain, **more)
        harden(options)
    except Exception as error:
        # A file that has changed since it was looked at, or something that OpenSSL does not like about it.
        raise ValueError(f"{settings.certificate} and {settings.key} cannot be used: {_words(error)}") from None
    return options


def _words(error: Exception) -> str:
    """OpenSSL's errors are lists of triples."""
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return str(error.args[0][-1][-1])
    return str(error) or type(error).__name__
