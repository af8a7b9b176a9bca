"""Room for what is about to be stored: the seam to whoever keeps the cache within its bounds."""

from __future__ import annotations

from typing import Protocol, TypeVar

T = TypeVar("T")


class Hold(Protocol):
    """Room that is set aside for one thing. For any thread."""

    def covers(self, size: int) -> bool:
        """Whether so many bytes in all may be written without asking. Cheap."""

    def take(self, size: int, there: int = 0, whole: int | None = None) -> None:
        """Have room for so many bytes in all. Blocks, perhaps while other content is removed.

        @param there: bytes of them that are on the disk already.
        @param whole: bytes of the thing, if there are more to come, for all of which there must be room in principle.
        @raise crcache.errors.NoRoom: if there is none to be had; what was held before still is.
        """

    def landed(self, count: int) -> None:
        """So many bytes of it are on the disk now. In the thread that has written them."""

    def release(self, left: bool = False) -> None:
        """It is over. Waits for nothing; idempotent.

        @param left: whether what is on the disk stays there, though nobody counts it yet.
        """


class Space(Protocol):
    """Who has it."""

    def hold(self) -> Hold:
        """One that holds nothing yet. Cheap."""


class Boundless:
    """As much as the disk has."""

    def hold(self) -> Hold:
        """As L{Space.hold}."""
        return self

    def covers(self, size: int) -> bool:
        """As L{Hold.covers}."""
        return True

    def take(self, size: int, there: int = 0, whole: int | None = None) -> None:
        """As L{Hold.take}."""

    def landed(self, count: int) -> None:
        """As L{Hold.landed}."""

    def release(self, left: bool = False) -> None:
        """As L{Hold.release}."""


def released(result: T, hold: Hold) -> T:
    """The result of what the room was for: it is over."""
    hold.release()
    return result
