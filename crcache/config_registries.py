"""The C{registries} section of the configuration file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crcache import pem, values
from crcache.config_reach import TRUSTED_HOSTS, read_trusted_hosts
from crcache.credentials_file import Scope, credential
from crcache.grammar.reference import Registry
from crcache.settings import ACCESS_OPEN, ACCESS_VERIFY, Credential, RegistrySettings, Times, default_urls
from crcache.units import parse_duration
from crcache.yaml_file import Entry, get

TIMES_KEYS = ("tag-ttl", "stale-if-error", "negative-ttl")

_KEYS = (
    "username",
    "password",
    "url",
    "ca",
    "client-cert",
    "client-key",
    "insecure-skip-verify",
    "access",
    TRUSTED_HOSTS,
    *TIMES_KEYS,
)


@dataclass(frozen=True)
class Registries:
    """What the section says: each registry's settings, and the credentials of those that have some."""

    settings: Mapping[Registry, RegistrySettings]
    credentials: Mapping[Scope, Credential]


def read_times(section: Mapping[str, Entry], inherited: Times) -> Times:
    """The times in C{section}; those that it lacks are C{inherited}."""
    return Times(
        tag_ttl=get(section, "tag-ttl", parse_duration, inherited.tag_ttl),
        stale_if_error=get(section, "stale-if-error", parse_duration, inherited.stale_if_error),
        negative_ttl=get(section, "negative-ttl", parse_duration, inherited.negative_ttl),
    )


def read_registries(section: Mapping[str, Entry], times: Times, base: Path) -> Registries:
    """Every registry in the section.

    @param times: for the registries that have none of their own.
    @param base: where relative paths begin.
    @raise ConfigError: naming the line and key.
    """
    settings: dict[Registry, RegistrySettings] = {}
    credentials: dict[Scope, Credential] = {}
    names: dict[Registry, str] = {}
    for key, entry in section.items():
        try:
            registry = values.registry(key)
        except ValueError as error:
            hint = "; a repository's path may stand in the credentials file" if "/" in key else ""
            raise entry.wrong(f"{error}{hint}") from None
        if registry in names:
            raise entry.wrong(f"is the same registry as {names[registry]}, which is there too; keep one of them")
        names[registry] = key
        fields = entry.section(_KEYS)
        settings[registry] = _registry(registry, fields, times, base)
        opened = _credential(entry, fields)
        if opened is not None:
            credentials[registry, ()] = opened
    return Registries(settings, credentials)


def _registry(registry: Registry, fields: Mapping[str, Entry], times: Times, base: Path) -> RegistrySettings:
    def file(key: str, check: Callable[[Path], Path]) -> Path | None:
        return get(fields, key, lambda text: check(values.absolute(text, base)), None)

    urls = default_urls(registry)
    if "url" in fields:
        urls = tuple(dict.fromkeys(url.convert(values.base_url) for url in fields["url"].several()))
    unchecked = get(fields, "insecure-skip-verify", values.boolean, False)
    if unchecked and "ca" in fields:
        raise fields["insecure-skip-verify"].wrong("checks no certificate, so ca has no meaning; keep one of them")
    if ("client-cert" in fields) != ("client-key" in fields):
        given, missing = sorted(("client-cert", "client-key"), key=lambda key: key not in fields)
        raise fields[given].wrong(f"needs {missing} too")
    certificate = file("client-cert", pem.certificates)
    return RegistrySettings(
        registry=registry,
        urls=urls,
        ca=file("ca", pem.certificates),
        client_cert=certificate,
        client_key=None if certificate is None else file("client-key", partial(pem.private_key_of, certificate)),
        insecure_skip_verify=unchecked,
        times=read_times(fields, times),
        access=get(fields, "access", values.one_of((ACCESS_VERIFY, ACCESS_OPEN)), ACCESS_VERIFY),
        trusted_hosts=read_trusted_hosts(fields),
    )


def _credential(entry: Entry, fields: Mapping[str, Entry]) -> Credential | None:
    if "username" not in fields and "password" not in fields:
        return None
    for key in ("username", "password"):
        if key not in fields:
            raise entry.wrong(f"has no {key}; username and password come together")
    try:
        return credential(fields["username"].text(), fields["password"].text())
    except ValueError as error:
        raise entry.wrong(str(error)) from None
