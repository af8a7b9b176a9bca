"""The plan of the house, held to: who may import whom, and what a module looks like."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300

#: A room is a module or a package right below `crcache`. Each may import itself, and these.
MAY_IMPORT = {
    "errors": "",
    "secret": "",
    "events": "",
    "logs": "errors events host",
    "workers": "",
    "host": "events",
    "grammar": "errors",
    "units": "grammar",
    "pem": "",
    "endpoints": "grammar pem",
    "listening": "endpoints errors host identity",
    "identity": "errors pem settings",
    "renewal": "errors events watching workers",
    "config_listening": "grammar pem settings values yaml_file",
    "asks": "grammar secret",
    "settings": "grammar secret",
    "facts": "grammar secret",
    "interfaces": "errors facts grammar",
    "granting": "grammar secret",
    "grants": "events grammar granting secret workers",
    "sending": "grammar interfaces",
    "outcomes": "grammar interfaces sending",
    "policy": "errors facts grammar settings",
    "values": "errors grammar units",
    "yaml_file": "errors grammar",
    "credentials_file": "errors grammar secret settings values yaml_file",
    "credentials_source": "credentials_file errors settings",
    "credentials": "credentials_file credentials_source errors events grammar secret settings watching workers",
    "config_reach": "grammar settings yaml_file",
    "config_registries": "config_reach credentials_file errors grammar pem secret settings units values yaml_file",
    "config_parents": "grammar pem settings values yaml_file",
    "config_cache": "grammar settings units yaml_file",
    "config": "config_cache config_listening config_parents config_reach config_registries config_s3 credentials_file"
    " credentials_source endpoints errors grammar settings units values yaml_file",
    "options": "config endpoints errors grammar settings units values yaml_file",
    "nodes": "errors",
    "inventory": "errors facts grammar policy store",
    # What it pulls with is a composition root of its own, imported when it is needed.
    "commands": "config config_cache credentials errors eviction evictor facts grammar images inventory nodes policy"
    " pulling settings store units upstream workers yaml_file",
    "cli": "commands errors",
    "images": "errors facts grammar store",
    "store": "events errors facts grammar interfaces secret settings workers",
    "eviction": "events errors grammar policy settings store",
    "evictor": "events eviction grammar settings store workers",
    "upstream": "events errors facts grammar interfaces policy secret settings workers",
    "flow": "events errors facts grammar interfaces policy secret sending settings workers",
    "privacies": "events errors facts grammar interfaces policy",
    "named": "policy settings tier upstream",
    "sources": "errors facts interfaces",
    "parents": "asks errors events facts flow grammar interfaces outcomes policy settings sources upstream workers",
    "rules": "facts grammar policy settings",
    "threads": "workers",
    "tier": "events errors facts flow grammar granting interfaces policy settings sources store telling threads"
    " upstream workers",
    "config_s3": "grammar pem settings values yaml_file",
    "witness": "facts grammar granting interfaces policy privacies",
    "telling": "errors events",
    "origin": "asks errors facts flow grammar interfaces privacies",
    "rest": "events asks errors facts flow grammar interfaces origin sending",
    "access": "events asks errors facts flow grammar granting interfaces origin policy privacies secret",
    "provenance": "events asks errors facts flow grammar interfaces origin outcomes privacies sources workers telling",
    "absences": "asks errors grammar policy",
    "moved": "asks facts grammar",
    "apart": "absences asks errors facts grammar outcomes provenance",
    "manifests": "absences access apart events asks errors facts flow grammar interfaces moved origin outcomes policy"
    " provenance rules telling",
    "bypass": "asks errors facts flow grammar interfaces origin outcomes rest",
    "confirming": "events asks errors facts flow grammar interfaces origin policy workers telling",
    "blobs": "access bypass confirming events asks errors facts flow interfaces origin outcomes policy rest telling",
    "warming": "asks errors facts grammar images interfaces outcomes",
    "cache": "access asks blobs facts interfaces manifests origin outcomes",
    "gatekeeper": "events asks errors interfaces outcomes policy settings",
    "live": "asks facts interfaces outcomes",
    "web": "events asks errors grammar interfaces outcomes secret sending",
    "insight": "events errors grammar interfaces",
    "ending": "events workers",
    "scrub": "events policy workers",
    "opening": "events asks errors interfaces outcomes",
    "reload": "events errors workers",
    "watching": "events workers",
    "daemon": "events ending errors flow host interfaces opening workers",
    "testing": "asks errors facts grammar interfaces outcomes secret sending settings",
    # The composition root, in parts. Nobody else imports the first two, as nobody lists them here.
    "engine": "*",
    "tap": "*",
    "pulling": "*",
}

#: Under `if TYPE_CHECKING:`, these besides: what the seams promise is said in the words of those who keep it.
MAY_IMPORT_FOR_TYPES = {"interfaces": "asks outcomes"}

#: These could be used in any program, without Twisted.
STANDARD_LIBRARY_ONLY = {"errors", "events", "secret", "grammar", "units", "asks", "facts", "settings", "policy"}

#: What setup.py declares, by the names it is imported by.
DECLARED = {
    "OpenSSL",
    "botocore",
    "cryptography",
    "idna",
    "prometheus_client",
    "service_identity",
    "tqdm",
    "treq",
    "twisted",
    "yaml",
    "zope",
}


@dataclass(frozen=True)
class Import:
    """One imported name, in full.

    @ivar types: whether under C{if TYPE_CHECKING:}.
    @ivar deferred: whether in a function, so not when the module is imported.
    """

    name: str
    line: int
    types: bool = False
    deferred: bool = False


def imports(source: str) -> list[Import]:
    """All imports of a module, wherever they are in it."""
    return list(_imports(ast.parse(source), False, False))


def _imports(node: ast.AST, types: bool, deferred: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, types, deferred)
    elif isinstance(node, ast.ImportFrom):
        start = "." * node.level + (node.module or "")
        for alias in node.names:
            yield Import(f"{start}.{alias.name}", node.lineno, types, deferred)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        for child in node.body:
            yield from _imports(child, True, deferred)
        for child in node.orelse:
            yield from _imports(child, types, deferred)
    else:
        deferred = deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for part in ast.iter_child_nodes(node):
            yield from _imports(part, types, deferred)


def offences(room: str, source: str) -> list[str]:
    """What a module of this room imports and must not, a line each."""
    if room not in MAY_IMPORT:
        return [f"{room} is in no list: say in MAY_IMPORT whom it may import"]
    allowed = set(MAY_IMPORT[room].split()) | {room}
    for_types = set(MAY_IMPORT_FOR_TYPES.get(room, "").split())
    found = []
    for each in imports(source):
        top, _, rest = each.name.partition(".")
        target = rest.partition(".")[0]
        if top == "crcache":
            # `from crcache import __version__` is of nobody's room.
            fine = (
                target == "__version__" or "*" in allowed or target in allowed or (each.types and target in for_types)
            )
        elif top in sys.stdlib_module_names:
            fine = True
        else:
            fine = top in DECLARED and room not in STANDARD_LIBRARY_ONLY
        if not fine:
            found.append(f"line {each.line}: {room} must not import {each.name}")
    return found


def modules(directory: str) -> Iterator[tuple[str, str]]:
    """The modules below a directory of the project, as path and text."""
    for path in sorted((ROOT / directory).rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def room_of(path: str) -> str:
    """The room of a module's path; empty for `crcache/__init__.py`."""
    return path.split("/")[1].removesuffix(".py").removesuffix("__init__")


