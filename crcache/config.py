"""From flags and YAML to the frozen L{Config<crcache.settings.Config>}; an error names the key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from re import Pattern

from crcache import values
from crcache.config_cache import BOUNDS_KEYS, read_bounds
from crcache.config_listening import read_limits, read_tls
from crcache.config_parents import read_parents
from crcache.config_reach import REACH_KEYS, read_reach
from crcache.config_registries import TIMES_KEYS, read_registries, read_times
from crcache.config_s3 import read_s3
from crcache.credentials_file import Scope, warn_public
from crcache.credentials_source import Reading, choose, is_there, read
from crcache.endpoints import check_endpoint, parse_tls
from crcache.errors import ConfigError
from crcache.grammar.excerpt import excerpt
from crcache.settings import LOG_FORMATS, LOG_LEVELS, Config, Credential, Times, UpstreamSettings
from crcache.units import parse_duration
from crcache.yaml_file import Entry, get, parse_yaml, read_file

#: Read if no other file is named, and if it is there.
DEFAULT_FILE = Path("/etc/crcache/crcache.yaml")

_TOP_KEYS = (
    "listen",
    "admin",
    "drain-timeout",
    "log-format",
    "log-level",
    "tls",
    "limits",
    "cache",
    "upstream",
    "reach",
    "parents",
    "registries",
)
_CACHE_KEYS = ("directory", "manifests", "ignore", *TIMES_KEYS, *BOUNDS_KEYS, "s3")
_UPSTREAM_KEYS = (
    "connect-timeout",
    "first-byte-timeout",
    "stall-timeout",
    "retries",
    "max-connections",
    "proxy",
)
_REACH_KEYS = ("default-registry", *REACH_KEYS)


@dataclass(frozen=True)
class Overrides:
    """What flags say in place of the file; C{None} or empty where there is no flag.

    @ivar admin: C{"off"} for none.
    """

    cache_directory: Path | None = None
    cache_manifests: bool | None = None
    credentials_file: Path | None = None
    ignore: Pattern[str] | None = None
    listen: tuple[str, ...] = ()
    admin: str | None = None
    drain_timeout: float | None = None
    log_format: str | None = None
    log_level: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A configuration, and what there is to say about it.

    @ivar file: the configuration file that was read, if any.
    @ivar warnings: one line each, for the administrator.
    @ivar credentials: how to read those again, if they are in a file.
    """

    config: Config
    file: Path | None
    warnings: tuple[str, ...] = ()
    credentials: Reading | None = None


def load(
    path: Path | None,
    overrides: Overrides,
    environ: Mapping[str, str],
    *,
    reactor: object,
    inherited: bool = True,
    default: Path = DEFAULT_FILE,
) -> Loaded:
    """The configuration in force; every file that it names is looked at now.

    Where both say something, a flag wins over the file, and the configuration file over the credentials file, which a
    flag, the environment or systemd names.

    @param path: the file; C{None} for C{default}, if that is there.
    @param environ: where the cache directory comes from if neither flag nor file names it, and the credentials.
    @param reactor: for endpoint strings to be tried with; nothing listens yet.
    @param inherited: as for L{check_endpoint}.
    @raise ConfigError: with one line, C{FILE:LINE: key: what is wrong}.
    """
    file = path or (default if is_there(default) else None)
    if file is None:
        document, public = parse_yaml("", ""), False
    else:
        text, public = read_file(file)
        document = parse_yaml(str(file), text)
    base = file.parent.absolute() if file else Path.cwd()
    # Sockets that systemd would have handed over are not missed when flags say where to listen instead.
    inherited = inherited and not overrides.listen
    reader = _Reader(base, lambda text: check_endpoint(text, reactor, inherited=inherited))
    config, own = reader.read(document, environ, overrides)
    _check_tls(config, file)
    warnings = [warn_public(file)] if file and public and own else []
    credentials, further, reading = read(choose(overrides.credentials_file, environ), own)
    return Loaded(replace(config, credentials=credentials), file, (*warnings, *further), reading)


def admin_endpoint(text: str) -> str | None:
    """What C{admin} says: an endpoint string, or C{None} for C{off} (which YAML takes for C{false})."""
    return None if text.lower() in ("off", "no", "false") else text


