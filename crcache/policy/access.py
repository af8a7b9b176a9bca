"""Who may read what a repository holds: pure rules over what is known of it.

What crcache's own way opened is for everyone; what only a client's own credentials opened is for those whom the origin
has let in lately. A repository is believed to hold what it has shown, byte by byte; what it merely names, itself or in
a manifest, only if that is for everyone anyway. Else whoever runs a registry could name a private digest, and read it.
"""

from __future__ import annotations

from enum import Enum

from crcache.facts import Fetched, Holding, Privacy, TagEntry
from crcache.settings import ACCESS_OPEN

_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class Right(Enum):
    """Who may read something."""

    #: Whoever asks.
    EVERYONE = "everyone"
    #: Whom the origin has let in lately.
    GRANTED = "granted"
    #: Nobody can say before the origin has sent it, or at least, if it is for everyone, has confirmed that it is there.
    UNPROVEN = "unproven"


def content(holding: Holding, access: str) -> Right:
    """Who may read content through a repository.

    @param access: C{verify} or C{open}, as the registry is configured.
    """
    member = holding.member
    if member is None:
        return Right.UNPROVEN
    openly = member.fetched is Fetched.OPENLY or (member.open and holding.given)
    if not (openly or holding.given or member.fetched is Fetched.PRIVATELY):
        return Right.UNPROVEN
    return readers(holding.privacy, openly, access)


def tag(entry: TagEntry, privacy: Privacy | None, access: str) -> Right:
    """Who may know what a tag means."""
    return readers(privacy, entry.open, access)


def readers(privacy: Privacy | None, openly: bool, access: str) -> Right:
    """Who may read what a repository holds for certain.

    @param openly: whether crcache's own way got it; of what has just been fetched so, nothing need be noted yet.
    """
    return Right.EVERYONE if anyone(access) or (openly and privacy is None) else Right.GRANTED


def anyone(access: str) -> bool:
    """Whether what one client's credentials open is for all, as the registry is configured."""
    return access == ACCESS_OPEN


def lets_in(status: int, media_type: str | None = None) -> bool | None:
    """What an origin's answer says of an `Authorization`: it was accepted, or refused; C{None}: neither.

    Who is sent elsewhere (3xx) has been let in; a 404 may be what strangers get.

    @param media_type: the answer's `Content-Type`.
    """
    if 200 <= status < 300 and _is_page(media_type):
        return None
    if 200 <= status < 400:
        return True
    return False if status in (401, 403) else None


def opens(status: int, media_type: str | None) -> bool:
    """Whether an origin's answer to crcache's own way, about a manifest, says that the repository is open."""
    return 200 <= status < 300 and not _is_page(media_type)


def _is_page(media_type: str | None) -> bool:
    """Whether it is for people: where they log in, or are told to wait. It is the answer to everybody, with a 200
    often enough, and of what stands before the registry, which has not been asked then."""
    return media_type is not None and media_type.partition(";")[0].strip().lower() in _PAGES


def refuses(status: int, by_tag: bool) -> bool:
    """Whether an origin's answer to crcache's own way says that the repository is private.

    A 403 may be about one object only (blocked, quarantined): it counts where a tag was asked for.
    """
    return status == 401 or (status == 403 and by_tag)


def remembered(privacy: Privacy | None, now: float, seconds: float) -> bool:
    """Whether a refusal is so recent, and says so well what to do, that it can be told without asking again."""
    return privacy is not None and bool(privacy.challenges) and 0 <= now - privacy.checked < seconds
