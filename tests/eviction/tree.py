"""A large cache directory, made quickly: for measuring by hand, and a small one for tests.

C{python -m tests.eviction.tree DIRECTORY FILES} makes one; a tenth of the files are manifests of ten layers each.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from pathlib import Path

from crcache.grammar.manifest import OCI_MANIFEST

LAYERS = 10


def make(root: Path, files: int, now: float) -> int:
    """Make it; how many bytes its files have. Blobs have holes in place of bytes, and other bytes than their names say.

    @param now: in seconds since the epoch; the files were used within the year before it.
    """
    directory = root / "blobs" / "sha256"
    directory.mkdir(parents=True)
    chance = random.Random(files)
    names: list[str] = []
    total = 0
    for number in range(files):
        used = now - chance.random() * 365 * 86400
        if number % 10:
            size = chance.randrange(1 << 20, 1 << 26)
            name = hashlib.sha256(b"%d" % number).hexdigest()
            fd = os.open(directory / name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o440)
            os.ftruncate(fd, size)
            names.append(name)
        else:
            layers = [{"digest": f"sha256:{each}", "size": 1} for each in names[-LAYERS:]]
            data = json.dumps({"mediaType": OCI_MANIFEST, "layers": layers, "number": number}).encode()
            size = len(data)
            name = hashlib.sha256(data).hexdigest()
            fd = os.open(directory / name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o440)
            os.write(fd, data)
        os.utime(fd, (used, used))
        os.close(fd)
        total += size
    return total


if __name__ == "__main__":
    import time

    print(make(Path(sys.argv[1]), int(sys.argv[2]), time.time()))
