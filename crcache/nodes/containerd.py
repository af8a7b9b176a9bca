"""containerd: one hosts.toml for all registries."""

from __future__ import annotations

import json

from crcache.nodes.containerd_config import CERTS, ContainerdConfig, read_config
from crcache.nodes.files import Files
from crcache.nodes.plan import Mirror, Plan, plan_own, plan_own_removal

_DEFAULT, _CA = "_default", "crcache-ca.pem"
_RELOAD = "containerd reads this at each pull: nothing has to be restarted"


def plan(files: Files, mirror: Mirror, config: str) -> Plan:
    """What makes containerd ask C{mirror} first, and each registry itself if that fails.

    @param config: the path of containerd's own configuration, which is read, not written.
    @raise ConfigError: if that cannot be understood.
    """
    found = read_config(files, config)
    directory = _directory(found)
    result = Plan(reload=_RELOAD, problems=_problems(files, found, directory))
    if mirror.ca is not None:
        plan_own(files, result, f"{directory}/{_DEFAULT}/{_CA}", mirror.ca)
    plan_own(files, result, f"{directory}/{_DEFAULT}/hosts.toml", hosts_toml(mirror))
    if mirror.ca is None:
        plan_own_removal(files, result, f"{directory}/{_DEFAULT}/{_CA}")
    _notes(files, result, found, directory, mirror)
    return result


def plan_removal(files: Files, config: str) -> Plan:
    """What takes that back.

    @raise ConfigError: if containerd's configuration cannot be understood.
    """
    result = Plan(reload=_RELOAD)
    # config_path may have been set, or changed, since.
    for directory in dict.fromkeys([*read_config(files, config).directories, CERTS]):
        plan_own_removal(files, result, f"{directory}/{_DEFAULT}/hosts.toml")
        plan_own_removal(files, result, f"{directory}/{_DEFAULT}/{_CA}")
        if any(step.path.startswith(f"{directory}/{_DEFAULT}/") for step in result.steps):
            result.directories.append(f"{directory}/{_DEFAULT}")
    return result


def hosts_toml(mirror: Mirror) -> str:
    """The file. It names no C{server}: containerd takes the registry itself, last."""
    lines = [
        "# Every registry is asked for through crcache first, and directly if that is down or says no.",
        # A TOML basic string and a JSON string are alike for what a mirror's URL can be.
        f"[host.{json.dumps(mirror.url)}]",
        '  capabilities = ["pull", "resolve"]',
        '  dial_timeout = "2s"  # of containerd 2; older ones pass over it',
    ]
    if mirror.ca is not None:
        lines.append(f"  ca = {json.dumps(_CA)}")
    return "\n".join(lines) + "\n"


def _directory(found: ContainerdConfig) -> str:
    return found.directories[0] if found.directories else CERTS


def _problems(files: Files, found: ContainerdConfig, directory: str) -> list[str]:
    main = files.shown(found.file)
    problems = [f"{main}: imports {files.shown(each)}, which is not there" for each in found.missing]
    if found.inline:
        named = " and ".join(found.inline)
        verb = "are" if len(found.inline) > 1 or found.inline[0].endswith("mirrors") else "is"
        problems.append(
            f"{main}: {named} {verb} set, which containerd refuses beside config_path: move that into"
            f" {files.shown(directory)}/REGISTRY/hosts.toml"
        )
    if not found.directories:
        what = "config_path is not set" if found.exists else "is not there, and so config_path is not set"
        version = "" if found.exists else "version = 2 and "
        problems.append(
            f'{main}: {what}: add {version}{found.table} config_path = "{directory}", then restart containerd'
        )
    if found.disabled:
        problems.append(f'{main}: disabled_plugins has "cri": the kubelet cannot use containerd until it is taken out')
    return problems


def _notes(files: Files, result: Plan, found: ContainerdConfig, directory: str, mirror: Mirror) -> None:
    # Version 3 is containerd 2's, which merges the tables of all files. Below that it may be either.
    if found.version < 3 and found.replaced_by is not None:
        result.notes.append(
            f"{files.shown(found.replaced_by)}: containerd before 2.0 takes its CRI plugin's table in place of that in"
            f" {files.shown(found.file)}: repeat config_path there"
        )
    elif found.version < 3 and found.other_name:
        result.notes.append(
            f"{files.shown(found.file)}: containerd before 2.0 does not read config_path in that table, only in"
            f" {found.table}"
        )
    for name in files.names(directory):
        place = f"{directory}/{name}"
        if name == _DEFAULT or not files.is_directory(place):
            continue
        if json.dumps(mirror.url) not in (files.read(f"{place}/hosts.toml") or ""):
            result.notes.append(f"{files.shown(place)}: containerd goes by this for {_registry(name)}, not by crcache")
    for other in found.directories[1:]:
        for name in files.names(other):
            if name != _DEFAULT and files.is_directory(f"{other}/{name}"):
                result.notes.append(
                    f"{files.shown(other)}/{name}: containerd no longer looks there: move it to"
                    f" {files.shown(directory)}/{name}"
                )
    if found.directories[1:]:
        result.notes.append(
            f"{files.shown(found.file)}: config_path names several directories, which containerd 2.1 and 2.2 take for"
            f' one: if crcache is not asked, set it to "{directory}" alone'
        )


def _registry(name: str) -> str:
    host, _, port = name.removesuffix("_").rpartition("_")
    return f"{host}:{port}" if name.endswith("_") and port.isdigit() else name
