"""Shell completion: that it is what the commands say now, and that bash completes by it."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from crcache import cli
from tests.test_man import pages

#: Asks as readline does: what is typed so far is the words that it breaks the line into.
ASK = """
source "$1"
crcache() {
    [[ "$*" == "ls --quiet" ]] && printf '%s\\n' docker.io/library/nginx:1 docker.io/library/nginx:2 ghcr.io/a/b:1
}
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
shift 2
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
$(complete -p crcache | sed 's/.*-F \\([^ ]*\\).*/\\1/') crcache "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


class CompletionTests(SynchronousTestCase):
    """What is in packaging/completion/."""

    def test_fresh(self) -> None:
        """What is committed is what C{make pages} writes now."""
        made = pages()
        for shell, path in made.COMPLETIONS.items():
            self.assertEqual(path.read_text(encoding="utf-8"), made.completion(shell), path)

    def complete(self, *words: str) -> list[str]:
        """What bash offers for the last of these words."""
        line = " ".join(words).replace(" : ", ":").replace(" :", ":")
        path = pages().COMPLETIONS["bash"]
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "bash", path, line, *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return sorted(done.stdout.split())

    def test_commands(self) -> None:
        """The first word is a command."""
        self.assertEqual(self.complete("crcache", "s"), ["show", "status"])
        self.assertLessEqual({command.NAME for command in cli.COMMANDS}, set(self.complete("crcache", "")))

    def test_flags(self) -> None:
        """Each command has its own flags, and some of these their values."""
        self.assertEqual(self.complete("crcache", "du", "--b"), ["--by"])
        self.assertEqual(self.complete("crcache", "du", "--by", "re"), ["registry", "repository"])
        self.assertEqual(self.complete("crcache", "hosts", "--for", "k"), ["k3s"])

    def test_images(self) -> None:
        """Images are those in the cache; after a colon only what follows it is to be said."""
        both = ["docker.io/library/nginx:1", "docker.io/library/nginx:2"]
        self.assertEqual(self.complete("crcache", "show", "docker"), both)
        self.assertEqual(self.complete("crcache", "pin", "ghcr.io/a/b", "docker"), both)
        self.assertEqual(self.complete("crcache", "show", "docker.io/library/nginx", ":", ""), ["1", "2"])
