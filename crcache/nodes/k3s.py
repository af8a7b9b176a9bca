"""k3s and RKE2: an entry for all registries in registries.yaml, put into the text so that comments stay."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from crcache.errors import ConfigError
from crcache.nodes.files import Files, Step
from crcache.nodes.plan import BACKUP, EDITED, Mirror, Plan, digest, keep_copy, plan_own, plan_own_removal

_PLACES = {"/etc/rancher/k3s": "k3s", "/etc/rancher/rke2": "rke2-server"}
_FILE, _CA = "registries.yaml", "crcache-ca.pem"
_BEGIN, _END = "# crcache hosts, begin: sha256 ", "# crcache hosts, end"
_BLOCK = re.compile(
    rf"^ *{re.escape(_BEGIN)}(\w*)\r?\n(.*?)^ *{re.escape(_END)}[ \r]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)


def plan(files: Files, mirror: Mirror) -> Plan:
    """What makes k3s's or RKE2's containerd ask C{mirror} first, and each registry itself if that fails.

    @raise ConfigError: if a file is there that cannot be added to; with what to do by hand.
    """
    directories = _directories(files)
    result = Plan(reload=_reload(directories))
    for directory in directories:
        path, ca = f"{directory}/{_FILE}", f"{directory}/{_CA}"
        before = files.read(path)
        text, edited = without(before or "")
        document = _load(files, path, text)
        mirrors = document.get("mirrors") or {}
        if mirror.url in _endpoints(mirrors.get("*")):
            result.notes.append(f'{files.shown(path)}: mirrors has "*" with {mirror.url} already')
            continue
        after = _added(files, path, text, document, mirror, ca)
        if mirror.ca is not None:
            plan_own(files, result, ca, mirror.ca)
        for name, entry in mirrors.items():
            if mirror.url not in _endpoints(entry):
                result.notes.append(f"{files.shown(path)}: mirrors has {name}, which goes before crcache")
        if after != before:
            if before is not None and text == before:
                keep_copy(files, result, path, before, BACKUP)
            elif before is not None and edited:
                keep_copy(files, result, path, before, EDITED)
            own = "".join(found[0] for found in _BLOCK.finditer(after))
            result.steps.append(Step(path, after, mode=0o600, told=own))
        if mirror.ca is None:
            plan_own_removal(files, result, ca)
    return result


def plan_removal(files: Files) -> Plan:
    """What takes that back, and leaves what has been changed since as it is."""
    directories = _directories(files)
    result = Plan(reload=_reload(directories))
    for directory in directories:
        path = f"{directory}/{_FILE}"
        before, backup = files.read(path), files.read(path + BACKUP)
        if before is not None:
            text, edited = without(before)
            if edited:
                keep_copy(files, result, path, before, EDITED)
            if text != before and backup is not None and text.strip() == backup.strip():
                result.steps.append(Step(path, backup, like=path + BACKUP))
            elif text != before:
                result.steps.append(Step(path, text if text.strip() or backup is not None else None))
            if backup is not None and text.strip() == backup.strip():
                result.steps.append(Step(path + BACKUP, None, quiet=True))
        plan_own_removal(files, result, f"{directory}/{_CA}")
    return result


def without(text: str) -> tuple[str, bool]:
    """A file without what crcache put into it, and whether that had been edited."""
    edited = any(found[1] != digest(found[2]) for found in _BLOCK.finditer(text))
    return _BLOCK.sub("", text), edited


def _directories(files: Files) -> list[str]:
    return [each for each in _PLACES if files.is_directory(each)] or list(_PLACES)[:1]


def _reload(directories: list[str]) -> str:
    commands = " and ".join(f"'systemctl restart {_PLACES[each]}'" for each in directories)
    return f"{commands} (on agents {' and '.join(_agent(each) for each in directories)}) makes this take effect"


def _agent(directory: str) -> str:
    return "rke2-agent" if directory.endswith("rke2") else "k3s-agent"


def _load(files: Files, path: str, text: str) -> dict[str, Any]:
    shown = files.shown(path)
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{shown}{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown}: is not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{shown}: must be a mapping")
    for key in ("mirrors", "configs"):
        if not isinstance(document.get(key) or {}, dict):
            raise ConfigError(f"{shown}: {key}: must be a mapping")
    return document


def _endpoints(entry: object) -> list[str]:
    found = entry.get("endpoint") if isinstance(entry, dict) else None
    return [str(each).rstrip("/") for each in found] if isinstance(found, list) else []


def _added(files: Files, path: str, text: str, document: dict[str, Any], mirror: Mirror, ca: str) -> str:
    """The text with crcache in it.

    @raise ConfigError: if what then is read is not exactly that.
    """
    shown = files.shown(path)
    if "*" in (document.get("mirrors") or {}):
        raise ConfigError(f'{shown}: mirrors has "*" already: put {mirror.url} first in its endpoint list yourself')
    wanted = {**document, "mirrors": {**(document.get("mirrors") or {}), "*": {"endpoint": [mirror.url]}}}
    after = _insert(text, "mirrors", ['"*":', "  endpoint:", f"    - {json.dumps(mirror.url)}"])
    if mirror.ca is not None:
        wanted["configs"] = {**(document.get("configs") or {}), mirror.address: {"tls": {"ca_file": ca}}}
        after = _insert(
            after, "configs", [f"{json.dumps(mirror.address)}:", "  tls:", f"    ca_file: {json.dumps(ca)}"]
        )
    try:
        same = yaml.safe_load(after) == wanted and without(after)[0].strip() == text.strip()
    except yaml.YAMLError:
        same = False
    if not same:
        endpoint = f'"*": {{endpoint: [{json.dumps(mirror.url)}]}}'
        raise ConfigError(
            f"{shown}: is written in a way that cannot be added to: put {endpoint} under mirrors yourself"
        )
    return after


def _insert(text: str, section: str, lines: list[str]) -> str:
    """C{lines} as the first in a section, or with the section at the end."""
    if text and not text.endswith("\n"):
        text += "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == section:
            indent = key.start_mark.column + 2
            if isinstance(value, yaml.MappingNode) and value.value:
                indent = value.value[0][0].start_mark.column
            at = key.start_mark.line + 1
            rows = text.splitlines(keepends=True)
            return "".join([*rows[:at], _block(lines, indent), *rows[at:]])
    return text + _block([f"{section}:", *(f"  {line}" for line in lines)], 0)


def _block(lines: list[str], indent: int) -> str:
    space = " " * indent
    body = "".join(f"{space}{line}\n" for line in lines)
    return f"{space}{_BEGIN}{digest(body)}\n{body}{space}{_END}\n"
