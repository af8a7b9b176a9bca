"""What is to be done about one engine: files, and what the administrator should know."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from crcache.nodes.files import Files, Step

BACKUP, EDITED = ".crcache-backup", ".crcache-edited"
_MARK = "# Written by 'crcache hosts', which also removes it: sha256 "
_HASH = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Mirror:
    """Where crcache is, for the clients of this host.

    @ivar url: scheme, host and port.
    @ivar ca: the text of the PEM file with the authority of its certificate.
    """

    url: str
    ca: str | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.url.startswith("https:")

    @property
    def loopback(self) -> bool:
        """Whether it is this very host."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or re.fullmatch(r"127(?:\.\d+){3}", host) is not None


def parse_mirror(text: str) -> str:
    """A mirror's URL as all engines take it.

    @raise ValueError: with what is wrong with it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{text!r} must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("a mirror's URL must not have a user name or password in it")
    if "?" in text or "#" in text or parts.path not in ("", "/"):
        raise ValueError(f"{text!r} must end after the host and port")
    if not _HOST.fullmatch(parts.netloc) or port == 0:
        raise ValueError(f"{text!r} has no proper host and port")
    return f"{parts.scheme}://{parts.netloc}"


@dataclass
class Plan:
    """What to do about one engine.

    @ivar steps: the files to write and remove, in an order that can be broken off anywhere; none if all is in place.
    @ivar directories: to be removed afterwards, if they are empty.
    @ivar notes: what is good to know, a line each.
    @ivar problems: what keeps the engine from asking crcache and has to be done by hand, a line each.
    @ivar reload: what makes the engine read its configuration again.
    """

    steps: list[Step] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reload: str = ""


def marked(body: str) -> str:
    """A file of crcache's own: a line that says so, and the rest."""
    return f"{_MARK}{digest(body)}\n{body}"


def is_marked(text: str) -> bool:
    """Whether crcache wrote such a file, or one that has been edited since."""
    return text.startswith(_MARK)


def is_edited(text: str) -> bool:
    """Whether a file of crcache's own has been edited since."""
    head, _, body = text.partition("\n")
    found = _HASH.search(head.removeprefix(_MARK))
    return found is None or found[0] != digest(body)


def digest(text: str) -> str:
    """The sha256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep_copy(files: Files, plan: Plan, path: str, text: str, suffix: str) -> None:
    """Plan a copy of a file beside it, without losing an earlier one that says something else."""
    copy, number = path + suffix, 0
    while (found := files.read(copy)) is not None and found != text:
        number += 1
        copy = f"{path}{suffix}.{number}"
    if suffix == BACKUP and number:
        # The newest is what has to come back, so it gets the name without a number.
        before = files.read(path + suffix) or ""
        plan.steps.append(Step(copy, before, like=path + suffix, quiet=True))
        copy, found = path + suffix, None
    if found is None:
        plan.steps.append(Step(copy, text, like=path, quiet=True))
    plan.notes.append(f"{files.shown(path)}: a copy of what was there is in {files.shown(copy)}")


def plan_own(files: Files, plan: Plan, path: str, body: str) -> None:
    """Plan that C{path} is crcache's own file with that body. What somebody else wrote is kept beside it."""
    text, before = marked(body), files.read(path)
    if before == text:
        return
    if before is not None and not is_marked(before):
        keep_copy(files, plan, path, before, BACKUP)
    elif before is not None and is_edited(before):
        keep_copy(files, plan, path, before, EDITED)
    plan.steps.append(Step(path, text, told=text))


def plan_own_removal(files: Files, plan: Plan, path: str) -> None:
    """Plan that C{path} is what it was before crcache's own file. One that is somebody else's is left alone."""
    before, backup = files.read(path), files.read(path + BACKUP)
    if before is not None and not is_marked(before):
        if backup == before:
            plan.steps.append(Step(path + BACKUP, None, quiet=True))
        return
    if before is not None and is_edited(before):
        keep_copy(files, plan, path, before, EDITED)
    if backup is not None:
        plan.steps.append(Step(path, backup, like=path + BACKUP))
        plan.steps.append(Step(path + BACKUP, None, quiet=True))
    elif before is not None:
        plan.steps.append(Step(path, None))
