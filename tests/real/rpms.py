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
    if not python_packages:
        return ROOT / run(command).splitlines()[-1]
    # Of the same name, and no package that anybody asked for.
    place = ROOT / "build/rpm-elsewhere"
    for macro in (
        f"_rpmdir {place}",
        f"python3_sitelib {python_packages}",
        "crcache_twistd /usr/bin/twistd3",
    ):
        command += ["--define", macro]
    return place / Path(run(command).splitlines()[-1]).name
