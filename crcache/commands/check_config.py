"""C{crcache check-config}: what is in force, or what is wrong."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from crcache import config
from crcache.config_cache import describe_bounds
from crcache.credentials.helper import find
from crcache.errors import ConfigError
from crcache.settings import Config, ParentSettings, RegistrySettings, Times
from crcache.units import format_duration
from crcache.upstream.proxy import Proxies

NAME = "check-config"
HELP = "show the configuration that is in force, or the mistake in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, named as those of C{twistd crcache}."""
    parser.description = (
        "Read the configuration as the daemon would and print what is in force, defaults included and passwords"
        " excepted. A mistake is one line on stderr that names the file and the key."
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        help=f"the configuration file (default: {config.DEFAULT_FILE}, if it is there)",
    )
    parser.add_argument(
        "-f", "--creds-file", metavar="FILE", type=Path, help="credentials: YAML, or docker's config.json"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of YAML")


def run(arguments: argparse.Namespace) -> int:
    """Print it.

    @raise ConfigError: with the line to print instead.
    """
    from twisted.internet import reactor

    loaded = config.load(
        arguments.config,
        config.Overrides(credentials_file=arguments.creds_file),
        os.environ,
        reactor=reactor,
        inherited=False,
    )
    loaded = replace(loaded, warnings=(*loaded.warnings, *_proxies(loaded.config), *_missing(loaded.config)))
    if arguments.json:
        report = {
            "file": str(loaded.file) if loaded.file else None,
            "warnings": list(loaded.warnings),
            "config": describe(loaded.config),
            "credentials": describe_credentials(loaded.config),
            "helpers": describe_helpers(loaded.config),
        }
        print(json.dumps(report, indent=2))
        return 0
    print(f"# from {loaded.file}" if loaded.file else f"# defaults alone: there is no {config.DEFAULT_FILE}")
    for warning in loaded.warnings:
        print(f"# warning: {warning}")
    print(yaml.safe_dump(describe(loaded.config), sort_keys=False, allow_unicode=True, width=1000), end="")
    for scope, username in describe_credentials(loaded.config).items():
        print(f"# credentials for {scope}: {username or 'a token'}")
    for scope, program in describe_helpers(loaded.config).items():
        print(f"# credentials for {scope}: asked of {program}")
    return 0


def _proxies(settings: Config) -> tuple[str, ...]:
    """What is wrong with the proxies of this environment; the daemon's own may be another one."""
    try:
        Proxies(settings.upstream.proxy, os.environ)
    except ConfigError as problem:
        return (f"started from here, the daemon would end with: {problem.message}",)
    return ()


def _missing(settings: Config) -> tuple[str, ...]:
    """The helpers that are not found here; the daemon's own environment may be another one."""
    names = {settings.credentials.store, *settings.credentials.helpers.values()} - {""}
    return tuple(
        f"docker-credential-{name} is not on PATH: what it knows is not used"
        for name in sorted(names)
        if find(name, os.environ) is None
    )


def describe(settings: Config) -> dict[str, object]:
    """The configuration as a file would say it, with nothing left to defaults and without credentials."""
    upstream = settings.upstream
    return {
        "listen": list(settings.listen),
        "admin": settings.admin or "off",
        "drain-timeout": format_duration(settings.drain_timeout),
        "log-format": settings.log_format,
        "log-level": settings.log_level,
        **_tls(settings),
        "limits": {
            "connections": settings.limits.connections,
            "connections-per-peer": settings.limits.connections_per_peer,
            "requests-per-peer": settings.limits.requests_per_peer,
        },
        "cache": {
            "directory": str(settings.cache_directory),
            "manifests": settings.cache_manifests,
            "ignore": settings.ignore.pattern,
            **_times(settings.times),
            **describe_bounds(settings.bounds),
            **_s3(settings),
        },
        "upstream": {
            "connect-timeout": format_duration(upstream.connect_timeout),
            "first-byte-timeout": format_duration(upstream.first_byte_timeout),
            "stall-timeout": format_duration(upstream.stall_timeout),
            "retries": upstream.retries,
            "max-connections": upstream.max_connections,
            **({"proxy": upstream.proxy} if upstream.proxy else {}),
        },
        "reach": {
            "allow": [str(each) for each in settings.reach.allow],
            "deny": [str(each) for each in settings.reach.deny],
            "default-registry": str(settings.default_registry),
        },
        "parents": [_parent(each) for each in settings.parents],
        "registries": {str(name): _registry(each) for name, each in settings.registries.items()},
    }


def describe_credentials(settings: Config) -> Mapping[str, str]:
    """The user name for each registry, or registry and path, that credentials are known for; no password."""
    return {
        "/".join((str(registry), *prefix)): credential.username
        for (registry, prefix), credential in settings.credentials.entries.items()
    }


def _tls(settings: Config) -> dict[str, object]:
    tls = settings.tls
    if tls is None:
        return {}
    clients = {} if tls.clients_ca is None else {"clients": {"ca": str(tls.clients_ca)}}
    return {"tls": {"certificate": str(tls.certificate), "key": str(tls.key), **clients}}


def _s3(settings: Config) -> dict[str, object]:
    s3 = settings.s3
    if s3 is None:
        return {}
    described: dict[str, object] = {"bucket": s3.bucket, "endpoint": s3.endpoint, "region": s3.region}
    if s3.prefix:
        described["prefix"] = s3.prefix
    described["path-style"] = s3.path_style
    if s3.ca is not None:
        described["ca"] = str(s3.ca)
    return {"s3": {**described, "timeout": format_duration(s3.timeout)}}


def describe_helpers(settings: Config) -> Mapping[str, str]:
    """The program that is asked for the credentials of each registry, C{*} for all others; without its directory if it
    is not found."""
    credentials = settings.credentials
    named = {str(registry): name for registry, name in credentials.helpers.items() if name}
    every = {"*": credentials.store} if credentials.store else {}
    return {scope: find(name, os.environ) or f"docker-credential-{name}" for scope, name in {**named, **every}.items()}


def _times(times: Times) -> dict[str, str]:
    return {
        "tag-ttl": format_duration(times.tag_ttl),
        "stale-if-error": format_duration(times.stale_if_error),
        "negative-ttl": format_duration(times.negative_ttl),
    }


def _parent(settings: ParentSettings) -> str | dict[str, str]:
    files = (("ca", settings.ca), ("client-cert", settings.client_cert), ("client-key", settings.client_key))
    described = {key: str(path) for key, path in files if path is not None}
    return {"url": settings.url, **described} if described else settings.url


def _registry(settings: RegistrySettings) -> dict[str, object]:
    described: dict[str, object] = {"url": list(settings.urls)}
    for key, path in (("ca", settings.ca), ("client-cert", settings.client_cert), ("client-key", settings.client_key)):
        if path is not None:
            described[key] = str(path)
    if settings.insecure_skip_verify:
        described["insecure-skip-verify"] = True
    described["access"] = settings.access
    if settings.trusted_hosts:
        described["trusted-hosts"] = [str(each) for each in settings.trusted_hosts]
    return {**described, **_times(settings.times)}
