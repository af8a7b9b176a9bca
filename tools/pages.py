"""Writes what is made of the command line's own description: crcache(1), and completion for bash, zsh and fish.

`make pages` runs it; a test fails when what is committed is not what it would write.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from crcache.cli import COMMANDS, make_parser

_TICKETS = re.compile(r" \(#\d[^)]*\)$")
PACKAGING = Path(__file__).resolve().parents[1] / "packaging"
PAGE = PACKAGING / "man" / "crcache.1"
COMPLETIONS = {
    "bash": PACKAGING / "completion" / "bash" / "crcache",
    "zsh": PACKAGING / "completion" / "zsh" / "_crcache",
    "fish": PACKAGING / "completion" / "fish" / "crcache.fish",
}

_HEAD = r""".\" Made by tools/pages.py of what 'crcache --help' says: 'make pages' writes it anew.
.TH CRCACHE 1 2026-11-26 crcache "User Commands"
.SH NAME
crcache \- the administrator's tool of a cache of container registries
.SH SYNOPSIS
.B crcache
.RB [ \-\-version ]
.RB [ \-\-help ]
.I COMMAND
.RI [ arguments ]
.SH DESCRIPTION
What an administrator does beside running the cache itself, for which see
.BR crcache (8).
Commands that work on the cache directory do so whether the cache runs or not.
"""

_TAIL = r""".SH EXIT STATUS
0 done, 1 failed, 2 misused; 130 if it was interrupted, 141 if nobody reads what
it prints any more.
.SH FILES
.I /etc/crcache/crcache.yaml
.br
.I /var/cache/crcache
.SH EXAMPLES
On a node whose containerd is to pull through the crcache that runs there:
.PP
.EX
crcache hosts \-\-apply
.EE
.PP
What takes the most room, and what of it nobody has used for a month:
.PP
.EX
crcache du \-\-by image
crcache prune \-\-older\-than 30d \-\-dry\-run
.EE
.SH SEE ALSO
.BR crcache (8),
.BR crcache.yaml (5)
"""

_BASH = r"""
_crcache_images() {
    compgen -W "$(crcache ls --quiet 2>/dev/null)" -- "$1"
}

# To readline a colon ends a word: names are put together again, and what stands before the colon is not said twice.
_crcache() {
    local -a words=()
    local word last= said
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -gt 0 && ( $word == :* || $last == *: ) ]]; then
            words[-1]+="$word"
        else
            words+=("$word")
        fi
        last="$word"
    done
    said="${words[-1]%"${words[-1]##*:}"}"
    COMP_WORDS=("${words[@]}")
    COMP_CWORD=$((${#words[@]} - 1))
    _shtab_crcache "$@"
    [[ $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"$said"}")
}
"""
_ZSH = """
_crcache_images() {
    local -a images
    images=(${(f)"$(crcache ls --quiet 2>/dev/null)"})
    compadd -a images
}
"""
#: What words mean that stand for arguments.
_PATHS = {"FILE": "file", "LIST": "file", "DIR": "directory"}
_IMAGES = {"bash": "_crcache_images", "zsh": "_crcache_images", "fish": "(crcache ls --quiet 2>/dev/null)"}


def page() -> str:
    """crcache(1)."""
    parts = [_HEAD]
    for action in make_parser()._actions:
        if action.option_strings:
            parts += _item(action, make_parser())
    parts.append(".SH COMMANDS\n")
    for command in COMMANDS:
        parser = argparse.ArgumentParser(prog=f"crcache {command.NAME}", add_help=False)
        command.add_arguments(parser)
        parts.append(f".SS {_plain(command.NAME)}\n{_sentences(parser.description or '')}")
        for action in parser._actions:
            parts += _item(action, parser)
    return "".join((*parts, _TAIL))


def _item(action: argparse.Action, parser: argparse.ArgumentParser) -> Iterator[str]:
    if action.option_strings:
        flags = ' ", " '.join(_plain(flag) for flag in action.option_strings)
        value = _value(action)
        alone = value is None and len(action.option_strings) == 1
        yield f".TP\n.{'B' if alone else 'BR'} {flags}" + ("" if value is None else rf' " \fI{value}\fR"') + "\n"
    else:
        yield f".TP\n.I {_value(action) or _plain(action.dest)}\n"
    values = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % values
    yield _sentences(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))


def _value(action: argparse.Action) -> str | None:
    if action.nargs == 0:
        return None
    if action.metavar is None and action.choices is not None:
        return _plain("|".join(map(str, action.choices)))
    word = _plain(str(action.metavar or action.dest.upper()))
    return f"{word} ..." if action.nargs in ("*", "+") else word


def _sentences(text: str) -> str:
    """Each on lines of its own, as roff wants them."""
    lines = [
        line
        for sentence in text.replace(". ", ".\n").splitlines()
        for line in textwrap.wrap(_plain(sentence), 78, break_long_words=False, break_on_hyphens=False)
    ]
    return "".join(rf"\&{line}" + "\n" if line[:1] in ".'" else f"{line}\n" for line in lines)


def _plain(text: str) -> str:
    """Text that roff prints as it is."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")


def completion(shell: str) -> str:
    """Completion for a shell of L{COMPLETIONS}."""
    import shtab

    parser = make_parser()
    for each in _parsers(parser):
        command = each.get_default("command")
        # One line for each in the shell's list.
        each.description = each.description if command is None else command.HELP
        for action in each._actions:
            kind = _PATHS.get(str(action.metavar))
            if kind is not None:
                action.complete = getattr(shtab, kind.upper())  # type: ignore[attr-defined]
            elif action.metavar == "REF":
                action.complete = _IMAGES  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell, preamble={"bash": _BASH, "zsh": _ZSH})
    text = text.replace("-F _shtab_crcache crcache", "-F _crcache crcache")
    # The numbers of its own tickets mean nothing here.
    return "".join(f"{_TICKETS.sub('', line).rstrip()}\n" for line in text.splitlines())


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def pages() -> dict[Path, str]:
    """All that is written, by the files that it is in."""
    return {PAGE: page(), **{path: completion(shell) for shell, path in COMPLETIONS.items()}}


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
