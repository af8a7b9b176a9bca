"""Tests for L{crcache.events}: every line that operators read says what kind of event it is; the catalog has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.asks import Client, ListTags, PullBlob, PullManifest
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository, Tag

ROOT = Path(__file__).resolve().parents[1]
CATALOG = ROOT / "systemd" / "crcache.catalog"
#: Where every line is about a client's request.
ABOUT_REQUESTS = (
    *(f"flow/{name}.py" for name in ("carry", "lasting", "letting_go", "push", "relay", "send")),
    "web/*.py",
)
#: But these are about none: there is nothing yet that could have an id, or there are many at a time.
ABOUT_NONE = {"NOT_HTTP", "BROKEN_OFF", "CONNECTIONS_REFUSED", "CLIENT_SLOW"}
#: The methods of a Logger whose events operators see.
TOLD = {"info", "warn", "error", "critical", "failure", "emit"}

NAMES = {name: value for name, value in vars(events).items() if isinstance(value, events.Event)}


def calls(source: str) -> Iterator[ast.Call]:
    """The calls of a logger, by whichever of its usual names, that tell operators something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TOLD:
            logger = ast.unparse(node.func.value)
            if logger.rpartition(".")[2] in {"log", "_log"}:
                yield node


def entries() -> dict[str, str]:
    """The catalog's entries, by message id."""
    found = re.split(r"(?m)^-- ([0-9a-f]{32})\n", CATALOG.read_text())
    return dict(zip(found[1::2], found[2::2], strict=True))


class EventTests(SynchronousTestCase):
    """The list itself."""

    def test_unique(self) -> None:
        """Names and ids are of their form, and nobody shares one."""
        self.assertEqual(len({each.id for each in events.EVENTS}), len(NAMES))
        self.assertEqual(len({each.name for each in events.EVENTS}), len(NAMES))
        for each in events.EVENTS:
            # uuidgen's: version 4.
            self.assertRegex(each.id, r"\A[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\Z")
            self.assertRegex(each.name, r"\A[a-z]+(-[a-z]+)*\Z")

    def test_named(self) -> None:
        """An event is called as its constant."""
        for name, event in NAMES.items():
            self.assertEqual(event.name.replace("-", "_").upper(), name)

    def test_used(self) -> None:
        """Every event can happen."""
        sources = "".join(path.read_text() for path in (ROOT / "crcache").rglob("*.py") if path.name != "events.py")
        self.assertEqual([name for name in NAMES if not re.search(rf"\b{name}\b", sources)], [])


class CallTests(SynchronousTestCase):
    """The log calls all over crcache."""

    def test_calls_are_found(self) -> None:
        """What the next test looks at are the calls that it should."""
        source = "log.warn('x')\nself.log.emit(level, 'y')\n_log.info('z')\nlog.debug('no')\nmath.log.x()\nother.info()"
        self.assertEqual([call.lineno for call in calls(source)], [1, 2, 3])

    def test_every_line_names_its_event(self) -> None:
        """Every call from C{info} on says which event it is, by a name in L{events}."""
        without, seen = [], 0
        for path in sorted((ROOT / "crcache").rglob("*.py")):
            for call in calls(path.read_text()):
                seen += 1
                given = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "event"]
                named = given and set(re.findall(r"events\.([A-Z_]+)", given[0]))
                if not named or not named <= NAMES.keys():
                    without.append(f"{path.relative_to(ROOT)}:{call.lineno}")
        self.assertEqual(without, [])
        self.assertGreater(seen, 30)

    def test_every_line_about_a_request_has_its_id(self) -> None:
        """Where requests are answered, every call from C{info} on says which one it is about."""
        without, seen = [], 0
        for path in sorted(path for pattern in ABOUT_REQUESTS for path in (ROOT / "crcache").glob(pattern)):
            for call in calls(path.read_text()):
                given = {keyword.arg or ast.unparse(keyword.value): keyword.value for keyword in call.keywords}
                if "event" in given and ast.unparse(given["event"]).removeprefix("events.") in ABOUT_NONE:
                    continue
                seen += 1
                # `about` adds it to the fields.
                if "request_id" not in given and not any(name.startswith("events.about(") for name in given):
                    without.append(f"{path.relative_to(ROOT)}:{call.lineno}")
        self.assertEqual(without, [])
        self.assertGreater(seen, 7)

    def test_reserved_names(self) -> None:
        """No call uses a field that log observers read a meaning of their own into."""
        reserved = {"why", "isError", "warning", "category", "message", "format", "time", "system", "failure", "text"}
        for path in sorted((ROOT / "crcache").rglob("*.py")):
            for call in calls(path.read_text()):
                self.assertEqual({keyword.arg for keyword in call.keywords} & reserved, set(), f"{path}:{call.lineno}")


class CatalogTests(SynchronousTestCase):
    """C{systemd/crcache.catalog}."""

    def test_complete(self) -> None:
        """Every event is explained, and nothing else."""
        self.assertEqual(entries().keys(), {each.id for each in events.EVENTS})

    def test_form(self) -> None:
        """Every entry has its headers, an explanation, and takes only fields that lines can have."""
        fields = {f"CRCACHE_{name.upper()}" for name in events.FIELDS}
        for entry in entries().values():
            self.assertRegex(
                entry, r"\ASubject: .+\nDefined-By: crcache\nDocumentation: man:crcache\(8\)\n\n(?s:.{30,})"
            )
            self.assertEqual(set(re.findall(r"@(\w+)@", entry)) - fields, set())


class DocumentationTests(SynchronousTestCase):
    """C{docs/logging.md}."""

    def test_complete(self) -> None:
        """It lists every event with its id and every field, and no others."""
        text = (ROOT / "docs" / "logging.md").read_text()
        rows = dict(re.findall(r"(?m)^\| `([a-z-]+)` \|.*\| `([0-9a-f]{32})` \|$", text))
        self.assertEqual(rows, {each.name: each.id for each in events.EVENTS})
        fields = re.findall(r"(?m)^\| `([a-z_]+)` \| `CRCACHE_([A-Z_]+)` \|", text)
        self.assertEqual(fields, [(name, name.upper()) for name in events.FIELDS])


class AboutTests(SynchronousTestCase):
    """L{events.about}."""

    def test_digest(self) -> None:
        """What goes by digest has it as reference and as digest."""
        digest = Digest.of(b"x")
        expected = {
            "registry": "docker.io",
            "repository": "library/alpine",
            "reference": str(digest),
            "digest": str(digest),
            "request_id": "me-1",
        }
        repository = Repository("library/alpine")
        self.assertEqual(events.about(PullBlob(Client("me-1"), DOCKER_IO, repository, digest)), expected)
        self.assertEqual(events.about(Query(DOCKER_IO, repository, "blob", digest, "me-1")), expected)

    def test_tag(self) -> None:
        """A tag is no digest, and a list of tags is about neither."""
        repository = Repository("library/alpine")
        found = events.about(PullManifest(Client("me-1"), DOCKER_IO, repository, Tag("3.20")))
        self.assertEqual((found["reference"], found.get("digest")), ("3.20", None))
        self.assertEqual(events.about(ListTags(Client("me-1"), DOCKER_IO, repository))["reference"], "-")
