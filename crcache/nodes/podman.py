"""podman, CRI-O, skopeo and buildah: a drop-in for registries.conf."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from crcache.errors import ConfigError
from crcache.nodes.files import Files
from crcache.nodes.plan import Mirror, Plan, plan_own, plan_own_removal
from crcache.nodes.toml_file import read_toml

_MAIN, _DROP_INS = "/etc/containers/registries.conf", "/etc/containers/registries.conf.d"
_OURS = "50-crcache.conf"
_CERTS = "/etc/containers/certs.d"
_CA = "crcache.crt"
_RELOAD = "podman, skopeo and buildah read this at each pull; CRI-O with 'systemctl reload crio'"

#: Each registry has to be named: a mirror for a wildcard would not be told which registry was meant.
REGISTRIES = (
    "docker.io",
    "ghcr.io",
    "quay.io",
    "registry.k8s.io",
    "gcr.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "registry.fedoraproject.org",
    "registry.opensuse.org",
    "nvcr.io",
    "docker.elastic.co",
    "lscr.io",
)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")


def parse_registry(text: str) -> str:
    """A registry's name as it can stand in the path of a mirror.

    @raise ValueError: with what is wrong with it.
    """
    if "*" in text:
        raise ValueError(f"{text!r}: a mirror is not told which registry a wildcard stood for: name each")
    if ":" in text:
        raise ValueError(f"{text!r}: these clients cannot have a registry with a port behind a mirror")
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a registry's host name, in lower case and with a dot in it")
    return text


def plan(files: Files, mirror: Mirror, registries: Sequence[str]) -> Plan:
    """What makes these clients ask C{mirror} first for each of C{registries}, and the registry itself if that fails.

    @param registries: none for L{REGISTRIES}.
    @raise ConfigError: if what is configured already cannot be understood.
    """
    result = Plan(reload=_RELOAD)
    known = _configured(files)
    chosen = []
    for registry in dict.fromkeys(registries or REGISTRIES):
        place = _place(mirror, registry)
        path, mirrors = known.get(registry, (None, []))
        if path is None:
            chosen.append(registry)
        elif place not in mirrors:
            # Of two entries with one prefix the later wins as a whole: ours would undo the administrator's, or the
            # other way round.
            line = f"{files.shown(path)}: has an entry for {registry}: add a [[registry.mirror]] {place} to it"
            (result.problems if registry in registries else result.notes).append(line)
    certificate = f"{_CERTS}/{mirror.address}/{_CA}"
    if mirror.ca is not None:
        plan_own(files, result, certificate, mirror.ca)
    _plan_old_certificates(files, result, certificate if mirror.ca is not None else None)
    if chosen:
        plan_own(files, result, f"{_DROP_INS}/{_OURS}", registries_conf(mirror, chosen))
    else:
        plan_own_removal(files, result, f"{_DROP_INS}/{_OURS}")
    return result


def plan_removal(files: Files) -> Plan:
    """What takes that back."""
    result = Plan(reload=_RELOAD)
    plan_own_removal(files, result, f"{_DROP_INS}/{_OURS}")
    _plan_old_certificates(files, result, None)
    return result


def registries_conf(mirror: Mirror, registries: Sequence[str]) -> str:
    """The file. The registry's name goes before the path, since these clients send no C{ns}."""
    lines = ["# These registries are asked for through crcache first, and directly if that is down or says no."]
    for registry in registries:
        lines += [
            "",
            "[[registry]]",
            f"prefix = {json.dumps(registry)}",
            f"location = {json.dumps(registry)}",
            "[[registry.mirror]]",
            f"location = {json.dumps(_place(mirror, registry))}",
        ]
        if not mirror.secure:
            lines.append("insecure = true")
    return "\n".join(lines) + "\n"


def _place(mirror: Mirror, registry: str) -> str:
    return f"{mirror.address}/{registry}"


def _configured(files: Files) -> dict[str, tuple[str, list[str]]]:
    """The registries that other files have an entry for: the last file that has, and the mirrors it names."""
    found = {}
    drop_ins = [name for name in files.names(_DROP_INS) if name.endswith(".conf") and name != _OURS]
    for path in [_MAIN, *(f"{_DROP_INS}/{name}" for name in drop_ins)]:
        for entry in _tables(files, path, "registry", read_toml(files, path) or {}):
            mirrors = [str(each.get("location")) for each in _tables(files, path, "mirror", entry)]
            found[str(entry.get("prefix") or entry.get("location"))] = (path, mirrors)
    return found


def _tables(files: Files, path: str, key: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigError(f"{files.shown(path)}: {key}: must be an array of tables")
    return found


def _plan_old_certificates(files: Files, result: Plan, keep: str | None) -> None:
    for name in files.names(_CERTS):
        path = f"{_CERTS}/{name}/{_CA}"
        if path != keep:
            plan_own_removal(files, result, path)
            if result.steps and result.steps[-1].path == path:
                result.directories.append(f"{_CERTS}/{name}")
