"""Which images are meant by names and patterns."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape

from crcache.commands.references import Name, reference_argument, spell
from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.inventory.images import Image, Images
from crcache.inventory.repositories import Home

_WILD = re.compile(r"[*?\[]")
_SHORTER = ("docker.io/", "docker.io/library/")


@dataclass(frozen=True)
class Pattern:
    """Shell globs over C{registry/repository}, C{registry/repository:tag} and C{registry/repository@digest}.

    C{*} stands for any characters, C{/} among them. What Docker Hub has can be named without C{docker.io/} and
    C{library/}, as everywhere.
    """

    glob: str

    def matches(self, home: Home, reference: Tag | Digest | None) -> bool:
        """Whether it matches the repository, or this in it."""
        names = [str(home), spell(home.registry, home.repository, reference)]
        for prefix in _SHORTER:
            names += [name.removeprefix(prefix) for name in names[:2] if name.startswith(prefix)]
        return any(fnmatchcase(name, self.glob) for name in names)


def pattern_argument(text: str) -> Pattern:
    """For C{argparse}: a glob; a name without wildcards matches itself alone."""
    meant = selector(text)
    return meant if isinstance(meant, Pattern) else Pattern(escape(str(meant)))


def selector(text: str) -> Name | Pattern:
    """For C{argparse}: a name, or a glob if it has C{*}, C{?} or C{[...]} (but for an IPv6 address)."""
    if _WILD.search(text.partition("]")[2] if text.startswith("[") else text):
        return Pattern(text)
    return reference_argument(text)


def add_selectors(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which."""
    parser.add_argument(
        "selectors",
        metavar="REF",
        nargs="*",
        type=selector,
        help="an image (nginx:1.27, ghcr.io/team/app@sha256:…), a repository, or a shell pattern over"
        " registry/repository:tag ('ghcr.io/team/*')",
    )


def selected(
    images: Images, selectors: Sequence[Name | Pattern], *, untagged: bool, missing: list[str]
) -> Iterator[Image]:
    """The images that are meant, each once; all without selectors.

    @param untagged: those too that no tag leads to. One that is named by its digest is meant in any case.
    @param missing: given the names that nothing was found for, once all are taken. Patterns may match nothing.
    """
    if selectors and all(isinstance(each, Name) for each in selectors):
        yield from _named(images, [each for each in selectors if isinstance(each, Name)], untagged, missing)
        return
    patterns = [each for each in selectors if isinstance(each, Pattern)]
    names = [each for each in selectors if isinstance(each, Name)]
    found = set()
    for image in _named(images, names, untagged, missing):
        found.add(str(image))
        yield image
    for image in images.all(untagged=untagged):
        reference = image.digest if image.tag is None else image.tag
        wanted = not selectors or any(pattern.matches(image.home, reference) for pattern in patterns)
        if wanted and str(image) not in found:
            yield image


def _named(images: Images, names: Sequence[Name], untagged: bool, missing: list[str]) -> Iterator[Image]:
    seen = set()
    for name in names:
        home = Home(name.registry, name.repository)
        found = False
        if name.reference is None:
            candidates: Iterator[Image] = images.of(home, untagged=untagged)
        else:
            single = images.find(home, name.reference)
            candidates = iter(() if single is None else (single,))
        for image in candidates:
            found = True
            if str(image) not in seen:
                seen.add(str(image))
                yield image
        if not found:
            missing.append(str(name))


def one(images: Images, name: Name) -> Image:
    """The single image that a name means.

    @raise StoreError: if it is not in the cache.
    """
    image = images.find(Home(name.registry, name.repository), name.image)
    if image is None:
        whole = spell(name.registry, name.repository, name.image)
        raise StoreError(f"{whole} is not in the cache; 'crcache ls {name.registry}/{name.repository}' shows what is")
    return image
