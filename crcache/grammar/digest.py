"""Digests: content's names, which anyone can check.

https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests ::

    digest                ::= algorithm ":" encoded
    algorithm             ::= algorithm-component (algorithm-separator algorithm-component)*
    algorithm-component   ::= [a-z0-9]+
    algorithm-separator   ::= [+._-]
    encoded               ::= [a-zA-Z0-9=_-]+

Of the registered algorithms, sha256 ("MUST match /[a-f0-9]{64}/") and sha512 ("MUST match /[a-f0-9]{128}/") are
served. Others are refused: what crcache can't verify it must not keep.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crcache.errors import DigestInvalid
from crcache.grammar.excerpt import excerpt

if TYPE_CHECKING:
    from hashlib import _Hash

_HASHERS: Mapping[str, Callable[[], _Hash]] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_ENCODED = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}

#: The algorithms that are served.
ALGORITHMS = tuple(_HASHERS)


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """An algorithm's name and a hash in lower-case hexadecimal.

    Both are of the grammar above in every instance, so each is one safe path component.

    @raise DigestInvalid: when made from anything else.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        encoded = _ENCODED.get(self.algorithm)
        if encoded is None:
            served = " or ".join(ALGORITHMS)
            raise DigestInvalid(f"Use a {served} digest; {excerpt(self.algorithm)} is not served.")
        if encoded.fullmatch(self.hex) is None:
            length = hashlib.new(self.algorithm).digest_size * 2
            raise DigestInvalid(
                f"Send {length} lower-case hexadecimal digits after {self.algorithm}:, not {excerpt(self.hex)}."
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest written as C{algorithm:hex}.

        @raise DigestInvalid: if it is not one, or of an algorithm that is not served.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise DigestInvalid(f"Send a digest as algorithm:hex, not {excerpt(text)}.")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of these bytes, which are hashed here and now: for small content.

        @raise DigestInvalid: if the algorithm is not served.
        """
        make = _HASHERS.get(algorithm)
        if make is None:
            raise DigestInvalid(f"Use a digest of {' or '.join(ALGORITHMS)}, not of {excerpt(algorithm)}.")
        hasher = make()
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> _Hash:
        """A new C{hashlib} object of this digest's algorithm; its C{hexdigest()} is to equal L{hex}."""
        return _HASHERS[self.algorithm]()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