def default_cache_directory(environ: Mapping[str, str]) -> Path:
    """systemd's C{CacheDirectory=} (C{$CACHE_DIRECTORY}, the first of several), else the user's own.

    @raise ConfigError: if there is neither.
    """
    given = environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given).absolute()
    # https://specifications.freedesktop.org/basedir-spec/latest/: a relative path is invalid and ignored.
    shared = Path(environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "crcache"
    home = environ.get("HOME")
    try:
        return (Path(home) if home else Path.home()).absolute() / ".cache" / "crcache"
    except RuntimeError:
        raise ConfigError("--cache-dir: there is no home directory to keep the cache in; name a directory") from None


class _Reader:
    """Reads the file's entries.

    @ivar base: where relative paths in the file begin.
    """

    def __init__(self, base: Path, check_endpoint: Callable[[str], None]) -> None:
        self._base = base
        self._check_endpoint = check_endpoint

    def read(
        self, document: Entry, environ: Mapping[str, str], overrides: Overrides
    ) -> tuple[Config, Mapping[Scope, Credential]]:
        """Everything in the document, flags before it; the credentials apart."""
        top = document.section(_TOP_KEYS)
        cache = self._section(top, "cache", _CACHE_KEYS)
        reach = self._section(top, "reach", _REACH_KEYS)
        # What a flag overrides is read all the same: a mistake is told whichever flags there are.
        directory = get(cache, "directory", self._path, None)
        manifests = get(cache, "manifests", values.boolean, Config.cache_manifests)
        ignore = get(cache, "ignore", values.pattern, Config.ignore)
        listen = self._listen(top, Config.listen)
        admin = get(top, "admin", self._admin, Config.admin)
        drain = get(top, "drain-timeout", parse_duration, Config.drain_timeout)
        log_format = get(top, "log-format", values.one_of(LOG_FORMATS), Config.log_format)
        log_level = get(top, "log-level", values.one_of(LOG_LEVELS), Config.log_level)
        times = read_times(cache, Times())
        registries = read_registries(self._section(top, "registries", None), times, self._base)
        config = Config(
            cache_directory=overrides.cache_directory or directory or default_cache_directory(environ),
            make_parents=overrides.cache_directory is None and directory is None,
            listen=tuple(dict.fromkeys(overrides.listen or listen)),
            handed_over=_handed_over("listen" in top, listen, overrides),
            admin=admin if overrides.admin is None else admin_endpoint(overrides.admin),
            drain_timeout=drain if overrides.drain_timeout is None else overrides.drain_timeout,
            cache_manifests=manifests if overrides.cache_manifests is None else overrides.cache_manifests,
            ignore=ignore if overrides.ignore is None else overrides.ignore,
            times=times,
            bounds=read_bounds(cache),
            tls=read_tls(top, self._base),
            limits=read_limits(top),
            upstream=_upstream(self._section(top, "upstream", _UPSTREAM_KEYS)),
            reach=read_reach(reach),
            default_registry=get(reach, "default-registry", values.registry, Config.default_registry),
            parents=read_parents(top, self._base),
            log_format=overrides.log_format or log_format,
            log_level=overrides.log_level or log_level,
            registries=registries.settings,
            s3=read_s3(cache, self._base),
        )
        return config, registries.credentials

    def _section(self, top: Mapping[str, Entry], key: str, known: Collection[str] | None) -> dict[str, Entry]:
        return top[key].section(known) if key in top else {}

    def _listen(self, top: Mapping[str, Entry], default: tuple[str, ...]) -> tuple[str, ...]:
        if "listen" not in top:
            return default
        return tuple(entry.convert(self._endpoint) for entry in top["listen"].several())

    def _path(self, text: str) -> Path:
        return values.absolute(text, self._base)

    def _endpoint(self, text: str) -> str:
        self._check_endpoint(text)
        return text

    def _admin(self, text: str) -> str | None:
        endpoint = admin_endpoint(text)
        return None if endpoint is None else self._endpoint(endpoint)


def _check_tls(config: Config, file: Path | None) -> None:
    """Whether there is something to show where TLS is to be spoken.

    @raise ConfigError: naming the key.
    """
    for each in (*config.listen, *([config.admin] if config.admin else [])):
        if config.tls is None and parse_tls(each) is not None:
            where = "" if file is None else f"{file}: "
            raise ConfigError(f"{where}tls: is missing, with the certificate and key that {excerpt(each)} shows")


def _handed_over(said: bool, listen: tuple[str, ...], overrides: Overrides) -> str:
    """See L{Config.handed_over}. Whoever names one of systemd's sockets names all that are to be served."""
    if overrides.listen or any(each.partition(":")[0] == "systemd" for each in listen):
        return "no"
    return "beside" if said else "instead"


def _upstream(section: Mapping[str, Entry]) -> UpstreamSettings:
    default = UpstreamSettings()
    return UpstreamSettings(
        connect_timeout=get(section, "connect-timeout", values.timeout, default.connect_timeout),
        first_byte_timeout=get(section, "first-byte-timeout", values.timeout, default.first_byte_timeout),
        stall_timeout=get(section, "stall-timeout", values.timeout, default.stall_timeout),
        retries=get(section, "retries", values.at_least(0), default.retries),
        max_connections=get(section, "max-connections", values.at_least(1), default.max_connections),
        proxy=get(section, "proxy", values.proxy_url, default.proxy),
    )
