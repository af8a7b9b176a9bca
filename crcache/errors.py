"""Every error crcache knows: its OCI code, its HTTP status, and whose fault it is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Fault(Enum):
    """Who would have to change something for the error to go away."""

    CLIENT = "client"
    ORIGIN = "origin"
    OURS = "ours"


class CrcacheError(Exception):
    """An error that a client may be told of.

    @ivar code: the code in the error JSON (distribution spec, "Error Codes"; `UNAVAILABLE` and
        `RANGE_INVALID` are distribution's own additions).
    @ivar status: the HTTP status of the answer, if nothing has been sent yet. Never 429.
    @ivar fault: whose it is.
    @ivar headers: further header lines of the answer, as (name, value).
    """

    code = "UNKNOWN"
    status = 500
    fault = Fault.OURS

    def __init__(self, message: str, *, detail: object = None, headers: Sequence[tuple[str, str]] = ()) -> None:
        """
        @param message: one sentence that says what to do; shown to the client, so without any secret.
        @param detail: anything JSON can carry.
        """
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.headers = tuple(headers)


# The client's ------------------------------------------------------------------------------


class NameInvalid(CrcacheError):
    """A registry's or repository's name is not of the grammar, or does not say which registry."""

    code, status, fault = "NAME_INVALID", 400, Fault.CLIENT


class TagInvalid(CrcacheError):
    """A reference is neither a tag nor a digest."""

    code, status, fault = "TAG_INVALID", 400, Fault.CLIENT


class DigestInvalid(CrcacheError):
    """A digest is not of the grammar, or of an algorithm that is not served."""

    code, status, fault = "DIGEST_INVALID", 400, Fault.CLIENT


class RequestInvalid(CrcacheError):
    """The request's query or headers cannot be understood."""

    code, status, fault = "UNSUPPORTED", 400, Fault.CLIENT


class NotAllowed(CrcacheError):
    """The administrator does not let this registry be asked; the message names the key to change."""

    code, status, fault = "DENIED", 403, Fault.CLIENT


class NoSuchRoute(CrcacheError):
    """The path is none of the specification's."""

    code, status, fault = "UNSUPPORTED", 404, Fault.CLIENT


class MethodNotAllowed(CrcacheError):
    """A cache is read, not written."""

    code, status, fault = "UNSUPPORTED", 405, Fault.CLIENT


class RangeNotSatisfiable(CrcacheError):
    """The range begins past the end (RFC 9110, 15.5.17)."""

    code, status, fault = "RANGE_INVALID", 416, Fault.CLIENT


# The origin's ------------------------------------------------------------------------------


class OriginError(CrcacheError):
    """The origin is at fault.

    @ivar settled: whether the client's own credentials have been tried, too, or are known to be of no use.
    """

    code, status, fault = "UNAVAILABLE", 502, Fault.ORIGIN
    settled = False


class ManifestUnknown(OriginError):
    """The origin has no such manifest."""

    code, status = "MANIFEST_UNKNOWN", 404


class BlobUnknown(OriginError):
    """The origin has no such blob."""

    code, status = "BLOB_UNKNOWN", 404


class NameUnknown(OriginError):
    """The origin has no such repository."""

    code, status = "NAME_UNKNOWN", 404


class Unauthorized(OriginError):
    """The origin asks for credentials; C{headers} carry its `WWW-Authenticate` lines unchanged."""

    code, status = "UNAUTHORIZED", 401


class Denied(OriginError):
    """The origin forbids it."""

    code, status = "DENIED", 403


class AccessUnknown(OriginError):
    """The repository is private, and its origin cannot be asked who may read it."""

    status = 503


class Astray(OriginError):
    """The origin is, or sends us, where it must not: at no public address, or another port. Nothing was asked there.

    It says nothing of the client's credentials, nor of how the registry does, and no other try ends otherwise. The
    message names the key to change.
    """

    code, status = "DENIED", 403


class OriginRefused(OriginError):
    """The origin answered with another 4xx."""

    code, status = "UNKNOWN", 502


class OriginUnreachable(OriginError):
    """No connection, a TLS error, a connection closed before an answer, an answer that is not HTTP."""


class OriginFailed(OriginError):
    """The origin answered 5xx."""


class OriginBusy(OriginError):
    """The origin limits our rate (429), or has said when it will be well again. Clients are told 503: they would retry
    a 429 at once.

    @ivar seconds: for how long it wants to be left alone from now on, if it says so.
    """

    status = 503

    def __init__(self, message: str, *, seconds: float | None = None, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, headers=headers)
        self.seconds = seconds


def wanted(problem: CrcacheError) -> float | None:
    """For how many seconds the origin wants to be left alone, if the error says so."""
    return problem.seconds if isinstance(problem, OriginBusy) else None


class OriginTimeout(OriginError):
    """The origin did not answer, or stopped answering, in time."""

    status = 504


class OriginLied(OriginError):
    """What the origin sent is not what was asked for: another digest, another length, too large."""


class BodyCut(OriginError):
    """A body ended before its length, or came to a stop (L{OriginTimeout} is raised for a manifest's alone)."""


class GivenUp(BodyCut):
    """What has been sent so far may be wrong, and nobody says so: the digest will tell those who see all of it.

    Another process has given up what it fetched for this one as well, or somebody has touched a file.
    """


# Ours --------------------------------------------------------------------------------------


class StoreError(CrcacheError):
    """The cache directory failed us: full, read-only, gone, out of descriptors."""

    code, status, fault = "UNAVAILABLE", 503, Fault.OURS


class StoreAway(StoreError):
    """The cache directory is not there yet, or cannot be written for now: it may come by itself."""


class NoRoom(StoreError):
    """There is no room for it within the cache's bounds: it is passed on, and not kept."""


class Overloaded(CrcacheError):
    """There is no room for another request of this client's; containerd goes to the origin."""

    code, status, fault = "UNAVAILABLE", 503, Fault.OURS


class ShuttingDown(CrcacheError):
    """The daemon stops; containerd goes to the origin."""

    code, status, fault = "UNAVAILABLE", 503, Fault.OURS


class ConfigError(CrcacheError):
    """A flag or the configuration file is wrong. The message is one line naming the file and key, or the flag."""
