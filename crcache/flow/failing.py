"""What is said of a fill that has failed."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel

from crcache import events
from crcache.errors import BlobUnknown, CrcacheError, Denied, NoRoom, OriginLied, StoreError, Unauthorized
from crcache.facts import Query

log = Logger()


def log_failure(problem: CrcacheError, query: Query) -> None:
    """Say it, as loudly as is fit."""
    if isinstance(problem, Unauthorized | Denied | BlobUnknown):
        # A plain no: the requests' own lines have it, or the client's credentials are tried next.
        told = "{registry} does not give {digest} to crcache itself: {problem} (request {request_id})"
        log.debug(told, problem=problem.message, **events.about(query))
        return
    wrong = isinstance(problem, OriginLied)
    if isinstance(problem, NoRoom):
        # Whoever passes it on says so.
        return
    log.emit(
        LogLevel.warn if wrong or isinstance(problem, StoreError) else LogLevel.info,
        "fetching {digest} from {registry} failed: {problem} (request {request_id})",
        event=events.CONTENT_WRONG if wrong else events.FETCH_FAILED,
        problem=problem.message,
        **events.about(query),
    )
