"""Docker: its daemon.json."""

from __future__ import annotations

import json
import re
from typing import Any

from crcache.errors import ConfigError
from crcache.nodes.files import Files, Step
from crcache.nodes.plan import BACKUP, Mirror, Plan, keep_copy, plan_own, plan_own_removal

_FILE = "/etc/docker/daemon.json"
# dockerd does not start with a key that it does not know, so what is ours is noted beside its file.
_RECORD = "/etc/docker/daemon.json.crcache"
_CERTS = "/etc/docker/certs.d"
_CA = "crcache.crt"
_RELOAD = "'systemctl reload docker' makes Docker read this"
_KEYS = ("registry-mirrors", "insecure-registries")
# Where dockerd's flags are, which it refuses beside the same key.
_FLAGS = {"registry-mirrors": "--registry-mirror", "insecure-registries": "--insecure-registry"}
_FLAG_FILES = ("/etc/default/docker", "/etc/sysconfig/docker", "/etc/systemd/system/docker.service")
_DROP_INS = "/etc/systemd/system/docker.service.d"


def plan(files: Files, mirror: Mirror) -> Plan:
    """What makes Docker ask C{mirror} first for images of Docker Hub, and Docker Hub itself if that fails.

    @raise ConfigError: if its file cannot be understood, or dockerd would not start with it.
    """
    result = Plan(reload=_RELOAD, notes=["Docker asks mirrors for images of Docker Hub only"])
    before = files.read(_FILE)
    record = _read_record(files)
    document = _read(files, before)
    _take_out(document, record)
    added: dict[str, list[str]] = {}
    values = {"registry-mirrors": mirror.url}
    if not mirror.secure and not mirror.loopback:
        values["insecure-registries"] = mirror.address
    _refuse_flags(files, list(values))
    for key, value in values.items():
        there = document.get(key, [])
        # Docker writes the URL of a mirror with a slash at its end.
        if value not in [each.rstrip("/") for each in there]:
            document[key] = [value, *there]
            added[key] = [value]
    certificate = f"{_CERTS}/{mirror.address}/{_CA}"
    if mirror.ca is not None:
        plan_own(files, result, certificate, mirror.ca)
    _plan_old_certificates(files, result, certificate if mirror.ca is not None else None)
    if record == added and document == _read(files, before):
        return result
    if before is not None and not record:
        keep_copy(files, result, _FILE, before, BACKUP)
    # Until the file is written the record names the old and the new, so that either can be taken back.
    both = {key: list(dict.fromkeys([*record.get(key, []), *added.get(key, [])])) for key in _KEYS}
    both = {key: values for key, values in both.items() if values}
    if both != record:
        result.steps.append(Step(_RECORD, _record(both), quiet=True))
    result.steps.append(Step(_FILE, json.dumps(document, indent=2) + "\n", told=json.dumps(added, indent=2) + "\n"))
    if both != added:
        result.steps.append(Step(_RECORD, _record(added) if added else None, quiet=True))
    return result


def plan_removal(files: Files) -> Plan:
    """What takes that back, and leaves what has been changed since as it is.

    @raise ConfigError: if Docker's file cannot be understood.
    """
    result = Plan(reload=_RELOAD)
    before, record, backup = files.read(_FILE), _read_record(files), files.read(_FILE + BACKUP)
    if before is not None and record:
        document = _read(files, before)
        _take_out(document, record)
        if backup is not None and _read(files, backup) == document:
            result.steps.append(Step(_FILE, backup, like=_FILE + BACKUP))
            result.steps.append(Step(_FILE + BACKUP, None, quiet=True))
        elif document or backup is not None:
            result.steps.append(Step(_FILE, json.dumps(document, indent=2) + "\n"))
        else:
            result.steps.append(Step(_FILE, None))
    elif before is not None and before == backup:
        result.steps.append(Step(_FILE + BACKUP, None, quiet=True))
    if files.read(_RECORD) is not None:
        result.steps.append(Step(_RECORD, None, quiet=True))
    _plan_old_certificates(files, result, None)
    return result


def _read(files: Files, text: str | None) -> dict[str, Any]:
    shown = files.shown(_FILE)
    try:
        document = json.loads(text) if text and text.strip() else {}
    except json.JSONDecodeError as error:
        raise ConfigError(f"{shown}:{error.lineno}: is not JSON: {error.msg[:1].lower()}{error.msg[1:]}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: is nested too deeply, or a number in it is too long") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{shown}: must be a JSON object")
    for key in _KEYS:
        value = document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{shown}: {key}: must be a list of strings")
    return document


def _refuse_flags(files: Files, keys: list[str]) -> None:
    drop_ins = [f"{_DROP_INS}/{name}" for name in files.names(_DROP_INS) if name.endswith(".conf")]
    for path in (each for each in (*_FLAG_FILES, *drop_ins) if files.is_file(each)):
        for number, line in enumerate((files.read(path) or "").splitlines(), 1):
            if line.lstrip().startswith(("#", ";")):
                continue
            for key in keys:
                # Not its value, in which there may be a password.
                if re.search(rf"(?<![\w-]){_FLAGS[key]}(?![\w-])", line):
                    raise ConfigError(
                        f"{files.shown(path)}:{number}: has {_FLAGS[key]}, and dockerd does not start with {key} in"
                        f" {files.shown(_FILE)} beside it: move that flag's value into {key} there first"
                    )


def _take_out(document: dict[str, Any], record: dict[str, list[str]]) -> None:
    for key, values in record.items():
        if key in document:
            document[key] = [each for each in document[key] if each.rstrip("/") not in values]
            if not document[key]:
                del document[key]


def _record(added: dict[str, list[str]]) -> str:
    return json.dumps({"what crcache hosts added": added}, indent=2) + "\n"


def _read_record(files: Files) -> dict[str, list[str]]:
    text = files.read(_RECORD)
    if text is None:
        return {}
    try:
        added = json.loads(text)["what crcache hosts added"]
        return {key: [str(each) for each in added[key]] for key in _KEYS if key in added}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{files.shown(_RECORD)}: is damaged: remove it, and crcache from {_FILE}") from error


def _plan_old_certificates(files: Files, result: Plan, keep: str | None) -> None:
    for name in files.names(_CERTS):
        path = f"{_CERTS}/{name}/{_CA}"
        if path != keep:
            count = len(result.steps)
            plan_own_removal(files, result, path)
            if len(result.steps) > count:
                result.directories.append(f"{_CERTS}/{name}")
