"""What the administrator has named anywhere in the configuration: clients cannot add to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from crcache.policy.reach import allowed
from crcache.settings import Config
from crcache.tier.tier import bucket_hosts
from crcache.upstream.proxy import Proxies


def registries(config: Config) -> set[Any]:
    """The registries that the administrator has named anywhere; clients cannot add to them."""
    credited = {registry for registry, _ in config.credentials.entries}
    helped = config.credentials.helpers
    return {*config.registries, *credited, *helped, *allowed(config.reach), config.default_registry}


def hosts(config: Config, environ: Mapping[str, str]) -> set[str]:
    """Where they are, where they may lead, and the proxies before them."""
    settings = [config.registry(registry) for registry in registries(config)]
    urls = [*(url for each in settings for url in each.urls), *(each.url for each in config.parents)]
    trusted = [pattern.host for each in settings for pattern in each.trusted_hosts]
    bucket = [] if config.s3 is None else bucket_hosts(config.s3)
    found = {*(urlsplit(url).hostname or "" for url in urls), *trusted, *bucket}
    return {*found, *Proxies(config.upstream.proxy, environ).hosts}