class RuleTests(SynchronousTestCase):
    """The rules themselves, and what reads them."""

    def test_no_circles(self) -> None:
        """The rooms can be put in a row in which each imports only those before it."""
        left = {room: set(whom.split()) for room, whom in MAY_IMPORT.items() if whom != "*"}
        while left:
            free = {room for room, whom in left.items() if not whom & left.keys()}
            self.assertTrue(free, f"these import each other in a circle: {sorted(left)}")
            left = {room: whom for room, whom in left.items() if room not in free}

    def test_every_room_exists(self) -> None:
        """A room that is gone is also gone from the rules."""
        rooms = {room_of(path) for path, _ in modules("crcache")} - {""}
        named = set(MAY_IMPORT) | {name for whom in MAY_IMPORT.values() for name in whom.split()} - {"*"}
        self.assertEqual(named - rooms, set())

    def test_offences_are_found(self) -> None:
        """An import against the rules is seen in each of its forms, in a function too; a proper one is let pass."""
        for room, source, bad in (
            ("web", "from crcache.store.filesystem import Filesystem", True),
            ("web", "import crcache.store.memory", True),
            ("web", "from crcache import store", True),
            ("web", "def f():\n    from crcache import tap", True),
            ("web", "from .store import memory", True),
            ("web", "from crcache.asks import Ask", False),
            ("web", "from crcache import __version__", False),
            ("web", "import requests", True),
            ("web", "import twisted.web.server", False),
            ("grammar", "from twisted.web import http", True),
            ("grammar", "import re", False),
            ("interfaces", "from crcache.outcomes import Outcome", True),
            ("interfaces", "if TYPE_CHECKING:\n    from crcache.outcomes import Outcome", False),
            ("interfaces", "if TYPE_CHECKING:\n    from crcache.store import memory", True),
            ("tap", "from crcache.store.filesystem import Filesystem", False),
            ("cellar", "import re", True),
        ):
            self.assertEqual(bool(offences(room, source)), bad, f"{room}: {source}")


