"""The RPM package, built once for all tests that want it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.real.daemon import ROOT
from tests.real.processes import run


@cache
def rpm(version: str = "", python_packages: str = "") -> Path:
    """Build it from this checkout.

    @param version: by default crcache's own.
    @param python_packages: the directory of Python modules that it is for, by default as in the Fedora family. Given
        one of Debian's, it is for twistd by Debian's name, too.
    @return: the file.
    """
    command = [str(ROOT / "packaging/rpm/build.sh"), version]
    if python_packages:
        command += ["--define", f"python3_sitelib {python_packages}", "--define", "crcache_twistd /usr/bin/twistd3"]
    return ROOT / run(command).splitlines()[-1]
