"""What can be wrong with a bucket: told to administrators, never to clients, whose pulls go on without it."""

from __future__ import annotations


class Failed(Exception):
    """The bucket has not done what it should.

    @ivar message: one sentence for administrators, without any secret.
    @ivar silent: whether there was no answer in time, for which somebody may have waited.
    @ivar refused: whether it is somebody's mistake that time does not mend: keys, rights, the bucket's name.
    @ivar status: the HTTP status, if there was one.
    """

    def __init__(self, message: str, *, silent: bool = False, refused: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.silent = silent
        self.refused = refused
        self.status = status


class Wrong(Exception):
    """An object is not what its name says.

    @ivar message: what is wrong with it, without its name.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Elsewhere(Exception):
    """Somebody else is uploading it."""
