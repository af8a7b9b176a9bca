"""What content names, if it is a manifest. All of it blocks."""

from __future__ import annotations

import os
import stat

from crcache.errors import OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import LIMIT, parse_manifest
from crcache.store.contents import READING
from crcache.store.layout import Layout

#: Where the beginning of an object is looked for.
_BEGINNING = 64


def named(layout: Layout, digest: Digest) -> list[Digest]:
    """The content that this content names, each once; nothing if it is missing, cannot be read, or no manifest.

    Its bytes are not checked against its digest: they say only what is kept for how long.
    """
    try:
        fd = os.open(layout.content(digest), READING)
    except OSError:
        return []
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT:
            return []
        data = os.pread(fd, _BEGINNING, 0)
        if data.lstrip()[:1] != b"{":
            return []
        while len(data) < found.st_size and (more := os.pread(fd, found.st_size - len(data), len(data))):
            data += more
        return [child.digest for child in parse_manifest(data, None).children]
    except (OSError, OriginLied):
        return []
    finally:
        os.close(fd)
