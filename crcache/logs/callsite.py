"""Where in the code an event was logged."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType

_LOGGING = ("twisted.logger", "twisted.python.log", "twisted.python.threadable", "crcache.logs")
#: What was said before logging began is said again from there.
_REPLAYS = ("replayTo", "beginLoggingTo")


@dataclass(frozen=True)
class CallSite:
    """A line of code, as the journal's C{CODE_FILE}, C{CODE_LINE} and C{CODE_FUNC} name it."""

    file: str
    line: int
    function: str


def call_site() -> CallSite | None:
    """The call of a logger that this is called below of; C{None} if the event is older than that."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_LOGGING):
            if code.co_name in _REPLAYS:
                return None
        else:
            return CallSite(code.co_filename, frame.f_lineno, code.co_qualname)
        frame = frame.f_back
    return None
