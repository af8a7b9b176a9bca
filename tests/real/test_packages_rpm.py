"""The RPM package: what is in it, what it does when it is installed and removed, and what rpmlint says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from crcache import __version__
from tests.real.booted import Booted, base_root, wait_active
from tests.real.daemon import ROOT
from tests.real.debian import root_archive
from tests.real.hosted import MIRROR, Hosted
from tests.real.processes import Process, free_port, program, run
from tests.real.rpms import rpm
from tests.real.scene import CURL, Scene

#: Whatever those who run the tests prefer, Python writes its bytecode: that has to be removed, too.
AS_EVER = ("env", "--unset=PYTHONDONTWRITEBYTECODE")
#: Where the modules of Debian's packages are.
DEBIAN = "/usr/lib/python3/dist-packages"
SPEC = ROOT / "packaging/rpm/crcache.spec"
#: Names in the Fedora family of what setup.py asks for, where they are not `python3-` and the name.
FEDORA = {
    "prometheus-client": "python3-prometheus_client",
    "zope.interface": "python3-zope-interface",
}


def query(package: Path, *what: str) -> list[str]:
    """Lines of what rpm says of a package that is not installed."""
    return run(["rpm", "--query", "--package", *what, str(package)]).splitlines()


class PackageTests(Scene):
    """As `make rpm` builds it on this machine."""

    def test_make(self) -> None:
        """`make rpm VERSION=…` puts one package of that version into build/rpm, and leaves nothing else there."""
        (ROOT / "build/rpm").mkdir(parents=True, exist_ok=True)
        before = {*(ROOT / "build/rpm").iterdir()}
        target = ROOT / "build/rpm/crcache-9.8.7-1.noarch.rpm"
        self.addCleanup(target.unlink, missing_ok=True)
        run(["make", "rpm", "VERSION=9.8.7"], directory=ROOT)
        self.assertEqual({*(ROOT / "build/rpm").iterdir()} - before, {target})
        self.assertEqual(query(target, "--queryformat", "%{name} %{version} %{arch}\n"), ["crcache 9.8.7 noarch"])
        self.assertEqual(query(target, "--changelog")[0].rpartition(" - ")[2], "9.8.7-1")

    def test_version(self) -> None:
        """The specification's own version is crcache's: it is built without our script, too."""
        self.assertIn(f"\nVersion:        {__version__}\n", SPEC.read_text())
        self.assertEqual(query(rpm(), "--queryformat", "%{version}\n"), [__version__])

    def test_build_requires(self) -> None:
        """For the Fedora family, where they are built in a root with nothing else, it names what their macros run."""
        names = run(["rpmspec", "--query", "--buildrequires", str(SPEC)]).split()
        macros = {"pyproject-rpm-macros", "systemd-rpm-macros"}
        self.assertEqual({*names}, macros | {f"python3-{each}" for each in ("devel", "pip", "setuptools", "wheel")})

    def test_rpmlint(self) -> None:
        """rpmlint has nothing to say of the package or the specification, but what rpmlintrc gives reasons for."""
        said = run(["rpmlint", "--rpmlintrc", str(ROOT / "packaging/rpm/rpmlintrc"), str(rpm()), str(SPEC)])
        self.assertIn("1 packages and 1 specfiles checked; 0 errors, 0 warnings", said)

    def test_files(self) -> None:
        """It has all of the package, the plugin, units, pages and examples; where they belong, and nothing else."""
        files = {*query(rpm(), "--list")}
        (modules,) = (file.removesuffix("/crcache/tap.py") for file in files if file.endswith("/crcache/tap.py"))
        self.assertRegex(modules, r"^/usr/lib/python3\.\d+/site-packages$")
        python = {file.removeprefix(f"{modules}/") for file in files if file.endswith(".py")}
        wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "crcache").rglob("*.py")}
        self.assertEqual(python, wanted | {"twisted/plugins/crcache_plugin.py"})
        for expected in (
            "/etc/crcache/crcache.yaml",
            "/usr/bin/crcache",
            "/usr/share/bash-completion/completions/crcache",
            "/usr/share/fish/vendor_completions.d/crcache.fish",
            "/usr/share/zsh/site-functions/_crcache",
            "/usr/lib/systemd/catalog/crcache.catalog",
            "/usr/lib/systemd/system/crcache.service",
            "/usr/lib/systemd/system/crcache.socket",
            "/usr/lib/systemd/system/crcache@.service",
            "/usr/lib/sysusers.d/crcache.conf",
            "/usr/lib/tmpfiles.d/crcache.conf",
            f"/usr/share/licenses/crcache-{__version__}/LICENSE",
            f"/usr/share/doc/crcache-{__version__}/docs/configuration.md",
            f"{modules}/crcache-{__version__}.dist-info/METADATA",
        ):
            self.assertIn(expected, files)
        pages = {f"/usr/share/man/man{page.suffix[1:]}/{page.name}.gz" for page in (ROOT / "packaging/man").iterdir()}
        self.assertEqual({file for file in files if file.startswith("/usr/share/man/")}, pages)
        examples = {file.rpartition("/")[2] for file in files if "/examples/" in file}
        self.assertEqual(examples, {path.name for path in (ROOT / "systemd/examples").iterdir()})
        # Directories of others, such as Twisted's of plugins, would be removed together with this.
        others = (
            "/etc",
            "/usr/bin",
            "/usr/lib/systemd/system",
            modules,
            f"{modules}/twisted",
            f"{modules}/twisted/plugins",
        )
        self.assertEqual(files & {*others}, set())

    def test_configuration(self) -> None:
        """The configuration, and nothing else, is a file whose changes an upgrade keeps."""
        files = query(rpm(), "--queryformat", "[%{fileflags:fflags} %{filenames}\n]")
        marked = [line for line in files if line.startswith(("c", "n"))]
        self.assertEqual(marked, ["cn /etc/crcache/crcache.yaml"])

    def test_requires(self) -> None:
        """It asks for all that setup.py does, in the same versions, and for systemd's Python module."""
        asked = dict(re.findall(r'^ {8}"([\w.-]+) >= ([\d.]+)",$', (ROOT / "setup.py").read_text(), re.MULTILINE))
        self.assertIn("Twisted", asked)
        requires = query(rpm(), "--requires")
        for name, version in asked.items():
            fedora = FEDORA.get(name) or "python3-" + (name if name == "pyOpenSSL" else name.lower())
            self.assertIn(f"{fedora} >= {version}", requires)
        self.assertIn("python3-systemd >= 234", requires)
        self.assertIn("python3 >= 3.11", requires)

    def test_scripts(self) -> None:
        """Its scripts are good shell; none starts anything, none touches the socket but at the removal."""
        said = run(["rpm", "--query", "--package", "--scripts", str(rpm())])
        parts = re.split(r"^(\w+) scriptlet \(using /bin/sh\):$", said, flags=re.MULTILINE)[1:]
        scripts = dict(zip(parts[::2], parts[1::2], strict=True))
        self.assertEqual({*scripts}, {"preinstall", "postinstall", "preuninstall", "postuninstall"})
        for script in scripts.values():
            subprocess.run([program("sh"), "-n", "-c", script], check=True)
            self.assertNotRegex(script, r"%\{?\w|systemctl (--\S+ )*(start|enable|restart) ")
        self.assertIn("u crcache ", scripts["preinstall"])
        self.assertIn("getPlugins", scripts["postinstall"])
        self.assertIn("journalctl --update-catalog", scripts["postinstall"])
        self.assertIn("preset crcache.socket crcache.service", scripts["postinstall"])
        self.assertIn("disable --now crcache.socket crcache.service", scripts["preuninstall"])
        self.assertIn("try-restart crcache.service", scripts["postuninstall"])
        self.assertNotIn("crcache.socket", scripts["postuninstall"])


