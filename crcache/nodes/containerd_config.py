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
_CRI = set(_PLUGINS.values())


@dataclass
class ContainerdConfig:
    """What is in force.

    @ivar directories: of C{config_path}, in order; empty if it is not set.
    @ivar version: of the main file; 2 if there is none, since every containerd reads that.
    @ivar file: the file that sets C{config_path}, or else the main one.
    @ivar inline: the deprecated tables that cannot stand beside C{config_path}.
    @ivar disabled: whether the CRI plugin is off, so that the kubelet could not use it.
    @ivar missing: files that C{imports} names and that are not there; containerd does not start without them.
    @ivar plugin: the name by which the main file's version has the CRI plugin.
    @ivar other_name: whether C{config_path} is set under another name than that, as only containerd 2 takes it.
    @ivar replaced_by: the last file after C{file} that has the CRI plugin's table, without C{config_path}.
    """

    file: str
    exists: bool = False
    version: int = 2
    directories: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    disabled: bool = False
    missing: list[str] = field(default_factory=list)
    other_name: bool = False
    replaced_by: str | None = None

    @property
    def plugin(self) -> str:
        """The name of the CRI plugin."""
        return _PLUGINS[min(self.version, 3)]

    @property
    def table(self) -> str:
        """The TOML table in which C{config_path} belongs."""
        return f"[plugins.{self.plugin}.registry]" if self.version == 1 else f'[plugins."{self.plugin}".registry]'


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
            found.exists, found.version = True, version or 1
        if found.directories and found.plugin in table(document, "plugins"):
            found.replaced_by = current
        for name in _names(version, found):
            registry = table(document, "plugins", name, "registry")
            value = registry.get("config_path")
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{files.shown(current)}: config_path: must be a string")
            if value:
                found.file, found.directories = current, [part for part in value.split(":") if part]
                found.other_name, found.replaced_by = name != found.plugin, None
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
    version = document.get("version", 0)
    if not isinstance(version, int) or version < 0:
        raise ConfigError(f"{files.shown(path)}: version: must be a number")
    return version


def _names(version: int, main: ContainerdConfig) -> list[str]:
    """The names of the CRI plugin in a file of that version, 0 if it does not say; the one that counts most is last.

    containerd 1 reads what is imported as of the main file's version. containerd 2 takes a file that does not say for
    version 1, in which it leaves names with a dot as they are, so that all are good there.
    """
    if version > 1:
        return [_PLUGINS[min(version, 3)]]
    return [*(name for name in _PLUGINS.values() if name != main.plugin), main.plugin]


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
