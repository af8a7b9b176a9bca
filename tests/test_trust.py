"""What docs/trust.md promises has tests that say so."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.test_docs import ROOT

_NAME = re.compile(r"`(tests\.[\w.]+|\.[\w.]+)`")


def found(name: str) -> object:
    """What a dotted name means.

    @raise AttributeError: if there is no such thing.
    """
    parts = name.split(".")
    count = len(parts)
    while count > 1 and not _is_module(".".join(parts[:count])):
        count -= 1
    thing: object = import_module(".".join(parts[:count]))
    for part in parts[count:]:
        thing = getattr(thing, part)
    return thing


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def tests_of(row: str) -> list[str]:
    """The tests in the last column, in full: C{.test_more} is of the class before it, C{.Other.test} of its module."""
    names: list[str] = []
    for name in _NAME.findall(row.rstrip().removesuffix("|").rpartition("|")[2]):
        if not name.startswith("."):
            names.append(name)
            continue
        parts = names[-1].split(".")
        at = next(index for index, part in enumerate(parts) if part[0].isupper())
        names.append(".".join(parts[: at + name[1].islower()]) + name)
    return names


def rows() -> list[tuple[str, str]]:
    """Section and text of each row that promises something: those of all tables with a column for tests."""
    made: list[tuple[str, str]] = []
    section, promises = "", False
    for line in (ROOT / "docs/trust.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section, promises = line, False
        elif not line.startswith("|"):
            promises = False
        elif re.search(r"\| test \|$", line):
            promises = True
        elif promises and not line.startswith("|---"):
            made.append((section, line))
    return made


class TrustTests(SynchronousTestCase):
    """The tables."""

    def test_sections(self) -> None:
        """There are promises in every part."""
        self.assertGreater(len({section for section, _ in rows()}), 3)

    def test_named(self) -> None:
        """Every promise names the tests that hold it, and they exist."""
        for section, row in rows():
            names = tests_of(row)
            self.assertTrue(names, f"{section}: {row}")
            for name in names:
                try:
                    thing = found(name)
                except (AttributeError, ModuleNotFoundError):
                    self.fail(f"{section}: there is no {name}")
                suite = isinstance(thing, type) and issubclass(thing, SynchronousTestCase)
                self.assertTrue(suite or isinstance(thing, ModuleType | FunctionType), name)

    def test_wrong_names_are_found(self) -> None:
        """A name of nothing is seen as such; short names are of what stands before them."""
        for wrong in ("tests.test_trust.TrustTests.test_none", "tests.test_none", "tests.none.test_none"):
            self.assertRaises((AttributeError, ModuleNotFoundError), found, wrong)
        row = "| a | `not this` | `tests.a.B.test_c`, `.test_d`, `.E.test_f` |"
        self.assertEqual(tests_of(row), ["tests.a.B.test_c", "tests.a.B.test_d", "tests.a.E.test_f"])