class BootedTests(Hosted):
    """On a Debian that is running: its systemd, and rpm."""

    def boot(self) -> Booted:
        """Without crcache."""
        return Booted(self.directory, base_root())

    def configure(self, **settings: object) -> None:
        """Not before the package is there."""

    def rpm(self, *arguments: str, package: Path | None = None) -> None:
        """Run rpm there. What Debian has installed is not known to it."""
        words = ["rpm", "--nodeps", "--force-debian", *arguments]
        if package is not None:
            self.system.copy(package, "/root/package.rpm")
            words.append("/root/package.rpm")
        self.system.run(*words, seconds=120)

    def server(self) -> str:
        """The version that serves."""
        found = re.search(r"(?m)^Server: crcache/(\S+)", self.curl("--head", f"http://127.0.0.1:{MIRROR}/v2/"))
        return found[1] if found else ""

    def test_life(self) -> None:
        """Enabled, it serves. An upgrade has the new version serve, with the same socket and the same configuration;
        instances are restarted as well, one after another. A removal closes the port.
        """
        self.rpm("--install", package=rpm(python_packages=DEBIAN))
        super().configure()
        mine = self.system.run("cat", "/etc/crcache/crcache.yaml")
        self.started()
        self.assertEqual((self.server(), self.status(self.manifest())), (__version__, "200"))
        opened = self.system.property("crcache.socket", "ActiveEnterTimestampMonotonic")

        self.rpm("--upgrade", package=rpm("9.8.6", DEBIAN))
        wait_active(self.system, "crcache.service")
        self.assertEqual((self.server(), self.status(self.manifest())), ("9.8.6", "200"))
        self.system.run("systemctl", "stop", "crcache.service")
        units = ["crcache@1.service", "crcache@2.service"]
        self.enable(*units)
        before = [self.system.property(unit, "MainPID") for unit in units]
        self.rpm("--upgrade", package=rpm("9.8.7", DEBIAN))
        self.assertEqual({*before} & {self.system.property(unit, "MainPID") for unit in units}, set())
        self.assertEqual((self.server(), self.status(self.manifest())), ("9.8.7", "200"))
        self.assertEqual(self.system.property("crcache.socket", "ActiveEnterTimestampMonotonic"), opened)
        self.assertEqual(self.system.run("cat", "/etc/crcache/crcache.yaml"), mine)

        self.rpm("--erase", "crcache")
        self.assertTrue(self.status().startswith("000"))
        self.assertEqual(self.system.says("systemctl", "list-units", "--no-legend", "crcache*.service"), "")
        self.no_tracebacks()