class ModuleTests(SynchronousTestCase):
    """The modules as they are. Each test names all that offend."""

    def test_direction(self) -> None:
        """Every module imports only whom its room may import."""
        found = [
            f"{path} {offence}"
            for path, source in modules("crcache")
            if room_of(path)
            for offence in offences(room_of(path), source)
        ]
        self.assertEqual(found, [])

    def test_reactor_is_passed_in(self) -> None:
        """No module installs a reactor by being imported: twistd has a flag to choose one."""
        found = [
            f"{path} line {each.line}"
            for path, source in modules("crcache")
            for each in imports(source)
            if each.name.startswith("twisted.internet.reactor") and not each.deferred and not each.types
        ]
        self.assertEqual(found, [])

    def test_bars_are_the_commands(self) -> None:
        """What draws progress bars is imported in one place, by commands, and not before there is a bar to draw."""
        found = {
            path: each.deferred
            for path, source in modules("crcache")
            for each in imports(source)
            if each.name.partition(".")[0] == "tqdm" and not each.types
        }
        self.assertEqual(found, {"crcache/commands/progress.py": True})

    def test_packages_are_plain(self) -> None:
        """An `__init__.py` holds a docstring, and crcache's own the version: re-exports make circles."""
        for path, source in modules("crcache"):
            if path.endswith("__init__.py"):
                _, *rest = ast.parse(source).body
                expected = ["__version__"] if path == "crcache/__init__.py" else []
                self.assertEqual([ast.unparse(node).partition(" = ")[0] for node in rest], expected, path)

    def test_length(self) -> None:
        """No module is longer than can be read in one go."""
        lengths = {path: len(source.splitlines()) for path, source in modules("crcache")}
        self.assertEqual({path: length for path, length in lengths.items() if length > LONGEST}, {})

    def test_docstrings(self) -> None:
        """Every module says in the one line that its docstring begins with what it is for."""
        without = []
        for path, source in modules("crcache"):
            lines = (ast.get_docstring(ast.parse(source)) or "").splitlines()
            if not lines or not lines[0].endswith(".") or lines[1:2] not in ([], [""]):
                without.append(path)
        self.assertEqual(without, [])

    def test_tests_are_found(self) -> None:
        """Every directory with tests is a package: `make test` runs no others."""
        directories = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
        self.assertEqual([str(path) for path in sorted(directories) if not (path / "__init__.py").exists()], [])

    def test_tests_say_what_must_hold(self) -> None:
        """Every test has a docstring."""
        silent = [
            f"{path} line {node.lineno}: {node.name}"
            for path, source in modules("tests")
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ]
        self.assertEqual(silent, [])
