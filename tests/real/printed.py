"""Commands that documents print: found by their marks, run as they are there, their output held against what is shown.

A block's mark is a comment on the line before it: C{<!-- tested: NAME -->}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.daemon import ROOT

_FENCE = re.compile(r"(?ms)^(?:<!-- ([^\n]*?) -->\n)?```(\w*)\n(.*?)\n```$")
_ELLIPSIS = re.compile(r"…|\.\.\.")
_END = "-- end of output --"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    @ivar mark: the text of the comment before it; empty if there is none.
    @ivar language: C{console}, C{yaml}, …; empty if it is not said.
    @ivar line: of the file, at which it begins.
    """

    mark: str
    language: str
    text: str
    line: int


def blocks(document: str | Path) -> list[Block]:
    """All blocks of a document, by its path below L{ROOT}."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(found[1] or "", found[2], found[3], text.count("\n", 0, found.start(2)) + 1)
        for found in _FENCE.finditer(text)
    ]


def tested(document: str | Path, name: str, language: str = "console") -> list[str]:
    """What is in the blocks of that mark and language.

    @raise AssertionError: if there is none.
    """
    found = [each.text for each in blocks(document) if (each.mark, each.language) == (f"tested: {name}", language)]
    if not found:
        raise AssertionError(f"{document}: no {language} block is marked <!-- tested: {name} -->")
    return found


def parse_block(text: str) -> list[tuple[str, list[str]]]:
    """The commands (after C{$ }, the lines after a backslash at a line's end joined), each with the output shown."""
    commands: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif commands and commands[-1][0].endswith("\\") and not commands[-1][1]:
            commands[-1] = (f"{commands[-1][0]}\n{line.removeprefix('> ')}", [])
        elif commands and line.strip():
            commands[-1][1].append(line.strip())
    return commands


def run_printed(texts: Sequence[str], bash: Callable[[str], str], before: str = "") -> None:
    """Run the commands of blocks, in one shell.

    Each must end with status 0, and print every line that is shown below it; C{…} stands for anything.

    @param bash: runs a script of bash's, and returns what it wrote; raises L{AssertionError} if it fails.
    @param before: what the script begins with.
    """
    commands = [command for text in texts for command in parse_block(text)]
    script = f"set -e -o pipefail\n{before}\n"
    script += "".join(f"{command}\necho; echo '{_END}'\n" for command, _ in commands)
    outputs = bash(script).split(_END)
    for (command, shown), output in zip(commands, outputs, strict=False):
        printed = [line.strip() for line in output.splitlines()]
        for line in shown:
            wanted = re.compile(".*".join(re.escape(part) for part in _ELLIPSIS.split(line)))
            if not any(map(wanted.fullmatch, printed)):
                raise AssertionError(f"{command}\ndoes not print\n{line}\nbut\n{output}")
