"""The documents: their commands are tested, their links lead somewhere, and what they name exists."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from crcache import __version__, cli, config, config_listening, config_registries, config_s3, events
from crcache.credentials_source import FILE_VARIABLE, TEXT_VARIABLE
from crcache.errors import ConfigError
from crcache.insight.metrics import Meter
from crcache.insight.parents import ParentMeter
from crcache.options import Options
from tests.config_case import ConfigCase
from tests.real.printed import blocks, parse_block

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
#: Those in which nothing is printed that is not run.
STRICT = ("docs/install.md", "docs/operate.md")
#: Commands, whichever way they are fenced.
COMMANDS = ("console", "sh", "bash", "shell")
#: Flags of other programs that are spoken of by themselves.
FOREIGN_FLAGS = {
    *("--allow-downgrades", "--system-site-packages", "--disable-default-registry-endpoint"),
    *("--logfile", "--logger", "--syslog"),
    *("--network", "--volume", "--memory"),
}
#: What crcache itself counts, in the journal's spelling, beside L{events.FIELDS}.
MORE_FIELDS = {"event", "logger", "traceback"}
#: What is named like a field of the journal's, and is a variable of the environment.
VARIABLES = {FILE_VARIABLE, TEXT_VARIABLE}


def read(document: str) -> str:
    """A document."""
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", read(document))


def spans(document: str) -> list[str]:
    """What stands between backticks in the prose, and the indented lines."""
    text = prose(document)
    return [*re.findall(r"`([^`\n]+)`", text), *(line.strip() for line in re.findall(r"(?m)^ {4,}\S.*$", text))]


def commands(document: str) -> Iterator[str]:
    """All commands that are printed, wherever."""
    for block in blocks(document):
        if block.language in COMMANDS:
            yield from (command for command, _ in parse_block(block.text))
    yield from spans(document)


def anchors(document: str) -> set[str]:
    """What headings are linked by, as forges make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.+)$", prose(document))
    }


def known_flags() -> dict[str, set[str]]:
    """The flags of the daemon, under the empty name, and of each command of the tool."""
    options = Options({"HOME": "/"}, object())
    short = {f"-{letter}" for letter in options.shortOpt if letter != ":"}
    flags = {"": {f"--{name.rstrip('=')}" for name in options.longOpt} | short}
    for command in cli.COMMANDS:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        flags[command.NAME] = {flag for action in parser._actions for flag in action.option_strings}
    return flags


def known_keys() -> set[str]:
    """All keys of the configuration, with their sections."""
    sections = {
        "tls": config_listening._TLS_KEYS,
        "limits": config_listening._LIMITS_KEYS,
        "cache": (*config._CACHE_KEYS, *(f"s3.{key}" for key in config_s3.S3_KEYS)),
        "upstream": config._UPSTREAM_KEYS,
        "reach": config._REACH_KEYS,
    }
    top = set(config._TOP_KEYS) - {*sections, "registries"}
    return top | {f"{section}.{key}" for section, keys in sections.items() for key in keys}


class BlockTests(ConfigCase):
    """Fenced blocks."""

    def test_marked(self) -> None:
        """Each block of commands, and in some documents each block, says that it is tested, or why it is not."""
        seen = 0
        for document in DOCUMENTS:
            for block in blocks(document):
                if block.language in COMMANDS or document in STRICT:
                    seen += 1
                    self.assertRegex(block.mark, r"\A(tested: [a-z]+|not run: .+)\Z", f"{document}:{block.line}")
        self.assertGreater(seen, 20)

    def test_all_are_found(self) -> None:
        """The parser sees every fence."""
        for document in DOCUMENTS:
            self.assertEqual(2 * len(blocks(document)), len(re.findall("(?m)^ *```", read(document))), document)

    def test_no_other_commands(self) -> None:
        """Where everything is run there are no indented lines, which nobody would run."""
        for document in STRICT:
            self.assertNotRegex(prose(document), r"(?m)^ {4,}\S", document)

    def test_mark_is_known(self) -> None:
        """A real test reads the blocks of each mark."""
        tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests/real").glob("test_*.py")]
        for document in DOCUMENTS:
            for block in blocks(document):
                kind, _, name = block.mark.partition(": ")
                if kind == "tested":
                    found = [text for text in tests if f'"{document}"' in text and f'"{name}"' in text]
                    self.assertTrue(found, f"{document}:{block.line}: no test runs {name}")


