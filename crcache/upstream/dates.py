"""Certificates of another time, of which OpenSSL says no more than that they do not verify."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL, crypto


class Outdated(SSL.Error):
    """A certificate is not valid yet, or no more: the text says which, since when, and by which clock."""


def outdated(transport: Any) -> Outdated | None:
    """What is wrong with the dates of the certificates that a peer has shown, if anything is.

    @param transport: TLS whose handshake has failed.
    """
    connection: SSL.Connection | None = transport.getHandle()
    chain = None if connection is None else connection.get_verified_chain()
    now = datetime.now(UTC)
    for depth, certificate in enumerate(chain or ()):
        which = "its certificate" if depth == 0 else "the certificate of its authority"
        clock = f"and this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
        try:
            begins, ends = _dates(certificate)
        except ValueError:
            # Of no form that is allowed: then that is what is wrong with it, and TLS's own words must do.
            return None
        if now < begins:
            return Outdated(f"{which} is not valid before {begins.date()}, {clock}; check the clock")
        if now > ends:
            return Outdated(f"{which} expired on {ends.date()}, {clock}; have it renewed, or check the clock")
    return None


def _dates(certificate: crypto.X509) -> tuple[datetime, datetime]:
    """From when to when it is valid."""
    begins, ends = (
        # RFC 5280, 4.1.2.5: always in UTC, without fractions.
        datetime.strptime((stamp or b"").decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
        for stamp in (certificate.get_notBefore(), certificate.get_notAfter())
    )
    return begins, ends
