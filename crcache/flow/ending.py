"""How answers end that cannot be completed."""

from __future__ import annotations

from typing import Any, cast

from twisted.web.server import Request


def end_short(request: Request) -> None:
    """End an answer short of what its head announced: what was sent of it is right, but the rest cannot be had.

    containerd asks for the rest behind an orderly close, and fails its pull after a reset.
    """
    if request.channel is not None:
        cast(Any, request.channel).end_short()


def reset(request: Request) -> None:
    """Close a client's connection at once: of what was sent some is wrong, or may be."""
    if request.channel is not None:
        cast(Any, request.channel).transport.abortConnection()


def give_up(request: Request) -> None:
    """End an answer at once, as L{end_short} but for what is still to leave this process."""
    if request.channel is not None:
        cast(Any, request.channel).give_up()
