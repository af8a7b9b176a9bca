"""What is built and installed: a wheel, an sdist, and a wheel of that sdist, all with the plugin where twistd looks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.request
import venv
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache import __version__

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "twisted/plugins/crcache_plugin.py"
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
TWISTD = "from twisted.scripts.twistd import run; run()"


def run(*command: str | Path, directory: Path) -> str:
    """Run a program to its end, away from this checkout.

    @return: what it wrote to standard output.
    @raise AssertionError: with all that it wrote, if it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a C{wheel} or an C{sdist} with the setuptools that is installed: nothing is fetched.

    @return: the file.
    """
    target.mkdir(parents=True)
    return target / run(sys.executable, "-c", BUILD, f"build_{kind}", target, directory=source).splitlines()[-1]


@dataclass(frozen=True)
class Built:
    """All that is built, once for all tests."""

    directory: Path
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@cache
def built() -> Built:
    """Build from a copy of this checkout, below trial's own directory."""
    directory = Path("packaging").resolve()
    shutil.rmtree(directory, ignore_errors=True)
    copy = directory / "checkout"
    made = [line.strip("/").rpartition("/")[2] for line in (ROOT / ".gitignore").read_text().splitlines()]
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", *made))
    sdist = build("sdist", copy, directory / "sdist")
    shutil.unpack_archive(sdist, directory / "unpacked")
    (unpacked,) = (directory / "unpacked").iterdir()
    wheel = build("wheel", copy, directory / "wheel")
    return Built(directory, wheel, sdist, build("wheel", unpacked, directory / "wheel-of-sdist"))


def contents(archive: Path) -> set[str]:
    """The files of a wheel, or of an sdist without its topmost directory."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as sdist:
        return {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def files(*directories: str) -> set[str]:
    """The modules of this checkout below these directories, as paths."""
    return {str(path.relative_to(ROOT)) for directory in directories for path in (ROOT / directory).rglob("*.py")}


class ContentTests(SynchronousTestCase):
    """What is in the archives."""

    def test_wheel(self) -> None:
        """A wheel has the whole package with C{crcache.testing} and C{py.typed}, the plugin, the licence: no more."""
        names = contents(built().wheel)
        information = {name for name in names if re.match(r"crcache-[^/]+\.dist-info/", name)}
        self.assertEqual(names - information, files("crcache") | {"crcache/py.typed", PLUGIN})
        self.assertIn("crcache/testing/__init__.py", names)
        self.assertTrue([name for name in information if name.endswith("/LICENSE")], information)

    def test_wheel_of_sdist(self) -> None:
        """An sdist gives the same wheel as the checkout."""
        self.assertEqual(contents(built().wheel_of_sdist), contents(built().wheel))

    def test_sdist(self) -> None:
        """An sdist has all that is needed to work on crcache, and no leftovers."""
        names = contents(built().sdist)
        self.assertLessEqual(files("crcache", "tests", "benchmarks") | {PLUGIN}, names)
        for expected in (
            *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml"),
            *(".ci/run", "tools/audit.sh", "requirements/audit.txt"),
            *("docs/architecture.md", "requirements/oldest.txt", "tests/real/packages.txt", "tools/make-venv.sh"),
            "systemd/crcache.yaml",
        ):
            self.assertIn(expected, names)
        self.assertEqual([name for name in names if name.endswith((".pyc", "dropin.cache"))], [])

    def test_twisted_stays_twisteds(self) -> None:
        """No checkout or archive makes C{twisted} or C{twisted.plugins} a package: that would hide Twisted's."""
        for names in (files("twisted"), contents(built().wheel), contents(built().sdist)):
            self.assertEqual({name for name in names if name.startswith("twisted/")}, {PLUGIN})

    def test_metadata(self) -> None:
        """The version is the package's own, and Python 3.11 is asked for."""
        about = metadata(built().wheel)
        self.assertEqual((about["Name"], about["Version"]), ("crcache", __version__))
        self.assertEqual(about["Requires-Python"], ">=3.11")


class InstalledTests(SynchronousTestCase):
    """What works once a wheel is installed: in an environment of its own that sees this one's dependencies."""

    def install(self, wheel: Path) -> Path:
        """@return: the environment."""
        place = built().directory / f"{wheel.parent.name}-installed"
        venv.create(place, clear=True, symlinks=True)
        (packages,) = place.glob("lib/python*/site-packages")
        # What an extra asks for need not be here.
        needs = re.findall(r"(?m)^([\w.-]+)(?!.*extra ==)", "\n".join(metadata(wheel).get_all("Requires-Dist", [])))
        places = sorted({str(distribution(need).locate_file("")) for need in needs})
        # Directories named in such a file are searched, but the files of this kind in them are not heeded: so an
        # editable crcache of this environment is not seen.
        (packages / "dependencies.pth").write_text("\n".join(places))
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            place / "bin/python",
        ]
        run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, directory=place)
        return place

    def check(self, wheel: Path) -> None:
        """Install a wheel, and find all that an administrator calls."""
        place = self.install(wheel)
        python = place / "bin/python"
        where = run(python, "-c", "import crcache; print(crcache.__file__)", directory=place)
        self.assertTrue(Path(where).is_relative_to(place), where)
        plugins = run(python, "-c", TWISTD, "--help", directory=place)
        self.assertRegex(plugins, r"(?m)^ +crcache +A pull-through cache of container registries\.$")
        flags = run(python, "-c", TWISTD, "crcache", "--help", directory=place)
        self.assertIn("--cache-dir", flags)
        self.assertEqual(run(place / "bin/crcache", "--version", directory=place), f"crcache {__version__}\n")
        self.serve(place)

    def serve(self, place: Path) -> None:
        """Start the daemon that is installed there, and have it answer."""
        flags = ["--listen", "tcp:0:interface=127.0.0.1", "--admin", "off", "--cache-dir", "cache"]
        command = [str(place / "bin/python"), "-c", TWISTD, "--nodaemon", "--pidfile=", "crcache", *flags]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with subprocess.Popen(command, cwd=place, env=environ, stdout=subprocess.PIPE, text=True) as daemon:
            killer = threading.Timer(20, daemon.kill)
            killer.start()
            try:
                assert daemon.stdout is not None
                ready = next((line for line in daemon.stdout if "is ready on" in line), "")
                address = re.search(r"is ready on (127\.0\.0\.1:\d+)", ready)
                assert address is not None, ready
                with urllib.request.urlopen(f"http://{address[1]}/v2/", timeout=10) as answer:
                    self.assertEqual((answer.status, answer.read()), (200, b"{}"))
            finally:
                killer.cancel()
                daemon.terminate()
                daemon.communicate()

    def test_wheel(self) -> None:
        """From a wheel, C{twistd} finds the plugin, and runs it; and there is a C{crcache} command."""
        self.check(built().wheel)

    def test_wheel_of_sdist(self) -> None:
        """So it is from an sdist."""
        self.check(built().wheel_of_sdist)
