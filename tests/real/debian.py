"""A small Debian of its own, with all that crcache's package needs, made once."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from tests.real.daemon import ROOT
from tests.real.processes import run

_CONTROL = ROOT / "packaging/deb/control"
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
#: What it takes to boot it, and to try something in it.
_MORE = ("ca-certificates", "curl", "dbus", "iproute2", "rpm", "systemd-sysv")
_LEAN = ("--dpkgopt=path-exclude=/usr/share/locale/*",)


def root_archive() -> Path:
    """The root directory in a tar archive.

    It is kept in build/, and made anew when the package needs something else.
    """
    text = _CONTROL.read_text().split("\nDepends:\n")[1]
    wanted = [*_MORE]
    for line in text.splitlines():
        if not line.startswith(" "):
            break
        found = re.match(r" ([a-z][\w.+-]*)", line)
        wanted += [found[1]] if found else []
    mark = hashlib.sha256(" ".join([*wanted, *_LEAN]).encode()).hexdigest()[:16]
    archive = ROOT / "build/test-root" / f"debian-{mark}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        # Under another name until it is whole: somebody else may look for it, or want it too.
        partial = archive.with_suffix(f".{os.getpid()}.tar")
        sources = [str(_SOURCES)] if _SOURCES.exists() else []
        flags = ["--variant=minbase", "--quiet", f"--include={','.join(wanted)}", *_LEAN]
        run(["mmdebstrap", *flags, "bookworm", str(partial), *sources], seconds=300)
        partial.rename(archive)
    return archive
