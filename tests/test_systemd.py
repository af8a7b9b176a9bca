"""What is in systemd/: units, and what is installed beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.config import DEFAULT_FILE
from crcache.credentials_source import CREDENTIAL
from crcache.options import Options
from crcache.settings import Config
from crcache.units import parse_duration

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "systemd"
SERVICES = ("crcache.service", "crcache@.service")

#: systemd.unit(5), systemd.socket(5), systemd.service(5), systemd.exec(5), systemd.resource-control(5), of those that
#: Debian 12's systemd 252 knows, the ones that are used here. Any other is a slip of the pen, or has to be added.
KNOWN = {
    "Unit": "After Before Description Documentation Requires StartLimitBurst StartLimitIntervalSec",
    "Socket": "Backlog BindIPv6Only FileDescriptorName ListenStream Service TriggerLimitIntervalSec",
    "Service": """
        AmbientCapabilities CacheDirectory CacheDirectoryMode CapabilityBoundingSet ConfigurationDirectory DevicePolicy
        Environment ExecPaths ExecReload ExecStart Group KeyringMode KillMode LimitCORE LimitNOFILE LoadCredential
        LoadCredentialEncrypted LockPersonality MemoryMax NoExecPaths NoNewPrivileges NonBlocking NotifyAccess
        PrivateDevices PrivateIPC PrivateMounts PrivateTmp PrivateUsers ProtectClock ProtectControlGroups ProtectHome
        ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem
        ReadWritePaths RemoveIPC Restart RestartSec RestrictAddressFamilies RestrictNamespaces RestrictRealtime
        RestrictSUIDSGID RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve SetCredential Sockets
        SystemCallArchitectures SystemCallErrorNumber SystemCallFilter TasksMax TimeoutStartSec TimeoutStopSec Type
        UMask User WatchdogSec
    """,
    "Install": "Also WantedBy",
}

Unit = dict[str, dict[str, list[str]]]


def parse(path: Path) -> Unit:
    """The directives by section, each with its values in order.

    @raise AssertionError: at a line that is none, or a directive that is not in L{KNOWN}.
    """
    found: Unit = {}
    section = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        heading = re.fullmatch(r"\[(\w+)\]", line)
        if heading is not None:
            section = heading[1]
            found.setdefault(section, defaultdict(list))
            continue
        name, equals, value = line.partition("=")
        if not equals or name not in KNOWN.get(section, "").split():
            raise AssertionError(f"{path.name}:{number}: [{section}] has no {line}")
        found[section][name].append(value)
    return found


def seconds(text: str) -> float:
    """A time as both systemd and crcache write it."""
    return parse_duration(text.replace("min", "m"))


class ServiceTests(SynchronousTestCase):
    """Both services, unless one is named."""

    def test_twins(self) -> None:
        """The template differs from the service in what several processes need, and in nothing else."""
        one, several = (parse(UNITS / name) for name in SERVICES)
        self.assertEqual(several["Service"].pop("Sockets"), ["crcache.socket"])
        (command,) = one["Service"].pop("ExecStart")
        self.assertEqual(several["Service"].pop("ExecStart"), [f"{command} --admin unix:/run/crcache/admin-%i.sock"])
        (description,) = one["Unit"].pop("Description")
        self.assertEqual(several["Unit"].pop("Description"), [f"{description}, process %i"])
        self.assertEqual(one, several)

    def test_flags(self) -> None:
        """The daemon takes the flags that it is started with."""
        for name in SERVICES:
            (command,) = parse(UNITS / name)["Service"]["ExecStart"]
            words = command.replace("%i", "1").split()
            self.assertEqual(words[:4], ["/usr/bin/twistd", "-n", "--pidfile=", "crcache"])
            options = Options({"CACHE_DIRECTORY": "/var/cache/crcache"}, object(), Path("/nonexistent"))
            options.parseOptions(words[4:])
            self.assertEqual(options.config.cache_directory, Path("/var/cache/crcache"))

    def test_times(self) -> None:
        """Draining fits into the time that stopping may take, with some left for what comes after it."""
        for name in SERVICES:
            service = parse(UNITS / name)["Service"]
            (stop,) = service["TimeoutStopSec"]
            self.assertGreaterEqual(seconds(stop), Config.drain_timeout + 10)

    def test_told(self) -> None:
        """It is systemd that is told of readiness, feeds on the watchdog, and can ask for a reload."""
        for name in SERVICES:
            service = parse(UNITS / name)["Service"]
            self.assertEqual((service["Type"], service["NotifyAccess"]), (["notify"], ["main"]))
            self.assertEqual(service["ExecReload"], ["sh -c 'kill -HUP $MAINPID'"])
            self.assertGreaterEqual(seconds(service["WatchdogSec"][0]), 10)
            self.assertEqual(service["Restart"], ["on-failure"])

    def test_gives_up(self) -> None:
        """One that cannot start uses up its attempts within the time in which they are counted, at 5 s each."""
        for name in SERVICES:
            unit = parse(UNITS / name)
            pause = seconds(unit["Service"]["RestartSec"][0])
            burst = int(unit["Unit"]["StartLimitBurst"][0])
            self.assertLess(burst * (5 + pause), seconds(unit["Unit"]["StartLimitIntervalSec"][0]))

    def test_shared_socket(self) -> None:
        """systemd leaves the socket as the processes that listen on it need it: accept() must not wait."""
        for name in SERVICES:
            self.assertEqual(parse(UNITS / name)["Service"]["NonBlocking"], ["yes"])

    def test_order(self) -> None:
        """It comes before all that pull through it, needs none of them, and does not wait for a network."""
        for name in SERVICES:
            unit = parse(UNITS / name)["Unit"]
            before = " ".join(unit["Before"]).split()
            for puller in ("containerd", "docker", "crio", "k3s", "k3s-agent", "rke2-server", "rke2-agent", "kubelet"):
                self.assertIn(f"{puller}.service", before)
            self.assertEqual(unit["Requires"], ["crcache.socket"])
            self.assertNotIn("network-online.target", " ".join(unit["After"]))

    def test_files(self) -> None:
        """The files and directories that it is given are those that crcache looks for, and tmpfiles.d makes."""
        tmpfiles = (UNITS / "crcache.tmpfiles").read_text()
        for name in SERVICES:
            service = parse(UNITS / name)["Service"]
            self.assertEqual(f"/etc/{service['ConfigurationDirectory'][0]}", str(DEFAULT_FILE.parent))
            self.assertEqual(service["LoadCredential"], [f"{CREDENTIAL}:/etc/crcache/credentials.yaml"])
            # Without this one, it would not start where there is no such file.
            self.assertEqual(service["SetCredential"], [f"{CREDENTIAL}:{{}}"])
            for key, above in (("Cache", "/var/cache"), ("Runtime", "/run")):
                directory, mode = service[f"{key}Directory"][0], service[f"{key}DirectoryMode"][0]
                self.assertIn(f"d {above}/{directory} {mode} crcache crcache -\n", tmpfiles)
            self.assertEqual(service["RuntimeDirectoryPreserve"], ["yes"])

    def test_user(self) -> None:
        """Its user is the one that sysusers.d makes."""
        made = re.findall(r"(?m)^u (\S+) ", (UNITS / "crcache.sysusers").read_text())
        for name in SERVICES:
            service = parse(UNITS / name)["Service"]
            self.assertEqual([service["User"], service["Group"]], [made, made])


class SocketTests(SynchronousTestCase):
    def test_port(self) -> None:
        """It listens where crcache would without it, and its name is the one that crcache logs."""
        unit = parse(UNITS / "crcache.socket")
        self.assertEqual([f"tcp:{port}" for port in unit["Socket"]["ListenStream"]], list(Config.listen))
        self.assertEqual(unit["Socket"]["FileDescriptorName"], ["crcache"])

    def test_enabling(self) -> None:
        """The socket can be enabled alone; a service starts it, and whoever disables that keeps the socket."""
        self.assertEqual(parse(UNITS / "crcache.socket")["Install"], {"WantedBy": ["sockets.target"]})
        for name in SERVICES:
            unit = parse(UNITS / name)
            self.assertEqual(unit["Install"], {"WantedBy": ["multi-user.target"]})
            self.assertEqual(unit["Unit"]["Requires"], ["crcache.socket"])


class ExampleTests(SynchronousTestCase):
    def test_drop_ins(self) -> None:
        """Each says where it goes, to a unit that there is, of the kind that its sections are for."""
        for path in sorted((UNITS / "examples").iterdir()):
            unit = parse(path)
            (place,) = re.findall(r"(?m)^# +/etc/systemd/system/(\S+)$", path.read_text())
            directory, _, name = place.partition("/")
            self.assertEqual(name, path.name)
            of = directory.removesuffix(".d")
            self.assertTrue((UNITS / of).is_file(), of)
            self.assertEqual(set(unit), {of.rpartition(".")[2].capitalize()}, path.name)

    def test_named(self) -> None:
        """An example that a unit or another file speaks of is there."""
        for path in UNITS.rglob("*"):
            if path.is_file():
                for name in re.findall(r"examples/(\S+\.conf)", path.read_text()):
                    self.assertTrue((UNITS / "examples" / name).is_file(), f"{path.name}: {name}")

    def test_credential(self) -> None:
        """The encrypted credential takes the place of the one in the unit, under its name."""
        service = parse(UNITS / "examples/credentials.conf")["Service"]
        self.assertEqual(service["LoadCredential"], [""])
        self.assertTrue(service["LoadCredentialEncrypted"][0].startswith(f"{CREDENTIAL}:"))


class ParseTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """A directive that systemd would ignore is found, and so is one in a section that is not its own."""
        path = Path(self.mktemp())
        for text in ("[Service]\nWatchDogSec=1\n", "[Unit]\nUser=x\n", "[Service]\nUser\n", "[Servce]\nUser=x\n"):
            path.write_text(text)
            self.assertRaises(AssertionError, parse, path)


class PackageTests(SynchronousTestCase):
    """The lists of what goes into packages."""

    def test_debian_dependencies(self) -> None:
        """The Debian package asks for what setup.py does, in the same versions, and for nothing else of Python's; what
        only a bucket needs it suggests."""
        control = (ROOT / "packaging/deb/control").read_text()
        setup = (ROOT / "setup.py").read_text()
        declared = dict(re.findall(r'"([\w.-]+) >= ([\d.]+)"', setup))
        declared.setdefault("systemd-python", "234")
        names = {"PyYAML": "yaml", "pyOpenSSL": "openssl", "systemd-python": "systemd"}
        expected = {f"python3-{names.get(name, name.lower())}": version for name, version in declared.items()}
        suggested = {"python3-botocore": expected.pop("python3-botocore")}
        self.assertEqual(dict(re.findall(r"(?m)^ (python3-[\w.-]+) \(>= ([\d.]+)\),$", control)), expected)
        self.assertEqual(dict(re.findall(r"(?m)^Suggests: (\S+) \(>= ([\d.]+)\)$", control)), suggested)

    def test_everything_is_installed(self) -> None:
        """What is in systemd/ goes into the Debian package."""
        debian = ROOT / "packaging/deb"
        text = "".join(
            (debian / name).read_text() for name in ("build.sh", "rules", "crcache.install", "crcache.examples")
        )
        for path in UNITS.iterdir():
            pattern = f"systemd/crcache*{path.suffix}" if path.name.startswith("crcache") else f"systemd/{path.name}/"
            named = f"systemd/{path.name}" in text or pattern in text or f"systemd/*{path.suffix}" in text
            self.assertTrue(named, path.name)
