"""Work that must not be left half done."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def to_the_end(work: Deferred[T]) -> T:
    """The result of work that goes on in a thread whatever happens here: a cancellation is heeded when it is over.

    @raise CancelledError: then, if there was one; the result is dropped.
    """
    results: list[T | Failure] = []
    waiting: list[Deferred[None]] = []

    def ended(result: T | Failure) -> None:
        results.append(result)
        for each in waiting:
            each.callback(None)

    work.addBoth(ended)
    cancelled: CancelledError | None = None
    while not results:
        waiting[:] = [Deferred()]
        try:
            await waiting[0]
        except CancelledError as error:
            cancelled = error
            waiting.clear()
    if cancelled is not None:
        raise cancelled
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
