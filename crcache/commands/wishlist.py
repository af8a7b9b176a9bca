"""Files that name images: plain lists, and Kubernetes manifests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from crcache.commands.pin_list import names_in, read_list
from crcache.commands.references import Name, parse_name
from crcache.errors import ConfigError, CrcacheError
from crcache.yaml_file import one_line

STDIN = "-"
#: Bytes of such a file, at most; how many values YAML may have, and how deep down.
_LARGEST = 16 << 20
_MOST_VALUES = 500_000
_DEEPEST = 200
#: Ten times as fast, where there is one.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Under which keys a pod has containers, https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/.
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_MERGE = "tag:yaml.org,2002:merge"


def images_in_list(file: str) -> list[Name]:
    """The images that a list names, as L{read_list} reads it.

    @param file: its name; C{-} is stdin.
    @raise ConfigError: naming file and line of what is no name.
    """
    if file != STDIN:
        return read_list(Path(file))
    try:
        # Not by a name of its own: a socket, which ssh makes of it, cannot be opened.
        return names_in(sys.stdin.buffer, "stdin")
    except OSError as error:
        raise ConfigError(f"stdin: {error.strerror}") from error


def images_in_manifest(file: str) -> list[Name]:
    """The images of all containers and image volumes in Kubernetes manifests, of whatever kind, each once.

    @param file: its name; C{-} is stdin. YAML, of several documents perhaps, or JSON.
    @raise ConfigError: naming file and line of what is no name; or if there are no images in it.
    """
    shown, text = _read(file)
    found: dict[Name, None] = {}
    try:
        _check_bounds(shown, text)
        for document in yaml.compose_all(text, Loader=_Loader):
            if document is not None:
                for node in _Pods().images(document):
                    line = node.start_mark.line + 1
                    if not isinstance(node, yaml.ScalarNode) or not node.value:
                        raise ConfigError(f"{shown}:{line}: image: is no name of an image")
                    found[_name(shown, line, node.value)] = None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(one_line(f"{shown}{line}: is not YAML: {getattr(error, 'problem', None) or error}")) from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{shown}: is not YAML: an escape somewhere in it is out of range") from None
    if not found:
        raise ConfigError(f"{shown}: there are no images in it: neither containers nor image volumes")
    return list(found)


def _check_bounds(shown: str, text: str) -> None:
    """See that there is not more than can be kept in memory, nor deeper down than it can be reached.

    @raise ConfigError: with the line where there is.
    """
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader), 1):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if number > _MOST_VALUES or depth > _DEEPEST:
            line = f":{event.start_mark.line + 1}" if event.start_mark is not None else ""
            raise ConfigError(f"{shown}{line}: has more values than {_MOST_VALUES}, or deeper down than {_DEEPEST}")


class _Pods:
    """Finds the images of one document. Each node is looked at once, however often aliases name it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], yaml.Node | None] = {}

    def images(self, document: yaml.Node) -> Iterator[yaml.Node]:
        """The values behind C{image} of containers, and behind C{reference} of image volumes, in their order."""
        waiting, seen = [document], {id(document)}
        while waiting:
            node = waiting.pop()
            below: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                below = list(node.value)
            elif isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    below.append(value)
                    if key.value in _CONTAINERS:
                        yield from self._each(value, "image")
                    elif key.value == "volumes":
                        for source in self._each(value, "image"):
                            yield from self._each([source], "reference")
            for each in reversed(below):
                if id(each) not in seen:
                    seen.add(id(each))
                    waiting.append(each)

    def _each(self, items: yaml.Node | list[yaml.Node], wanted: str) -> Iterator[yaml.Node]:
        for item in items if isinstance(items, list) else _items(items):
            found = self._behind(item, wanted)
            if found is not None:
                yield found

    def _behind(self, node: yaml.Node, wanted: str) -> yaml.Node | None:
        """The value behind a key, the mapping's own or one that is merged into it (C{<<})."""
        if not isinstance(node, yaml.MappingNode):
            return None
        key = id(node), wanted
        if key not in self._known:
            # A mapping may be merged into itself.
            self._known[key] = None
            self._known[key] = self._found(node, wanted)
        return self._known[key]

    def _found(self, node: yaml.MappingNode, wanted: str) -> yaml.Node | None:
        own = [value for key, value in node.value if key.value == wanted]
        if own:
            last: yaml.Node = own[-1]
            return last
        merged = [value for key, value in node.value if key.tag == _MERGE]
        found = (self._behind(each, wanted) for value in merged for each in (_items(value) or [value]))
        return next((each for each in found if each is not None), None)


def _items(node: yaml.Node) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _name(file: str, line: int, text: str) -> Name:
    try:
        return parse_name(text)
    except CrcacheError as problem:
        raise ConfigError(one_line(f"{file}:{line}: is no name of an image: {problem.message}")) from None


def _read(file: str) -> tuple[str, str]:
    """What a file is called, and its text."""
    shown = "stdin" if file == STDIN else file
    try:
        if file == STDIN:
            data = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(one_line(f"{shown}: cannot be read: {error.strerror}")) from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{shown}: is larger than {_LARGEST >> 20} MiB")
    try:
        return shown, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(one_line(f"{shown}:{line}: is not UTF-8 text")) from None
