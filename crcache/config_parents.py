"""The key C{parents} of the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from crcache import pem, values
from crcache.settings import ParentSettings
from crcache.yaml_file import Entry

_KEYS = ("url", "ca", "client-cert", "client-key")
#: More than anybody has; each question looks at all of them.
MOST = 64


def read_parents(top: Mapping[str, Entry], base: Path) -> tuple[ParentSettings, ...]:
    """The parents: a list of URLs, or of mappings with a C{url} and the files that HTTPS there needs.

    @param top: the file's sections.
    @param base: where relative paths begin.
    @raise crcache.errors.ConfigError: naming the line and key.
    """
    if "parents" not in top:
        return ()
    found: dict[str, ParentSettings] = {}
    for entry in top["parents"].several(empty=True):
        parent = _parent(entry, base)
        if parent.url in found:
            raise entry.wrong(f"{parent.url} is there twice; keep one of them")
        found[parent.url] = parent
        if len(found) > MOST:
            raise entry.wrong(f"there are more than {MOST}; have some of them be the parents of others")
    return tuple(found.values())


def _parent(entry: Entry, base: Path) -> ParentSettings:
    if not entry.mapping:
        return ParentSettings(entry.convert(values.parent_url))
    fields = entry.section(_KEYS)
    if "url" not in fields:
        raise entry.wrong("has no url")
    for given, missing in (("client-cert", "client-key"), ("client-key", "client-cert")):
        if given in fields and missing not in fields:
            raise fields[given].wrong(f"needs {missing} too")
    url = fields["url"].convert(values.parent_url)
    for name in _KEYS[1:]:
        if name in fields and not url.startswith("https:"):
            raise fields[name].wrong("has no meaning for a parent at http://; use https:// or leave it out")

    def file(text: str) -> Path:
        return pem.certificates(values.absolute(text, base))

    ca = fields["ca"].convert(file) if "ca" in fields else None
    if "client-cert" not in fields:
        return ParentSettings(url, ca)
    certificate = fields["client-cert"].convert(file)
    key_of = partial(pem.private_key_of, certificate)
    key = fields["client-key"].convert(lambda text: key_of(values.absolute(text, base)))
    return ParentSettings(url, ca, certificate, key)
