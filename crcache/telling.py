"""What is said when the disk fails us, which fails no pull."""

from __future__ import annotations

from twisted.logger import Logger

from crcache import events
from crcache.errors import StoreError


def cache_failed(log: Logger, what: str, thing: object, problem: StoreError, **fields: str) -> None:
    """Say that something could not be done.

    @param log: whoever tried it.
    @param what: that, as the sentence begins.
    @param thing: the ask or the question that it was for.
    @param fields: in place of those that follow from C{thing}.
    """
    log.warn(
        "{what} failed: {problem} (request {request_id})",
        event=events.CACHE_FAILED,
        what=what,
        problem=problem.message,
        **{**events.about(thing), **fields},
    )
