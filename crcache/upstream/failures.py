"""What went wrong at an origin, as one of our errors: one sentence, and nothing secret in it."""

from __future__ import annotations

from collections.abc import Iterator

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from crcache.errors import OriginError, OriginUnreachable
from crcache.upstream.dates import Outdated

_CLOSED = (ConnectionDone, ConnectionLost, ConnectionAborted)
_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived)
#: Failures of a request that say nothing about the origin if its connection had been idle before (RFC 9112, 9.3.1).
STALE_CONNECTION = _WRAPPERS


class Passing(OriginUnreachable):
    """There was no answer, but perhaps only this time: it is worth asking again soon."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that Twisted's HTTP client has wrapped into one, innermost only."""
    if isinstance(error, _WRAPPERS):
        for reason in error.reasons:
            yield from leaves(reason.value)
    else:
        yield error


def was_cancelled(error: BaseException) -> bool:
    """Whether the error is how a cancelled connection attempt or request ends."""
    return any(isinstance(leaf, (CancelledError, ConnectingCancelledError)) for leaf in leaves(error))


def explain(error: BaseException, where: str) -> OriginError:
    """The error for a request that got no answer.

    @param where: host and port, as the sentence names them.
    """
    if isinstance(error, OriginError):
        return error
    for leaf in leaves(error):
        if isinstance(leaf, _CLOSED):
            return Passing(f"{where} closed the connection before it answered; try again")
        sentence = _sentence(leaf, where)
        if sentence is not None:
            return OriginUnreachable(sentence)
    return OriginUnreachable(f"{where} answered something that is not HTTP; check the registry's url")


def _sentence(error: BaseException, where: str) -> str | None:
    if isinstance(error, DNSLookupError):
        return f"{where} cannot be resolved; check the name and this host's resolver"
    if isinstance(error, ConnectTimeout):
        return f"{where} did not accept a connection in time; check that it is up and reachable from here"
    if isinstance(error, (ConnectError, ConnectBindError, OSError)):
        return f"{where} cannot be connected to ({_reason(error)}); check that it is up and reachable from here"
    if isinstance(error, VerificationError):
        return f"{where} showed a certificate that is not for this name; check the registry's url"
    if isinstance(error, Outdated):
        return f"{where}: {error}"
    if isinstance(error, SSL.Error):
        return f"TLS with {where} failed ({tls_reason(error)}); check the registry's url, ca and client-cert"
    return None


def tls_reason(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in entries) or "the connection was closed"


def _reason(error: BaseException) -> str:
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return f"error {number}: {type(error).__name__}" if number else type(error).__name__
