"""The file of default credentials: YAML, or a docker C{config.json}."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path

from crcache import values
from crcache.errors import ConfigError, NameInvalid
from crcache.grammar.excerpt import excerpt
from crcache.grammar.reference import Registry, Repository
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.yaml_file import Entry, one_line, parse_yaml, read_file

#: A registry, and the components of a repository's path within it; C{()} is the whole registry.
Scope = tuple[Registry, tuple[str, ...]]

_DOCKER_KEYS = frozenset({"auths", "credsStore", "credHelpers"})

#: What a helper's name is after `docker-credential-`: no path, and no option.
_HELPER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# Docker Desktop keeps its own tokens beside the credentials, under what looks like more registries.
_DOCKER_TOKENS = ("/v1/access-token", "/v1/refresh-token")


def load_credentials(path: Path) -> tuple[Credentials, tuple[str, ...]]:
    """The credentials in a file by where they hold, and warnings of one line each.

    @raise ConfigError: with one line that names the file and the key.
    """
    text, public = read_file(path)
    found = parse_credentials(str(path), text)
    return found, (warn_public(path),) if public and found.entries else ()


def parse_credentials(source: str, text: str) -> Credentials:
    """The credentials in the text of such a file.

    @param source: what to call it in errors.
    @raise ConfigError: as L{load_credentials}. It shows nothing of the text but keys.
    """
    parsed = _parse_json(source, text) if text.lstrip().startswith("{") else None
    if parsed is not None and _DOCKER_KEYS & parsed.keys():
        return _from_docker(source, parsed)
    # JSON may be indented with tabs, YAML may not; JSON's strings have none in them.
    return Credentials(_from_yaml(parse_yaml(source, text if parsed is None else text.replace("\t", " "))))


def warn_public(path: Path) -> str:
    """The warning about a file with passwords that everybody may read."""
    return one_line(f"{path}: holds passwords and everybody on this machine can read it; chmod o-r {path}")


def credential(username: str, password: str) -> Credential:
    """A name and password that HTTP can carry.

    @raise ValueError: with what is wrong and what would be right.
    """
    # RFC 7617, 2: the name has no colon, and neither has control characters (L{Entry.text} has looked for those).
    if not username or ":" in username:
        raise ValueError("the username must not be empty and must not have a colon in it")
    if not password:
        raise ValueError("the password is empty")
    return Credential(username, Secret(password))


def parse_scope(text: str) -> Scope:
    """The scope that a key such as C{ghcr.io} or C{ghcr.io/team} names.

    @raise ValueError: with what is wrong and what would be right.
    """
    if "://" in text:
        raise ValueError("must be a registry such as ghcr.io, or registry/path, without https:// in front")
    host, _, prefix = text.removesuffix("/").partition("/")
    registry = values.registry(host)
    if not prefix:
        return registry, ()
    try:
        return registry, tuple(str(Repository.parse(prefix)).split("/"))
    except NameInvalid:
        raise ValueError(
            f"{excerpt(prefix)} is not the beginning of a repository's name, such as team/project"
        ) from None


# YAML ---------------------------------------------------------------------------------------


def _from_yaml(document: Entry) -> dict[Scope, Credential]:
    found: dict[Scope, Credential] = {}
    names: dict[Scope, str] = {}
    for key, entry in document.section().items():
        try:
            scope = parse_scope(key)
        except ValueError as error:
            raise entry.wrong(str(error)) from None
        if scope in found:
            raise entry.wrong(f"means the same as {names[scope]}, which is there too; keep one of them")
        fields = entry.section({"username", "password"})
        for needed in ("username", "password"):
            if needed not in fields:
                raise entry.wrong(f"has no {needed}")
        try:
            found[scope] = credential(fields["username"].text(), fields["password"].text())
        except ValueError as error:
            raise entry.wrong(str(error)) from None
        names[scope] = key
    return found


# docker -------------------------------------------------------------------------------------


def _parse_json(source: str, text: str) -> Mapping[str, object] | None:
    """The object in the text; C{None} if it is not JSON, for YAML may begin with a brace, too."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ConfigError(one_line(f"{source}:1: is nested too deeply")) from None
    except json.JSONDecodeError as error:
        if source.endswith(".json"):
            raise ConfigError(one_line(f"{source}:{error.lineno}: is not JSON: {error.msg}")) from None
        return None
    except ValueError:
        raise ConfigError(one_line(f"{source}:1: has a number in it that is too long")) from None
    return value if isinstance(value, dict) else None


