"""What a cache calls itself before others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from crcache.grammar.via import OURS


def pseudonym(directory: Path, boot: bytes) -> str:
    """The name that all processes on one cache directory of this host have, and nobody else. Blocks.

    Two containers may have it at the same path, and two hosts at the same inode.

    @param boot: which boot of which host this is.
    @raise OSError: if the directory cannot be looked at.
    """
    found = os.stat(directory)
    about = f"{boot.hex()} {found.st_dev} {found.st_ino}"
    return OURS + hashlib.sha256(about.encode()).hexdigest()[:16]
