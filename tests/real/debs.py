"""The Debian package, built once for all tests that want it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.real.daemon import ROOT
from tests.real.processes import run


@cache
def deb(version: str = "") -> Path:
    """Build it from this checkout.

    @param version: by default crcache's own; a higher one is an upgrade.
    @return: the file.
    """
    return ROOT / run(["make", "-s", "-C", str(ROOT), "deb", f"VERSION={version}"], seconds=120).splitlines()[-1]
