"""Memberships, tags and privacies as small JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from crcache.errors import CrcacheError
from crcache.facts import Fetched, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.media_type import parse_media_type

_FETCHED = {word.name.lower(): word for word in Fetched}
#: Of an origin's challenges that are kept: lines, and characters of all lines together.
MOST_CHALLENGES = 8
LONGEST_CHALLENGES = 4096


def membership_record(membership: Membership) -> dict[str, Any]:
    """How a membership is written; C{obtained} says in whose way: C{open} or C{private}. So does C{fetched}: C{openly},
    C{privately}, or C{never}."""
    return {
        "digest": str(membership.digest),
        "mediaType": membership.media_type,
        "size": membership.size,
        "obtained": "open" if membership.open else "private",
        "since": membership.since,
        "fetched": membership.fetched.name.lower(),
        "named": membership.named,
    }


def membership_from(record: Mapping[str, Any] | None, digest: Digest) -> Membership | None:
    """The membership that a record says, or C{None} if it is not one of this digest."""
    if record is None or record.get("digest") != str(digest):
        return None
    size, since = record.get("size"), record.get("since")
    opened, fetched = record.get("obtained") == "open", record.get("fetched")
    return Membership(
        digest,
        # It goes into an answer's head: whoever can write here must not be able to write there.
        parse_media_type(record.get("mediaType")),
        size if _is_size(size) else None,
        opened,
        float(since) if _is_time(since) else None,
        _sound(opened, _FETCHED.get(fetched, Fetched.NEVER) if isinstance(fetched, str) else Fetched.NEVER),
        # Older records do not say: most of them are of manifests and blobs that were fetched.
        record.get("named") is True,
    )


def _sound(opened: bool, fetched: Fetched) -> Fetched:
    """What was fetched openly is open; of what says otherwise nothing is believed."""
    return Fetched.NEVER if fetched is Fetched.OPENLY and not opened else fetched


def merged(old: Membership | None, new: Membership, now: float) -> Membership:
    """What is known after C{new}: open stays open, fetched stays fetched, and what was said stays said.

    Type and size are the newer ones, but what an origin itself has said is not changed by a manifest that names the
    same content: whoever may push that could make others take a manifest for one of another kind.

    @param now: in seconds since the epoch, for what has no time yet.
    """
    new = replace(new, fetched=_sound(new.open, new.fetched))
    if old is None:
        return new if new.since is not None else replace(new, since=now)
    stands = new.named and not old.named
    return Membership(
        new.digest,
        old.media_type if new.media_type is None or (stands and old.media_type is not None) else new.media_type,
        old.size if new.size is None or (stands and old.size is not None) else new.size,
        old.open or new.open,
        now if old.since is None else old.since,
        max(old.fetched, new.fetched),
        old.named and new.named,
    )


def tag_record(entry: TagEntry) -> dict[str, Any]:
    """How a tag is written."""
    return {
        "digest": str(entry.digest),
        "mediaType": entry.media_type,
        "size": entry.size,
        "checked": entry.checked,
        "open": entry.open,
    }


def tag_from(record: Mapping[str, Any] | None) -> TagEntry | None:
    """The tag that a record says, or C{None} if it is not one.

    One that does not say whether it is open is older than the question, and is.
    """
    if record is None:
        return None
    digest, media_type = record.get("digest"), parse_media_type(record.get("mediaType"))
    size, checked = record.get("size"), record.get("checked")
    if not (isinstance(digest, str) and media_type is not None and _is_size(size)):
        return None
    if not _is_time(checked):
        return None
    try:
        return TagEntry(Digest.parse(digest), media_type, size, float(checked), record.get("open", True) is True)
    except CrcacheError:
        return None


def kept(privacy: Privacy) -> Privacy:
    """As much of a privacy as is kept: of its challenges those that are printable, the first few."""
    challenges: list[str] = []
    room = LONGEST_CHALLENGES
    for line in privacy.challenges:
        if line and line.isascii() and line.isprintable() and len(line) <= room:
            challenges.append(line)
            room -= len(line)
    return Privacy(privacy.checked, tuple(challenges[:MOST_CHALLENGES]))


def privacy_record(privacy: Privacy) -> dict[str, Any]:
    """How a repository's privacy is written."""
    return {"checked": privacy.checked, "challenges": list(privacy.challenges)}


def privacy_from(record: Mapping[str, Any] | None) -> Privacy:
    """The privacy that a record says. A damaged one says that the repository is private, and when is not known."""
    if record is not None:
        checked, challenges = record.get("checked"), record.get("challenges")
        if _is_time(checked) and isinstance(challenges, list) and all(isinstance(each, str) for each in challenges):
            return kept(Privacy(float(checked), tuple(challenges)))
    return Privacy(0.0)


def _is_size(size: Any) -> TypeGuard[int]:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63


def _is_time(time: Any) -> TypeGuard[float]:
    return isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < 1e12
