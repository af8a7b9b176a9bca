"""How a command ends: the exit statuses, and what is told when it is misused."""

from __future__ import annotations

DONE = 0
FAILED = 1
MISUSED = 2
#: As shells tell of SIGINT and SIGPIPE.
INTERRUPTED = 130
CLOSED = 141


class Misused(Exception):
    """The arguments do not go together, or say too little. Status 2, and this one line."""

    def __init__(self, message: str) -> None:
        """
        @param message: what is wrong, and what would be right.
        """
        super().__init__(message)
        self.message = message
