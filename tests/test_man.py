"""The man pages: that they leave nothing out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from crcache import cli, config, config_listening, config_registries, config_s3, credentials_source
from crcache.options import Options

PAGES = Path(__file__).resolve().parents[1] / "packaging/man"


def pages() -> ModuleType:
    """The program that writes crcache(1)."""
    loader = SourceFileLoader("pages", str(PAGES.parents[1] / "tools/pages.py"))
    module = ModuleType(loader.name)
    module.__file__ = loader.path
    loader.exec_module(module)
    return module


def page(name: str) -> str:
    """A page's source, with every dash as it will be printed."""
    return (PAGES / name).read_text(encoding="utf-8").replace("\\-", "-")


def section(text: str, title: str) -> str:
    """What is below a heading, down to the next one of any kind."""
    found = re.search(rf"(?ms)^\.S[HS] {re.escape(title)}\n(.*?)(?=^\.S[HS] |\Z)", text)
    return "" if found is None else found[1]


def tags(text: str) -> set[str]:
    """The words in bold that items begin with: keys, flags."""
    lines = re.findall(r"(?m)^\.TP\n\.BR? (.*)$", text)
    return {word.strip('",') for line in lines for word in line.split() if word.strip('",')}


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All that a parser takes."""
    yield from parser._actions


class DaemonTests(SynchronousTestCase):
    """crcache(8)."""

    def test_flags(self) -> None:
        """Each flag of C{twistd crcache} is there, in each of its forms, and none that does not exist."""
        options = Options({"HOME": "/"}, object())
        long = {f"--{name.rstrip('=')}" for name in options.longOpt}
        short = {f"-{letter}" for letter in options.shortOpt if letter != ":"}
        found = {tag for tag in tags(section(page("crcache.8"), "OPTIONS")) if tag.startswith("-")}
        self.assertEqual(found, long | short)

    def test_environment(self) -> None:
        """So is what is read in the environment."""
        text = section(page("crcache.8"), "ENVIRONMENT")
        for name in (
            "CACHE_DIRECTORY",
            "RUNTIME_DIRECTORY",
            "CREDENTIALS_DIRECTORY",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "HTTPS_PROXY",
            credentials_source.FILE_VARIABLE,
            credentials_source.TEXT_VARIABLE,
        ):
            self.assertIn(name, tags(text))
        self.assertIn(credentials_source.CREDENTIAL, text)


class FileTests(SynchronousTestCase):
    """crcache.yaml(5)."""

    def check(self, title: str, keys: Iterable[str]) -> None:
        """The section has these keys and no others."""
        self.assertEqual(tags(section(page("crcache.yaml.5"), title)), set(keys), title)

    def test_keys(self) -> None:
        """Each key is in the section where it belongs, and none that does not exist."""
        parts = {"tls", "limits", "cache", "upstream", "reach", "registries"}
        self.check("KEYS", set(config._TOP_KEYS) - parts)
        self.check("tls", config_listening._TLS_KEYS)
        self.check("limits", config_listening._LIMITS_KEYS)
        self.check("cache", config._CACHE_KEYS)
        self.check("s3", config_s3.S3_KEYS)
        self.check("upstream", config._UPSTREAM_KEYS)
        self.check("reach", config._REACH_KEYS)
        self.check("registries", config_registries._KEYS)
        self.assertLessEqual(parts, set(config._TOP_KEYS))


class ToolTests(SynchronousTestCase):
    """crcache(1), which is made of what C{crcache --help} says."""

    def test_fresh(self) -> None:
        """What is committed is what C{make pages} writes now."""
        self.assertEqual((PAGES / "crcache.1").read_text(encoding="utf-8"), pages().page())

    def test_commands(self) -> None:
        """Each command has a section with each of its flags, and there is none without a command."""
        text = page("crcache.1")
        self.assertEqual(set(re.findall(r"(?m)^\.SS (\S+)$", text)), {command.NAME for command in cli.COMMANDS})
        for command in cli.COMMANDS:
            parser = argparse.ArgumentParser(add_help=False)
            command.add_arguments(parser)
            flags = {flag for action in actions(parser) for flag in action.option_strings}
            found = {tag for tag in tags(section(text, command.NAME)) if tag.startswith("-")}
            self.assertEqual(found, flags, command.NAME)

    def test_own_flags(self) -> None:
        """So it is with the flags of the tool itself."""
        flags = {flag for action in actions(cli.make_parser()) for flag in action.option_strings}
        found = {tag for tag in tags(section(page("crcache.1"), "DESCRIPTION")) if tag.startswith("-")}
        self.assertEqual(found, flags)


class AllTests(SynchronousTestCase):
    """Every page."""

    def test_names(self) -> None:
        """A page says its own name, section and purpose in the way that indexes are made of."""
        for path in sorted(PAGES.iterdir()):
            name, _, number = path.name.rpartition(".")
            text = page(path.name)
            first = next(line for line in text.splitlines() if not line.startswith('.\\"'))
            self.assertTrue(first.startswith(f".TH {name.upper()} {number} "), path.name)
            self.assertRegex(section(text, "NAME"), rf"\A{re.escape(name)} - \S")

    def test_references(self) -> None:
        """Where one of our pages is referred to, it is there."""
        pages = {path.name for path in PAGES.iterdir()}
        for path in PAGES.iterdir():
            for name, number in re.findall(r"(crcache(?:\.yaml)?) \((\d)\)", page(path.name)):
                self.assertIn(f"{name}.{number}", pages)
