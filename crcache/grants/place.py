"""Where the processes of a host find each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """systemd's C{RuntimeDirectory=} (C{$RUNTIME_DIRECTORY}, the first of several), else one in the user's own.

    Relative ones are ignored, as the XDG specification has it. C{None}: there is none.
    """
    given = Path(environ.get("RUNTIME_DIRECTORY", "").split(":")[0])
    if given.is_absolute():
        return given
    shared = Path(environ.get("XDG_RUNTIME_DIR", ""))
    return shared / "crcache" if shared.is_absolute() else None
