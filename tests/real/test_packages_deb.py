"""The Debian package: built, and looked at by Debian's and systemd's own tools. It is installed in other tests."""

from __future__ import annotations

import re
from pathlib import Path

from crcache import __version__
from tests.real.daemon import ROOT
from tests.real.debs import deb
from tests.real.processes import run
from tests.real.scene import Scene

UNITS = ("crcache.socket", "crcache.service", "crcache@.service")

#: What is in the package, but for Python's files, the documentation and the examples.
CONTENTS = {
    "etc/crcache/crcache.yaml",
    *(f"lib/systemd/system/{unit}" for unit in UNITS),
    "usr/bin/crcache",
    "usr/share/bash-completion/completions/crcache",
    "usr/share/fish/vendor_completions.d/crcache.fish",
    "usr/share/zsh/vendor-completions/_crcache",
    "usr/lib/systemd/catalog/crcache.catalog",
    "usr/lib/sysusers.d/crcache.conf",
    "usr/lib/tmpfiles.d/crcache.conf",
    "usr/share/lintian/overrides/crcache",
    "usr/share/man/man1/crcache.1.gz",
    "usr/share/man/man5/crcache.yaml.5.gz",
    "usr/share/man/man8/crcache.8.gz",
}


def said(*command: str) -> str:
    """What a program writes, to standard error too; it must not fail."""
    return run(["sh", "-c", '"$@" 2>&1', "sh", *command])


class DebTests(Scene):
    """One package, built once."""

    def unpacked(self) -> Path:
        """Its files, below a directory of this test's."""
        place = self.place("unpacked")
        run(["dpkg-deb", "--extract", str(deb()), str(place)])
        return place

    def test_name(self) -> None:
        """The file is called as Debian's are, and asks for Debian's packages of what setup.py asks for."""
        self.assertEqual(deb().name, f"crcache_{__version__}_all.deb")
        fields = run(["dpkg-deb", "--field", str(deb()), "Package", "Version", "Architecture", "Depends"])
        self.assertEqual(run(["dpkg-deb", "--field", str(deb()), "Recommends"]), "ca-certificates\n")
        self.assertIn(f"Package: crcache\nVersion: {__version__}\nArchitecture: all\n", fields)
        needs = re.findall(r"(?:Depends: |, )([\w.-]+)", fields)
        for need in ("python3-twisted", "python3-systemd", "python3-prometheus-client", "python3-tqdm", "systemd"):
            self.assertIn(need, needs)

    def test_contents(self) -> None:
        """All is there and nothing else, under Debian's names, and the configuration is a conffile."""
        place = self.unpacked()
        files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        python = {name for name in files if name.startswith("usr/lib/python3/dist-packages/")}
        documents = {name for name in files if name.startswith("usr/share/doc/crcache/")}
        self.assertEqual(files - python - documents, CONTENTS)
        self.assertIn("usr/lib/python3/dist-packages/twisted/plugins/crcache_plugin.py", python)
        self.assertEqual([name for name in python if name.endswith((".pyc", "dropin.cache"))], [])
        examples = {path.name for path in (ROOT / "systemd/examples").iterdir()}
        self.assertEqual({name.rpartition("/")[2] for name in documents if "/examples/" in name}, examples)
        # Compressed, if it is long, as Debian has it.
        changes = {name.rpartition("/")[2].removesuffix(".gz") for name in documents}
        self.assertLessEqual({"changelog", "CHANGELOG.md", "README.md", "operate.md"}, changes)
        control = self.place("control")
        run(["dpkg-deb", "--control", str(deb()), str(control)])
        self.assertEqual((control / "conffiles").read_text(), "/etc/crcache/crcache.yaml\n")

    def test_lintian(self) -> None:
        """lintian has nothing to say, but what an override gives the reason for."""
        # Not --fail-on: that counts what is overridden, too.
        flags = ["--display-info", "--pedantic", "--allow-root"]
        self.assertEqual(said("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "lintian", *flags, str(deb())), "")

    def test_verify(self) -> None:
        """systemd knows every directive in the units, and finds all that they refer to."""
        system = self.unpacked() / "lib/systemd/system"
        for unit in system.iterdir():
            # python3-twisted need not be installed here.
            unit.write_text(unit.read_text().replace("ExecStart=/usr/bin/twistd3 ", "ExecStart=/bin/true "))
        units = [str(system / unit.replace("@", "@1")) for unit in UNITS]
        # It exits with 0 whatever it finds.
        self.assertEqual(said("systemd-analyze", "verify", "--man=no", *units), "")

    def test_security(self) -> None:
        """Both services are confined as far as can be: 1.5 of 10 at most."""
        system = self.unpacked() / "lib/systemd/system"
        for unit in UNITS[1:]:
            run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", str(system / unit)])

    def test_man(self) -> None:
        """The pages are well-formed by mandoc's standards and by groff's."""
        for page in sorted((self.unpacked() / "usr/share/man").rglob("*.gz")):
            self.assertEqual(said("mandoc", "-T", "lint", str(page)), "")
            groff = ["man", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", str(page)]
            self.assertNotIn("warning", said("env", "LC_ALL=C.UTF-8", *groff), page.name)
