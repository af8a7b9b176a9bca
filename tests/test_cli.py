"""L{crcache.cli} and L{crcache.commands}."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from crcache import __version__
from crcache.cli import COMMANDS, main
from crcache.config import Overrides, load
from tests.config_case import FULL, ConfigCase
from tests.credentials.programs import Shelf


class CommandCase(ConfigCase):
    def save(self, text: str, mode: int = 0o600, name: str = "crcache.yaml") -> str:
        return str(self.write(text, mode, name))

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
        return status, out.getvalue(), err.getvalue()


class MainTests(CommandCase):
    def test_nothing(self) -> None:
        """Alone it prints its help, and is misused."""
        status, out, err = self.run_main()
        self.assertEqual((status, out), (2, ""))
        for command in COMMANDS:
            self.assertIn(command.NAME, err)
        self.assertIn("twistd -n crcache", err)

    def test_help(self) -> None:
        """C{--help} is no misuse, of the whole and of each command."""
        self.assertEqual(self.run_main("--help")[::2], (0, ""))
        for command in COMMANDS:
            status, out, err = self.run_main(command.NAME, "--help")
            self.assertEqual((status, err), (0, ""))
            self.assertIn(f"usage: crcache {command.NAME}", out)

    def test_version(self) -> None:
        """C{--version} is crcache's."""
        self.assertEqual(self.run_main("--version"), (0, f"crcache {__version__}\n", ""))

    def test_misuse(self) -> None:
        """What it does not know is status 2 and on stderr."""
        for arguments in [("bogus",), ("--bogus",), ("check-config", "--bogus"), ("check-config", "x")]:
            status, out, err = self.run_main(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(arguments[-1], err)

    def test_terminals(self) -> None:
        """A terminal that has no sign for something is shown what it is, and one is not told to do anything by the name
        of a file, which may come from anywhere."""
        for encoding in ("latin-1", "ascii"):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "crcache.cli", "ls", "--help"],
                capture_output=True,
                check=False,
                env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertIn(b"sha256:\\u2026", done.stdout)
        cache = str(self.directory / "cache")
        status, out, err = self.run_main("import", "-c", self.save(""), "-d", cache, "\x1b[2J\n\u202e.tar")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "crcache: \\x1b[2J\\n\\u202e.tar cannot be read: No such file or directory\n")