class InstalledTests(Scene):
    """On a Debian that is not running: its Python and its libraries, and rpm's own idea of what is installed."""

    def setUp(self) -> None:
        """Unpack the root directory."""
        super().setUp()
        self.root = self.place("root")
        run(["tar", "-xf", str(root_archive()), "-C", str(self.root)])
        run(["mount", "--bind", "/proc", str(self.root / "proc")])
        self.addCleanup(run, ["umount", str(self.root / "proc")])

    def rpm(self, *arguments: str) -> None:
        """Run rpm on that root. What Debian has installed is not known to it."""
        run([*AS_EVER, "rpm", "--root", str(self.root), "--nodeps", *arguments])

    def inside(self, *command: str) -> str:
        """Run a program there, and return what it wrote."""
        return run([*AS_EVER, "chroot", str(self.root), *command])

    def serve(self) -> None:
        """Start the daemon there, as its unit would, and have it answer."""
        unit = (self.root / "usr/lib/systemd/system/crcache.service").read_text()
        command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
        port = free_port()
        flags = ["--listen", f"tcp:{port}:interface=127.0.0.1", "--admin", "off", "--cache-dir", "/var/cache/crcache"]
        user = ["chroot", "--userspec=crcache:crcache", str(self.root)]
        self.inside("install", "-d", "-o", "crcache", "/var/cache/crcache")
        words = command.removeprefix("ExecStart=").split()
        daemon = self.ending(Process([*user, *words, *flags], self.directory / "log"))
        daemon.listens(port)
        self.assertEqual(run([*CURL, f"http://127.0.0.1:{port}/v2/"]), "{}")
        daemon.stop()
        for mistake in ("Traceback", "Unable to write to plugin cache"):
            self.assertNotIn(mistake, daemon.said())

    def test_life(self) -> None:
        """Installed, it has a user, its messages are explained, its daemon runs. An upgrade keeps what was changed in
        the configuration. A removal leaves that file, and nothing else but the user and the cache.
        """
        configuration = self.root / "etc/crcache/crcache.yaml"
        cache = self.root / "usr/lib/python3/dist-packages/twisted/plugins/dropin.cache"
        self.rpm("--install", str(rpm(python_packages=DEBIAN)))
        self.assertEqual(configuration.read_bytes(), (ROOT / "systemd/crcache.yaml").read_bytes())
        self.assertEqual(self.inside("crcache", "--version"), f"crcache {__version__}\n")
        self.assertIn(b"crcache_plugin", cache.read_bytes())
        ids = {*re.findall(r"^-- ([0-9a-f]{32})$", (ROOT / "systemd/crcache.catalog").read_text(), re.MULTILINE)}
        known = {line.split()[0] for line in self.inside("journalctl", "--list-catalog").splitlines()}
        self.assertTrue(ids)
        self.assertLessEqual(ids, known)
        self.serve()

        with configuration.open("a") as output:
            output.write("drain-timeout: 5s\n")
        mine = configuration.read_bytes()
        self.rpm("--upgrade", str(rpm("9.8.6", DEBIAN)))
        self.assertEqual(configuration.read_bytes(), mine)
        self.assertEqual(self.inside("crcache", "--version"), "crcache 9.8.6\n")
        self.serve()

        self.rpm("--erase", "crcache")
        self.assertNotIn(b"crcache_plugin", cache.read_bytes())
        known = {line.split()[0] for line in self.inside("journalctl", "--list-catalog").splitlines()}
        self.assertEqual(ids & known, set())
        self.inside("getent", "passwd", "crcache")
        saved = configuration.with_suffix(".yaml.rpmsave")
        self.assertEqual(saved.read_bytes(), mine)
        found = self.inside("find", "/", "-xdev", "-not", "-path", "/proc/*", "-name", "*crcache*").splitlines()
        # What is in /run is gone when the machine is started the next time.
        left = {"/etc/crcache", "/etc/crcache/crcache.yaml.rpmsave", "/run/crcache", "/var/cache/crcache"}
        self.assertEqual({*found}, left)
