"""The flags of C{twistd crcache}."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from twisted import copyright as twisted_copyright
from twisted.python import usage

from crcache import __version__, values
from crcache.config import DEFAULT_FILE, Loaded, Overrides, admin_endpoint, load
from crcache.endpoints import check_endpoint
from crcache.errors import ConfigError
from crcache.grammar.excerpt import excerpt
from crcache.settings import LOG_FORMATS, LOG_LEVELS, Config
from crcache.units import format_duration, parse_duration
from crcache.yaml_file import one_line

T = TypeVar("T")


class Options(usage.Options):
    """The flags, and with L{parseOptions} the configuration that they and the file make together.

    A mistake in either ends the process with one line on stderr and exit status 1: what twistd prints of a
    C{UsageError} would bury it below all of its help, and Twisted 22.4 exits with 0.

    @ivar config: what is in force, once parsed.
    @ivar warnings: one line each, to be logged.
    @ivar credentials: how they are read again, if they are in a file.
    """

    synopsis = (
        "[options]\n\n"
        "A cache that clients of container registries pull through: what one\n"
        "client has pulled, the next one gets from disk."
    )

    longdesc = (
        "A flag wins over the file. The file can say more than the flags: systemd/crcache.yaml and"
        " docs/configuration.md explain each of its keys. 'crcache check-config' shows what is in force."
    )

    optParameters = [
        ["config", "c", None, f"The configuration file, in YAML. [default: {DEFAULT_FILE}, if it is there]"],
        ["cache-dir", "d", None, "Where the cache is kept. [default: $CACHE_DIRECTORY, else ~/.cache/crcache]"],
        [
            "cache-manifests",
            "m",
            None,
            "no: every manifest is asked of its origin; blobs are still cached. [default: yes]",
        ],
        ["creds-file", "f", None, "Credentials for registries: YAML, or docker's config.json."],
        ["ignore", "i", None, "Tags that are never cached, as a regular expression. [default: latest]"],
        ["port", "p", None, "Short for --listen tcp:PORT. [default: 3000]"],
        ["admin", None, None, f"Metrics and health, as --listen; off for none. [default: {Config.admin}]"],
        [
            "drain-timeout",
            None,
            None,
            "When told to stop, so long what is being sent may go on."
            f" [default: {format_duration(Config.drain_timeout)}]",
        ],
        [
            "log-format",
            None,
            None,
            "auto, journal, text or json; auto is the journal if stderr goes there, else text. [default: auto]",
        ],
        ["log-level", None, None, "The least that is logged: debug, info, warn or error. [default: info]"],
    ]

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        reactor: object = None,
        default_file: Path = DEFAULT_FILE,
    ) -> None:
        """
        @param environ: by default the process's own.
        @param reactor: what endpoint strings are tried with; by default the one that twistd has chosen.
        @param default_file: read if C{--config} is not there.
        """
        super().__init__()
        self._environ = os.environ if environ is None else environ
        self._reactor = reactor
        self._default_file = default_file
        self._listen: list[str] = []
        # twistd may change to another directory, and the file may vanish: what is read again is what was read first.
        self._directory = Path.cwd()
        self._file: Path | None = None

    def opt_listen(self, endpoint: str) -> None:
        """Where clients are served, as a Twisted endpoint; may be repeated. [default: tcp:3000]"""
        self._listen.append(endpoint)

    def opt_version(self) -> NoReturn:
        """Display the versions of crcache and Twisted, and exit."""
        print(f"crcache {__version__}\nTwisted {twisted_copyright.version}")
        raise SystemExit(0)

    opt_v = opt_version

    def getUsage(self, width: int | None = None) -> str:
        """The flags, set off from the synopsis."""
        return "\n" + super().getUsage(width)

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"unexpected argument {excerpt(arguments[0])}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As in the base class, but a mistake is a L{SystemExit} with the line to print."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(one_line(f"crcache: {error}; see 'twistd crcache --help'")) from None
        except ConfigError as error:
            raise SystemExit(f"crcache: {error.message}") from None

    def postOptions(self) -> None:
        loaded = self.load()
        self.config = loaded.config
        self._file = loaded.file
        self.warnings = loaded.warnings
        self.credentials = loaded.credentials

    def load(self) -> Loaded:
        """Read the files, again if need be, with the flags that were given.

        @raise ConfigError: with one line that names the flag, or the file and the key.
        """
        reactor = self._reactor
        if reactor is None:
            # Not at the top: importing it is what chooses a reactor, and twistd has a flag for that.
            from twisted.internet import reactor

        def endpoint(text: str) -> str:
            check_endpoint(text, reactor)
            return text

        def admin(text: str) -> str:
            return text if admin_endpoint(text) is None else endpoint(text)

        file = self._flag("config", self._path) or self._file
        port = self._flag("port", _port)
        listen = [] if port is None else [f"tcp:{port}"]
        listen += [_parse("listen", text, endpoint) for text in self._listen]
        overrides = Overrides(
            cache_directory=self._flag("cache-dir", self._path),
            cache_manifests=self._flag("cache-manifests", values.boolean),
            credentials_file=self._flag("creds-file", self._path),
            ignore=self._flag("ignore", values.pattern),
            listen=tuple(listen),
            admin=self._flag("admin", admin),
            drain_timeout=self._flag("drain-timeout", parse_duration),
            log_format=self._flag("log-format", values.one_of(LOG_FORMATS)),
            log_level=self._flag("log-level", values.one_of(LOG_LEVELS)),
        )
        return load(file, overrides, self._environ, reactor=reactor, default=self._default_file)

    def _path(self, text: str) -> Path:
        return values.absolute(text, self._directory)

    def _flag(self, name: str, parse: Callable[[str], T]) -> T | None:
        return None if self[name] is None else _parse(name, self[name], parse)


def _parse(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(one_line(f"--{flag}: {error}")) from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ValueError(f"{excerpt(text)} is not a port; it must be a number up to 65535")
    return int(text)
