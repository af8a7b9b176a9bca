"""L{crcache.options}."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted import copyright as twisted_copyright
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from crcache import __version__
from crcache.credentials_source import CREDENTIAL
from crcache.errors import ConfigError
from crcache.options import Options
from crcache.settings import Config


class OptionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.default = self.directory / "default.yaml"

    def write(self, text: str, name: str = "crcache.yaml") -> str:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def options(self) -> Options:
        return Options({"HOME": "/home/somebody"}, object(), self.default)

    def parse(self, *arguments: str) -> Config:
        options = self.options()
        options.parseOptions(arguments)
        return options.config

    def printed(self, *arguments: str) -> tuple[str, object]:
        """What stdout gets, and the exit status; stderr must get nothing."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            stop = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(err.getvalue(), "")
        return out.getvalue(), stop.code

    def refused(self, *arguments: str) -> str:
        """The line about this mistake. Python prints a L{SystemExit}'s text to stderr and exits with 1."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            stop = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(out.getvalue() + err.getvalue(), "")
        assert isinstance(stop.code, str)
        self.assertNotIn("\n", stop.code)
        self.assertTrue(stop.code.startswith("crcache: "), stop.code)
        return stop.code.removeprefix("crcache: ")


class FlagTests(OptionsCase):
    def test_none(self) -> None:
        """Without any flag the defaults are in force."""
        self.assertEqual(self.parse(), Config(cache_directory=Path("/home/somebody/.cache/crcache")))

    def test_every_flag(self) -> None:
        """Each flag, long and short, goes where it belongs."""
        config = self.write("cache: {tag-ttl: 5m}")
        credentials = self.write("ghcr.io: {username: u, password: p}", "credentials.yaml")
        for c, d, m, f, i, p in [
            ("-c", "-d", "-m", "-f", "-i", "-p"),
            ("--config", "--cache-dir", "--cache-manifests", "--creds-file", "--ignore", "--port"),
        ]:
            found = self.parse(
                *(c, config, d, "/srv/cache", m, "no", f, credentials, i, "^edge$", p, "4000"),
                *("--listen", "tcp:4001:interface=127.0.0.1", "--listen=tcp:4002", "--admin", "off"),
            )
            self.assertEqual(found.times.tag_ttl, 300.0)
            self.assertEqual(found.cache_directory, Path("/srv/cache"))
            self.assertFalse(found.cache_manifests)
            self.assertEqual([each.username for each in found.credentials.entries.values()], ["u"])
            self.assertEqual(found.ignore.pattern, "^edge$")
            self.assertEqual(found.listen, ("tcp:4000", "tcp:4001:interface=127.0.0.1", "tcp:4002"))
            self.assertIsNone(found.admin)

    def test_drain_timeout(self) -> None:
        """C{--drain-timeout} replaces what the file says, and is checked as there."""
        config = self.write("drain-timeout: 1m\n")
        self.assertEqual(self.parse("-c", config).drain_timeout, 60.0)
        self.assertEqual(self.parse("-c", config, "--drain-timeout", "500ms").drain_timeout, 0.5)

    def test_listen(self) -> None:
        """C{--port} and C{--listen} each replace what the file says."""
        config = self.write("listen: [tcp:1, tcp:2]\nadmin: tcp:3\n")
        self.assertEqual(self.parse("-c", config).listen, ("tcp:1", "tcp:2"))
        self.assertEqual(self.parse("-c", config, "-p", "4").listen, ("tcp:4",))
        self.assertEqual(self.parse("-c", config, "--listen", "tcp:4").listen, ("tcp:4",))
        self.assertEqual(self.parse("-c", config, "--admin", "tcp:4").admin, "tcp:4")

    def test_default_file(self) -> None:
        """The default file is read if no other is named."""
        self.default.write_text("cache: {directory: /srv/default}")
        self.assertEqual(self.parse().cache_directory, Path("/srv/default"))
        other = self.write("cache: {directory: /srv/other}")
        self.assertEqual(self.parse("-c", other).cache_directory, Path("/srv/other"))

    def test_credential_of_systemd(self) -> None:
        """Without C{--creds-file}, credentials are those that systemd hands over; none, and an empty file, are fine."""
        environ = {"HOME": "/home/somebody", "CREDENTIALS_DIRECTORY": str(self.directory)}
        self.write("quay.io: {username: named, password: p}", "other.yaml")
        for text, arguments, expected in [
            (None, [], []),
            ("{}", [], []),
            ("ghcr.io: {username: handed, password: p}", [], ["handed"]),
            ("ghcr.io: {username: handed, password: p}", ["-f", str(self.directory / "other.yaml")], ["named"]),
        ]:
            if text is not None:
                self.write(text, CREDENTIAL)
            options = Options(environ, object(), self.default)
            options.parseOptions(arguments)
            found = [each.username for each in options.config.credentials.entries.values()]
            self.assertEqual(found, expected, (text, arguments))

    def test_relative_directory(self) -> None:
        """A relative directory begins where the command was typed: twistd goes elsewhere before it serves."""
        self.assertEqual(self.parse("-d", "cache").cache_directory, Path.cwd() / "cache")

    def test_booleans(self) -> None:
        """C{--cache-manifests} takes the usual words."""
        for word, expected in [("yes", True), ("true", True), ("no", False), ("False", False), ("0", False)]:
            self.assertIs(self.parse("-m", word).cache_manifests, expected)

    def test_load_again(self) -> None:
        """The files can be read again, the flags in force as before; a mistake is then an error, not an exit."""
        config = self.write("cache: {tag-ttl: 5m, ignore: x}")
        options = self.options()
        options.parseOptions(["-c", config, "-i", "y"])
        self.write("cache: {tag-ttl: 7m, ignore: x}")
        again = options.load().config
        self.assertEqual((again.times.tag_ttl, again.ignore.pattern), (420.0, "y"))
        self.write("cache: {tag-ttl: 7}")
        self.assertRaises(ConfigError, options.load)

    def test_warnings(self) -> None:
        """Warnings are kept for the log."""
        path = Path(self.write("ghcr.io: {username: u, password: p}"))
        path.chmod(0o644)
        options = self.options()
        options.parseOptions(["-f", str(path)])
        self.assertEqual(len(options.warnings), 1)
        self.assertIn(str(path), options.warnings[0])

    def test_reactor(self) -> None:
        """Without a reactor of its own it takes the process's."""
        Options({"HOME": "/"}, default_file=self.default).parseOptions([])


