"""The file of default credentials: YAML, or a docker C{config.json}."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from crcache import values
from crcache.errors import ConfigError, NameInvalid
from crcache.grammar.excerpt import excerpt
from crcache.grammar.reference import Registry, Repository
from crcache.secret import Secret
from crcache.settings import Credential
from crcache.yaml_file import Entry, one_line, parse_yaml, read_file

#: A registry, and the components of a repository's path within it; C{()} is the whole registry.
Scope = tuple[Registry, tuple[str, ...]]

_DOCKER_KEYS = frozenset({"auths", "credsStore", "credHelpers"})

# Docker Desktop keeps its own tokens beside the credentials, under what looks like more registries.
_DOCKER_TOKENS = ("/v1/access-token", "/v1/refresh-token")


def load_credentials(path: Path) -> tuple[dict[Scope, Credential], tuple[str, ...]]:
    """The credentials in a file by where they hold, and warnings of one line each.

    @raise ConfigError: with one line that names the file and the key.
    """
    text, public = read_file(path)
    parsed = _parse_json(path, text) if text.lstrip().startswith("{") else None
    if parsed is not None and _DOCKER_KEYS & parsed.keys():
        entries = _from_docker(path, parsed)
    else:
        # JSON may be indented with tabs, YAML may not; JSON's strings have none in them.
        entries = _from_yaml(parse_yaml(str(path), text if parsed is None else text.replace("\t", " ")))
    return entries, (warn_public(path),) if public and entries else ()


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


def _parse_json(path: Path, text: str) -> Mapping[str, object] | None:
    """The object in the text; C{None} if it is not JSON, for YAML may begin with a brace, too."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ConfigError(one_line(f"{path}:1: is nested too deeply")) from None
    except json.JSONDecodeError as error:
        if path.suffix == ".json":
            raise ConfigError(one_line(f"{path}:{error.lineno}: is not JSON: {error.msg}")) from None
        return None
    except ValueError:
        raise ConfigError(one_line(f"{path}:1: has a number in it that is too long")) from None
    return value if isinstance(value, dict) else None


def _from_docker(path: Path, config: Mapping[str, object]) -> dict[Scope, Credential]:
    for key in ("credsStore", "credHelpers"):
        if config.get(key):
            raise ConfigError(
                one_line(f"{path}: {key}: credential helpers are not supported yet; put the credentials into auths")
            )
    auths = config.get("auths") or {}
    if not isinstance(auths, dict):
        raise ConfigError(one_line(f"{path}: auths: must be an object"))
    found: dict[Scope, Credential] = {}
    names: dict[Scope, str] = {}
    for key, entry in auths.items():
        if key.endswith(_DOCKER_TOKENS):
            continue
        try:
            scope = _docker_scope(key)
            opened = _docker_credential(entry)
        except ValueError as error:
            raise ConfigError(one_line(f"{path}: auths.{key.rpartition('@')[2]}: {error}")) from None
        if opened is None:
            continue
        if found.get(scope, opened) != opened:
            raise ConfigError(
                one_line(
                    f"{path}: auths.{key}: means the same as {names[scope]}, with other credentials; keep one of them"
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