def _from_docker(source: str, config: Mapping[str, object]) -> Credentials:
    store = config.get("credsStore") or ""
    return Credentials(
        _auths(source, _object(source, config, "auths")),
        _helpers(source, _object(source, config, "credHelpers")),
        _helper(source, "credsStore", store) if store else "",
    )


def _object(source: str, config: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise ConfigError(one_line(f"{source}: {key}: must be an object"))
    return found


def _helpers(source: str, section: Mapping[str, object]) -> dict[Registry, str]:
    found: dict[Registry, str] = {}
    for key, name in section.items():
        where = f"credHelpers.{key.rpartition('@')[2]}"
        try:
            registry, path = _docker_scope(key)
        except ValueError as error:
            raise ConfigError(one_line(f"{source}: {where}: {error}")) from None
        if path:
            raise ConfigError(one_line(f"{source}: {where}: must be a registry without a path: helpers know no paths"))
        # Docker's way to say that `credsStore` is not asked for this one.
        helper = _helper(source, where, name) if name else ""
        if found.get(registry, helper) != helper:
            raise ConfigError(one_line(f"{source}: {where}: is there under another name too; keep one of them"))
        found[registry] = helper
    return found


def _helper(source: str, where: str, name: object) -> str:
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        raise ConfigError(
            one_line(
                f"{source}: {where}: must be what follows docker-credential- in a program's name, such as ecr-login"
            )
        )
    return name


def _auths(source: str, auths: Mapping[str, object]) -> dict[Scope, Credential]:
    found: dict[Scope, Credential] = {}
    names: dict[Scope, str] = {}
    for key, entry in auths.items():
        if key.endswith(_DOCKER_TOKENS):
            continue
        try:
            scope = _docker_scope(key)
            opened = _docker_credential(entry)
        except ValueError as error:
            raise ConfigError(one_line(f"{source}: auths.{key.rpartition('@')[2]}: {error}")) from None
        if opened is None:
            continue
        if found.get(scope, opened) != opened:
            raise ConfigError(
                one_line(
                    f"{source}: auths.{key}: means the same as {names[scope]}, with other credentials; keep one of them"
                )
            )
        found[scope] = opened
        names[scope] = key
    return found


def _docker_scope(key: str) -> Scope:
    """Old clients write URLs, of which the host alone counts; newer ones registries, perhaps with a path."""
    _, separator, rest = key.partition("://")
    if separator:
        return parse_scope(rest.partition("/")[0])
    host, _, path = key.partition("/")
    return parse_scope(host if path.rstrip("/") in ("v1", "v2") else key)


def _docker_credential(entry: object) -> Credential | None:
    """One member of C{auths}; C{None} if there is nothing in it, as beside a credential helper."""
    if not isinstance(entry, dict):
        raise ValueError("must be an object")
    fields: dict[str, str] = {}
    for name in ("auth", "username", "password", "identitytoken", "registrytoken"):
        value = entry.get(name) or ""
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{name} must be text")
        fields[name] = value
    username, password = fields["username"], fields["password"]
    if fields["auth"]:
        try:
            decoded = base64.b64decode(fields["auth"], validate=True).decode("utf-8")
        except ValueError:
            raise ValueError("auth is not base64") from None
        username, colon, password = decoded.partition(":")
        password = password.rstrip("\0")
        if not colon or not (username + password).isprintable():
            raise ValueError("auth is not the base64 of username:password")
    if fields["identitytoken"]:
        return Credential(username, Secret(fields["identitytoken"]), identity_token=True)
    if not username and not password:
        if fields["registrytoken"]:
            raise ValueError("registrytoken is not supported; use username and password, or identitytoken")
        return None
    return credential(username, password)
