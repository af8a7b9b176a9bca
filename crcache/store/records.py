"""Memberships and tags as small JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from crcache.errors import CrcacheError
from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.media_type import parse_media_type


def membership_record(membership: Membership) -> dict[str, Any]:
    """How a membership is written; C{obtained} says in whose way: C{open} or C{private}."""
    return {
        "digest": str(membership.digest),
        "mediaType": membership.media_type,
        "size": membership.size,
        "obtained": "open" if membership.open else "private",
        "since": membership.since,
        "named": membership.named,
    }


def membership_from(record: Mapping[str, Any] | None, digest: Digest) -> Membership | None:
    """The membership that a record says, or C{None} if it is not one of this digest."""
    if record is None or record.get("digest") != str(digest):
        return None
    size, since = record.get("size"), record.get("since")
    return Membership(
        digest,
        # It goes into an answer's head: whoever can write here must not be able to write there.
        parse_media_type(record.get("mediaType")),
        size if _is_size(size) else None,
        record.get("obtained") == "open",
        float(since) if _is_time(since) else None,
        # Older records do not say: most of them are of manifests and blobs that were fetched.
        record.get("named") is True,
    )


def merged(old: Membership | None, new: Membership, now: float) -> Membership:
    """What is known after C{new}: open stays open, and what was said stays said.

    Type and size are the newer ones, but what an origin itself has said is not changed by a manifest that names the
    same content: whoever may push that could make others take a manifest for one of another kind.

    @param now: in seconds since the epoch, for what has no time yet.
    """
    if old is None:
        return new if new.since is not None else replace(new, since=now)
    stands = new.named and not old.named
    return Membership(
        new.digest,
        old.media_type if new.media_type is None or (stands and old.media_type is not None) else new.media_type,
        old.size if new.size is None or (stands and old.size is not None) else new.size,
        old.open or new.open,
        now if old.since is None else old.since,
        old.named and new.named,
    )


def tag_record(entry: TagEntry) -> dict[str, Any]:
    """How a tag is written."""
    return {
        "digest": str(entry.digest),
        "mediaType": entry.media_type,
        "size": entry.size,
        "checked": entry.checked,
    }


def tag_from(record: Mapping[str, Any] | None) -> TagEntry | None:
    """The tag that a record says, or C{None} if it is not one."""
    if record is None:
        return None
    digest, media_type = record.get("digest"), parse_media_type(record.get("mediaType"))
    size, checked = record.get("size"), record.get("checked")
    if not (isinstance(digest, str) and media_type is not None and _is_size(size)):
        return None
    if not _is_time(checked):
        return None
    try:
        return TagEntry(Digest.parse(digest), media_type, size, float(checked))
    except CrcacheError:
        return None


def _is_size(size: Any) -> TypeGuard[int]:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63


def _is_time(time: Any) -> TypeGuard[float]:
    return isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < 1e12