class LinkTests(ConfigCase):
    """What is pointed to."""

    def test_links(self) -> None:
        """A link to a file, or to a heading, leads there."""
        seen = 0
        for document in [*DOCUMENTS, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md"]:
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
                if "://" in target:
                    continue
                seen += 1
                path, _, anchor = target.partition("#")
                file = (ROOT / document).parent / path if path else ROOT / document
                self.assertTrue(file.exists(), f"{document}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(str(file.resolve().relative_to(ROOT))), f"{document}: {target}")
        self.assertGreater(seen, 20)

    def test_all_are_linked(self) -> None:
        """README leads to every document."""
        for document in DOCUMENTS[1:]:
            self.assertIn(f"]({document})", read("README.md"))

    def test_paths(self) -> None:
        """A file of the checkout that is named is there."""
        directories = "systemd|packaging|docs|tests|tools|benchmarks|requirements"
        for document in DOCUMENTS:
            for span in spans(document):
                if re.fullmatch(rf"(?:{directories})/[\w./@-]+", span) and span != "benchmarks/results/":
                    self.assertTrue((ROOT / span).exists(), f"{document}: {span}")

    def test_examples(self) -> None:
        """So is each drop-in that operators are told of."""
        there = {path.name for path in (ROOT / "systemd/examples").iterdir()}
        named = {name for document in STRICT for name in re.findall(r"(?<![\w/.-])[\w-]+\.conf\b", read(document))}
        self.assertLessEqual(named, there)
        self.assertEqual(there - named, set(), "nobody is told of these")


class NameTests(ConfigCase):
    """What is spoken of."""

    def test_flags(self) -> None:
        """crcache takes the flags that it is told to be given."""
        known = known_flags()
        every = set().union(*known.values()) | FOREIGN_FLAGS
        seen = 0
        for document in DOCUMENTS:
            for command in commands(document):
                for words in re.split(r" \| |; |>", command):
                    found = re.findall(r"(?<![\w-])--?[a-z][\w-]*", words)
                    ours = re.match(r"(?:\S+/)?(?:twistd .*?crcache|crcache (\S+))", words)
                    if ours and (ours[1] or "") in known:
                        seen += len(found)
                        self.assertLessEqual(set(found) - {"-n"}, known[ours[1] or ""], f"{document}: {command}")
                    elif command.startswith("--"):
                        self.assertLessEqual(set(found), every, f"{document}: {command}")
        self.assertGreater(seen, 10)

    def test_keys(self) -> None:
        """Keys are those of the configuration; the table in configuration.md has all of them."""
        table = read("docs/configuration.md").split("## Keys\n")[1].split("\n## ")[0]
        rows = set(re.findall(r"(?m)^\| `([\w.-]+)` \|", table))
        self.assertEqual(rows, known_keys())
        table = read("docs/configuration.md").split("## Registries\n")[1].split("\n## ")[0]
        cells = re.findall(r"(?m)^\| (`.*?) \|", table)
        self.assertEqual(set(re.findall(r"`([\w-]+)`", "".join(cells))), set(config_registries._KEYS))
        for document in DOCUMENTS:
            for span in spans(document):
                if re.fullmatch(r"(tls|limits|cache|upstream|reach)\.[a-z-]+", span):
                    self.assertIn(span, known_keys(), document)

    def test_metrics(self) -> None:
        """Metrics are among those that `/metrics` has."""
        meter = Meter([])
        ParentMeter(meter)
        there = {sample.name for metric in meter.collectors.collect() for sample in metric.samples}
        there |= {f"{metric.name}{end}" for metric in meter.collectors.collect() for end in ("", "_total")}
        for document in DOCUMENTS:
            for name in re.findall(r"\bcrcache_[a-z_]*[a-z]\b(?![*.])", read(document)):
                self.assertIn(name, there, document)

    def test_events(self) -> None:
        """Events and the journal's fields are those that are logged."""
        names = {event.name for event in events.EVENTS}
        fields = {f"CRCACHE_{name.upper()}" for name in (*events.FIELDS, *MORE_FIELDS)}
        seen = 0
        for document in DOCUMENTS:
            text = read(document)
            found = re.findall(r"CRCACHE_EVENT=([a-z-]+)", text)
            for listed in re.findall(r"\bevents?\s((?:`[a-z-]+`(?:,?\s(?:and\s)?)?)+)", text):
                found += re.findall(r"`([a-z-]+)`", listed)
            seen += len(found)
            self.assertLessEqual(set(found), names, document)
            self.assertLessEqual(
                set(re.findall(r"\bCRCACHE_[A-Z_]+\b", text)) - {"CRCACHE_FULL"} - VARIABLES, fields, document
            )
        self.assertGreater(seen, 5)

    def test_failures(self) -> None:
        """failures.md has a table that says all of each failure; it names events that exist, and each that is a warning
        or worse."""
        names = {event.name for event in events.EVENTS}
        rows = [line for line in read("docs/failures.md").splitlines() if line.startswith("| ") and line[2:6] != "what"]
        told: set[str] = set()
        for row in rows:
            cells = row.strip("|").split(" | ")
            self.assertEqual(len(cells), 4, row)
            found = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", cells[1]))
            told |= found
        self.assertLessEqual(told, names)
        table = re.findall(r"(?m)^\| `([a-z-]+)` \| .* \| (.*?) \| `[0-9a-f]{32}` \|$", read("docs/logging.md"))
        serious = {name for name, level in table if re.search("warn|error|critical", level)}
        self.assertGreater(len(serious), 10)
        self.assertLessEqual(serious, told | {"repeated"})

    def test_version(self) -> None:
        """A version that is printed is this one."""
        for document in DOCUMENTS:
            for version in re.findall(r"\bcrcache[: ](\d+\.\d+\.\d+)\b", read(document)):
                self.assertEqual(version, __version__, document)

    def test_mistake(self) -> None:
        """The mistake that configuration.md shows is told in these words."""
        (shown,) = re.findall(r"(?m)^ {4}crcache: /etc/crcache/crcache\.yaml(:4: .*)$", read("docs/configuration.md"))
        error = self.assertRaises(ConfigError, self.config, "\n\ncache:\n  tag-tll: 5m\n")
        self.assertTrue(error.message.endswith(shown), error.message)
