"""Processes that are killed before one of their changes to the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

#: What changes something on disk, or makes it lasting.
CHANGES = (
    "open", "pwrite", "pwritev", "write", "link", "rename", "unlink",
    "fchmod", "ftruncate", "fdatasync", "fsync", "utime", "rmdir",
)  # fmt: skip


class Dying:
    """The C{os} module to a process that is killed before its so-and-so-manieth change."""

    def __init__(self, changes: int) -> None:
        self._left = changes

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        return self._counted(function) if name in CHANGES else function

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return function(*args, **kwargs)

        return call


def lived(work: Callable[[], object], dying: Dying, modules: Iterable[ModuleType]) -> bool:
    """Whether a process lives through the work.

    @param dying: its C{os}, in these modules.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        for module in modules:
            vars(module)["os"] = dying
        work()
        os._exit(0)
    finally:
        os._exit(1)
