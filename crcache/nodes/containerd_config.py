"""What containerd's own configuration, in each of its versions, says of registries."""

from __future__ import annotations

import glob
import posixpath
from dataclasses import dataclass, field
from typing import Any

from crcache.errors import ConfigError
from crcache.nodes.files import Files
from crcache.nodes.toml_file import read_toml, table

#: Where containerd's configuration is, and the directory that its documentation names for hosts.toml files.
CONFIG, CERTS = "/etc/containerd/config.toml", "/etc/containerd/certs.d"

_PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}
_CRI = {"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"}


@dataclass
class ContainerdConfig:
    """What is in force.

    @ivar directories: of C{config_path}, in order; empty if it is not set.
    @ivar version: of the main file; 2 if there is none, since every containerd reads that.
    @ivar file: the file that sets C{config_path}, or else the main one.
    @ivar inline: the deprecated tables that cannot stand beside C{config_path}.
    @ivar disabled: whether the CRI plugin is off, so that the kubelet could not use it.
    @ivar missing: files that C{imports} names and that are not there; containerd does not start without them.
    """

    file: str
    exists: bool = False
    version: int = 2
    directories: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    disabled: bool = False
    missing: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        """The TOML table in which C{config_path} belongs."""
        plugin = _PLUGINS[min(self.version, 3)]
        return f"[plugins.{plugin}.registry]" if self.version == 1 else f'[plugins."{plugin}".registry]'


def read_config(files: Files, path: str) -> ContainerdConfig:
    """Read the file and all that it imports; what comes later wins, as for containerd.

    @raise ConfigError: naming the file, and the line if it is not TOML.
    """
    found = ContainerdConfig(path)
    pending, seen = [path], set()
    inline: dict[str, None] = {}
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        document = read_toml(files, current)
        if document is None:
            if current != path:
                found.missing.append(current)
            continue
        version = _version(files, current, document)
        if current == path:
            found.exists, found.version = True, version
        registry = table(document, "plugins", _PLUGINS[min(version, 3)], "registry")
        value = registry.get("config_path")
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{files.shown(current)}: config_path: must be a string")
        if value:
            found.file, found.directories = current, [part for part in value.split(":") if part]
        inline |= dict.fromkeys(_inline(registry))
        found.disabled |= bool(_CRI & set(_strings(document.get("disabled_plugins"))))
        pending += [
            each for pattern in _strings(document.get("imports")) for each in _imported(files, current, pattern)
        ]
    found.inline = list(inline)
    for directory in found.directories:
        if not directory.startswith("/"):
            raise ConfigError(f"{files.shown(found.file)}: config_path: {directory!r} is not an absolute path")
    return found


def _version(files: Files, path: str, document: dict[str, Any]) -> int:
    version = document.get("version", 1)
    if not isinstance(version, int) or version < 0:
        raise ConfigError(f"{files.shown(path)}: version: must be a number")
    return version or 1


def _inline(registry: dict[str, Any]) -> list[str]:
    found = ["registry.mirrors"] if table(registry, "mirrors") else []
    if any(table(each, "tls") for each in table(registry, "configs").values()):
        found.append("registry.configs.*.tls")
    return found


def _imported(files: Files, importer: str, pattern: str) -> list[str]:
    whole = posixpath.join(posixpath.dirname(importer), pattern)
    if "*" not in whole:
        return [whole]
    root = files.shown("/").rstrip("/")
    return sorted(each.removeprefix(root) for each in glob.glob(glob.escape(root) + whole))


def _strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
