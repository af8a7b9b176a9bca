"""Platforms: what an image is for, and which of an index's images a machine takes.

https://github.com/opencontainers/image-spec/blob/main/image-index.md#image-index-property-descriptions (C{platform});
C{os/architecture[/variant]} is how containerd, docker and skopeo write them.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Other names that kernels and people have for architectures, with the variant that they mean.
_NAMES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "loongarch64": ("loong64", ""),
}
#: What is the same without its variant.
_PLAIN = {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}
_NUMBERED = re.compile(r"v([2-9])")


@dataclass(frozen=True)
class Platform:
    """What an image is for, as C{os/architecture[/variant]}."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that somebody typed, by its usual names.

        @raise ValueError: if it is not one.
        """
        words = text.split("/")
        if len(words) not in (2, 3) or not all(_WORD.fullmatch(word) for word in words):
            raise ValueError(f"a platform is os/architecture or os/architecture/variant, such as linux/arm64: {text!r}")
        return cls(*(word.lower() for word in words)).usual

    @classmethod
    def said(cls, value: object) -> Platform | None:
        """The platform that an index's entry, or a configuration, says; C{None} if it says none that can be printed."""
        if not isinstance(value, dict):
            return None
        words = [value.get(key, "") for key in ("os", "architecture", "variant")]
        if not all(isinstance(word, str) and (not word or _WORD.fullmatch(word)) for word in words):
            return None
        return cls(*words) if words[0] and words[1] else None

    @property
    def known(self) -> bool:
        """Whether it says anything: what goes with an image, and is none, is for C{unknown/unknown}."""
        return self.os != "unknown"

    @property
    def usual(self) -> Platform:
        """The same by its usual names."""
        architecture, variant = self.architecture, self.variant
        if architecture in _NAMES:
            architecture, implied = _NAMES[architecture]
            variant = variant or implied
        if (architecture, variant) in _PLAIN:
            variant = ""
        if architecture == "arm" and not variant:
            variant = "v7"
        return Platform(self.os, architecture, variant)

    def takes(self) -> tuple[Platform, ...]:
        """The platforms whose images a machine of this one runs, the best first: an older variant will do."""
        own = self.usual
        numbered = _NUMBERED.fullmatch(own.variant)
        if numbered is None or own.architecture not in ("arm", "amd64"):
            return (own,)
        newest = int(numbered[1])
        if own.architecture == "arm":
            return tuple(Platform(own.os, "arm", f"v{version}") for version in range(newest, 4, -1)) or (own,)
        older = (Platform(own.os, "amd64", f"v{version}") for version in range(newest, 1, -1))
        return (*older, Platform(own.os, "amd64"))

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def host() -> Platform:
    """This machine's."""
    return Platform(platform.system().lower() or "linux", platform.machine().lower()).usual


def choose(offered: Sequence[Platform | None], wanted: Platform) -> list[int]:
    """Which of an index's images a machine of this platform takes, by their places; none if there is none for it.

    What says no platform is for all of them, if nothing is said to be for this one.
    """
    usual = [None if each is None else each.usual for each in offered]
    for taken in wanted.takes():
        found = [number for number, each in enumerate(usual) if each == taken]
        if found:
            return found
    return [number for number, each in enumerate(usual) if each is None]
