"""Whom the administrator's credentials are shown: the registry's own hosts, and realms that somebody vouches for."""

from __future__ import annotations

from crcache.grammar.hosts import same_host
from crcache.settings import RegistrySettings
from crcache.upstream.urls import Origin, origin_of


def objection(settings: RegistrySettings, asked: Origin, realm: Origin) -> str | None:
    """Why a registry's credentials must not go to the realm that it has named, in words that go on behind "it"; C{None}
    if they may.

    What came over verified TLS is the registry's own word: it may name any realm, as long as that is asked through TLS
    too. Whoever is on the path of anything else can name one, so there it must be at a host that the administrator has
    named himself, and over plain HTTP only where he has chosen that.

    @param asked: which of the registry's URLs named it.
    """
    if asked.scheme == "https" and not settings.insecure_skip_verify:
        return None if realm.scheme == "https" else "is asked without TLS, and the registry is asked through it"
    if realm.scheme == "http" and asked.scheme != "http":
        return "is asked without TLS, and the registry is asked through it"
    plain = {own.host for own in map(origin_of, settings.urls) if own.scheme == "http"}
    own = {own.host for own in map(origin_of, settings.urls)}
    if realm.host in (plain if realm.scheme == "http" else own) or vouched_for(settings, realm):
        return None
    return "is at another host, and whoever is on the path to the registry could have named it"


def vouched_for(settings: RegistrySettings, realm: Origin) -> bool:
    """Whether the administrator has named this host himself as one that the registry sends us to."""
    host = same_host(realm.host)
    return settings.named and any(pattern.matches(host, realm.port) for pattern in settings.trusted_hosts)