class MistakeTests(OptionsCase):
    def test_one_line(self) -> None:
        """Each mistake is one line that names the flag."""
        for arguments, expected in [
            (["--bogus"], "option --bogus not recognized; see 'twistd crcache --help'"),
            (["-z"], "option -z not recognized; see"),
            (["--port"], "option --port requires argument; see"),
            (["something"], "unexpected argument 'something'; see"),
            (["--bo\ngus"], "option --bo\\ngus not recognized"),
            (["--port", "abc"], "--port: 'abc' is not a port"),
            (["--port", "70000"], "--port: '70000' is not a port"),
            (["--port", "-1"], "--port: '-1' is not a port"),
            (["--port", ""], "--port: '' is not a port"),
            (["--port", "٣"], "--port: '\\u0663' is not a port"),
            (["--cache-manifests", "maybe"], "--cache-manifests: must be yes or no, not 'maybe'"),
            (["--ignore", "("], "--ignore: '(' is not a regular expression: "),
            (["--ignore", ""], "--ignore: is empty"),
            (["--drain-timeout", "5"], "--drain-timeout: 5 needs a unit"),
            (["--listen", "3000"], "--listen: '3000' is not an endpoint; tcp:3000 is"),
            (["--listen", "foo:1"], "--listen: 'foo:1' is not an endpoint"),
            (["--listen", "off"], "--listen: 'off' is not an endpoint"),
            (["--listen", "tcp:1", "--listen", "tcp:x"], "--listen: 'tcp:x' is not an endpoint"),
            (["--admin", "tcp:99999"], "--admin: 'tcp:99999' has a port beyond 65535"),
            (["--cache-dir", ""], "--cache-dir: is empty"),
            (["--config", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
            (["--creds-file", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
        ]:
            message = self.refused(*arguments)
            self.assertTrue(message.startswith(expected), message)

    def test_in_the_file(self) -> None:
        """A mistake in the file names file, line and key."""
        config = self.write("cache:\n  tag-ttl: 60\n")
        self.assertTrue(self.refused("-c", config).startswith(f"{config}:2: cache.tag-ttl: "))

    def test_below_twistd(self) -> None:
        """twistd, which answers a C{UsageError} with all of its help, never gets to see one."""

        class Twistd(usage.Options):
            subCommands = [["crcache", None, self.options, "the cache"]]

        stop = self.assertRaises(SystemExit, Twistd().parseOptions, ["crcache", "--bogus"])
        self.assertIn("--bogus", stop.code)


class PrintTests(OptionsCase):
    def test_version(self) -> None:
        """C{--version} tells crcache's and Twisted's, whatever else is wrong."""
        expected = (f"crcache {__version__}\nTwisted {twisted_copyright.version}\n", 0)
        self.assertEqual(self.printed("--version"), expected)
        self.assertEqual(self.printed("-v"), expected)

    def test_help(self) -> None:
        """C{--help} says what it is, lists each flag with its default, and where to read on."""
        text, status = self.printed("--help")
        self.assertEqual(status, 0)
        words = " ".join(text.split())
        for expected in [
            "[options] A cache that clients of container registries pull through",
            "-c, --config=",
            "[default: /etc/crcache/crcache.yaml, if it is there]",
            "-d, --cache-dir=",
            "[default: $CACHE_DIRECTORY, else ~/.cache/crcache]",
            "-m, --cache-manifests=",
            "[default: yes]",
            "-f, --creds-file=",
            "-i, --ignore=",
            "[default: latest]",
            "-p, --port=",
            "[default: 3000]",
            "--listen=",
            "[default: tcp:3000]",
            "--admin=",
            "[default: tcp:3001:interface=127.0.0.1]",
            "-v, --version",
            "systemd/crcache.yaml",
        ]:
            self.assertIn(expected, words)
        self.assertNotIn("None", text)
        self.assertLessEqual(max(len(line) for line in text.splitlines()[1:]), 80)