class CheckConfigTests(CommandCase):
    def test_what_is_in_force(self) -> None:
        """What is printed is a configuration file that means the same, without its credentials."""
        original = self.save(FULL)
        status, out, err = self.run_main("check-config", "-c", original)
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"# from {original}\n", out)
        printed = self.save(out, name="printed.yaml")
        expected = load(Path(original), Overrides(), {}, reactor=object()).config
        found = load(Path(printed), Overrides(), {}, reactor=object()).config
        for field in expected.__dataclass_fields__:
            if field != "credentials":
                self.assertEqual(getattr(found, field), getattr(expected, field), field)

    def test_awkward_values(self) -> None:
        """Values that YAML would take for something else survive being printed."""
        original = self.save("admin: off\ncache: {ignore: 'no', tag-ttl: 0, directory: '/srv/a: b # c'}\n")
        printed = self.save(self.run_main("check-config", "-c", original)[1], name="printed.yaml")
        first, second = (load(Path(path), Overrides(), {}, reactor=object()).config for path in (original, printed))
        self.assertEqual(first, second)

    def test_credentials(self) -> None:
        """User names are shown, passwords never."""
        original = self.save("registries:\n  docker.io: {username: puller, password: s3cret1}\n")
        credentials = self.save(
            json.dumps({"auths": {"ghcr.io": {"identitytoken": "s3cret2"}, "quay.io": {"auth": "dTpzM2NyZXQz"}}}),
            name="config.json",
        )
        for flags in [(), ("--json",)]:
            status, out, err = self.run_main("check-config", "-c", original, "-f", credentials, *flags)
            self.assertEqual((status, err), (0, ""))
            for shown in ["docker.io", "puller", "ghcr.io", "quay.io"]:
                self.assertIn(shown, out)
            for hidden in ["s3cret", "dTpzM2"]:
                self.assertNotIn(hidden, out)

    def test_helpers(self) -> None:
        """Which helper is asked for which registry, and where it is; one that is missing is warned of."""
        shelf = Shelf(self.directory / "bin")
        there = shelf.add("cloud")
        self.patch(os, "environ", {**os.environ, **shelf.environ})
        helpers = {"gcr.io": "cloud", "quay.io": "missing", "docker.io": ""}
        credentials = self.save(json.dumps({"credHelpers": helpers, "credsStore": "pass"}), name="config.json")
        original = self.save("")
        status, out, _ = self.run_main("check-config", "-c", original, "-f", credentials)
        self.assertEqual(status, 0)
        for line in (
            f"# credentials for gcr.io: asked of {there}",
            "# credentials for quay.io: asked of docker-credential-missing",
            "# credentials for *: asked of docker-credential-pass",
            "# warning: docker-credential-missing is not on PATH: what it knows is not used",
            "# warning: docker-credential-pass is not on PATH: what it knows is not used",
        ):
            self.assertIn(line, out.splitlines())
        self.assertNotIn("docker.io: asked", out)
        _, out, _ = self.run_main("check-config", "-c", original, "-f", credentials, "--json")
        expected = {"gcr.io": str(there), "quay.io": "docker-credential-missing", "*": "docker-credential-pass"}
        self.assertEqual(json.loads(out)["helpers"], expected)
        self.assertEqual(shelf.count, 0)

    def test_json(self) -> None:
        """C{--json} is one JSON object with the same in it."""
        path = self.save(FULL, 0o644)
        status, out, err = self.run_main("check-config", "--json", "--config", path)
        report = json.loads(out)
        self.assertEqual((status, err, report["file"]), (0, "", path))
        self.assertEqual(report["config"]["cache"]["directory"], "/srv/cache")
        self.assertEqual(report["config"]["upstream"]["stall-timeout"], "500ms")
        self.assertEqual(report["config"]["registries"]["harbor.example.com"]["tag-ttl"], "5m")
        self.assertEqual(report["credentials"], {"docker.io": "puller"})
        self.assertIn(path, report["warnings"][0])

    def test_warning(self) -> None:
        """Passwords that everybody can read are warned of, and no mistake."""
        path = self.save("registries: {x.io: {username: u, password: p}}", 0o644)
        status, out, _ = self.run_main("check-config", "-c", path)
        self.assertEqual(status, 0)
        self.assertIn(f"# warning: {path}: ", out)

    def test_proxy_of_the_environment(self) -> None:
        """A proxy in the environment that is none is warned of, without its password; the daemon's may be another."""
        path = self.save("")
        self.patch(os, "environ", {**os.environ, "HTTPS_PROXY": "socks5://u:s3cret@127.0.0.1:1", "https_proxy": ""})
        status, out, _ = self.run_main("check-config", "-c", path)
        self.assertEqual(status, 0)
        self.assertIn("# warning: started from here, the daemon would end with: upstream.proxy (or HTTPS_PROXY", out)
        self.assertNotIn("s3cret", out)

    def test_sockets_of_systemd(self) -> None:
        """A file that listens on systemd's sockets can be checked where these are not."""
        path = self.save("listen: systemd:domain=INET:index=0")
        self.assertEqual(self.run_main("check-config", "-c", path)[0], 0)

    def test_mistake(self) -> None:
        """A mistake is the one line on stderr, and status 1."""
        path = self.save("\ncache:\n  most-size: 80%\n")
        for flags in [(), ("--json",)]:
            status, out, err = self.run_main("check-config", "-c", path, *flags)
            self.assertEqual((status, out, err.count("\n")), (1, "", 1))
            self.assertTrue(err.startswith(f"crcache: {path}:3: cache: unknown key 'most-size'"), err)

    def test_end_to_end(self) -> None:
        """The same from a shell: nothing else is printed."""
        for text, status in [("cache: {tag-ttl: 60}", 1), ("cache: {tag-ttl: 60s}", 0)]:
            path = self.save(text)
            done = subprocess.run(  # noqa: PLW1510
                [sys.executable, "-W", "ignore", "-m", "crcache.cli", "check-config", "-c", path],
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), status)
            self.assertEqual("tag-ttl: 1m\n" in done.stdout, status == 0)
