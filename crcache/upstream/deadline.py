"""Work that must be done by a certain time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def within(work: Deferred[T], seconds: float, clock: Any, error: Callable[[], Exception]) -> Deferred[T]:
    """The work's own Deferred. After that time it is cancelled, and however it then fails, it fails with C{error()}."""

    def late(result: Any, timeout: float) -> Any:
        if isinstance(result, Failure):
            raise error()
        return result

    return work.addTimeout(seconds, clock, late)
