"""Single values of the configuration, made from the text that was typed in the file or behind a flag.

Each function raises C{ValueError} with what is wrong and what would be right, in words that go on behind the name of
the key or flag and show nothing that may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from crcache.errors import NameInvalid
from crcache.grammar.excerpt import excerpt
from crcache.grammar.reference import Registry
from crcache.units import parse_duration

_YES = frozenset({"yes", "true", "on", "1"})
_NO = frozenset({"no", "false", "off", "0"})

# RFC 3986, 3.2.2 and 3.2.3, without percent-encoding; the underscore is what container networks put in names.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_VISIBLE = re.compile(r"[!-~]+")


def boolean(text: str) -> bool:
    """C{yes} or C{no}, in any of the usual spellings."""
    word = text.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"must be yes or no, not {excerpt(text)}")


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """A parser that takes these words and no others."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {excerpt(text)}")
        return text

    return parse


def at_least(minimum: int) -> Callable[[str], int]:
    """A parser of whole numbers from C{minimum} on."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < minimum:
            raise ValueError(f"must be a whole number, {minimum} or more")
        return int(text)

    return parse


def timeout(text: str) -> float:
    """A duration, in seconds, that is more than nothing."""
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression."""
    if not text:
        raise ValueError("is empty, which would match every tag; ^$ matches none, . matches all")
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{excerpt(text)} is not a regular expression: {error.msg}") from None
    except (OverflowError, RecursionError):
        raise ValueError("is not a regular expression that can be used") from None


def registry(text: str) -> Registry:
    """A registry's name, without scheme and path."""
    if "/" in text or "@" in text:
        raise ValueError("must be a registry's name alone, without https:// and without a path")
    try:
        return Registry.parse(text)
    except NameInvalid:
        raise ValueError(f"{excerpt(text)} is not a registry such as ghcr.io or registry.example.com:5000") from None


def base_url(text: str) -> str:
    """A registry's URL, to which C{/v2/} is added; without a trailing slash."""
    return _before_v2(text, "https://registry.example.com:5000", "the keys username and password are for that")


def parent_url(text: str) -> str:
    """Another cache's URL, to which C{/v2/} is added; without a trailing slash."""
    return _before_v2(text, "http://rack-cache.example.com:3000", "it passes the clients' own credentials on")


def _before_v2(text: str, example: str, elsewhere: str) -> str:
    parts = _http_url(text, example, elsewhere)
    path = parts.path.rstrip("/")
    if path == "/v2" or path.endswith("/v2"):
        raise ValueError("must end before /v2, which is added to it")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def service_url(text: str, example: str) -> str:
    """The URL of a service that has a host for itself, without a trailing slash.

    @param example: one that would be right.
    """
    parts = _http_url(text, example, "the keys are never in this file")
    if parts.path not in ("", "/"):
        raise ValueError("must end after the host and port")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def proxy_url(text: str) -> str:
    """An HTTP proxy's URL, without a trailing slash. The proxy itself may be spoken to through TLS."""
    example = "http://proxy.example.com:3128"
    parts = _http_url(text, example, "HTTPS_PROXY and HTTP_PROXY in the environment may")
    if parts.path not in ("", "/"):
        raise ValueError("must end after the host and port of the proxy")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _http_url(text: str, example: str, elsewhere: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not a URL such as {example}") from None
    # The URL is never shown: whoever puts a password into one has made just such a mistake.
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError(f"must not carry a user name or password; {elsewhere}")
    if "?" in text or "#" in text:
        raise ValueError("must not have a ? or # in it")
    if port == 0 or not _AUTHORITY.fullmatch(parts.netloc) or not _VISIBLE.fullmatch(text):
        raise ValueError(f"is not a URL such as {example}")
    return parts


def absolute(text: str, base: Path) -> Path:
    """A path; a relative one begins at C{base}, and C{~} is a home directory."""
    if not text:
        raise ValueError("is empty; it must be a path")
    try:
        return base / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, but there is no such home directory") from None
