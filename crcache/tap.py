"""The composition root: puts the rooms together. Nobody imports it but twistd, by way of the plugin."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from crcache.cache import Cache
from crcache.daemon import CannotStart, Daemon, Listener, Parts, tell_why
from crcache.errors import ConfigError, StoreError
from crcache.flow.fills import Fills
from crcache.flow.sender import Sender
from crcache.flow.tools import Tools
from crcache.host.memory import keep_buffers
from crcache.insight import admin
from crcache.insight.metrics import Meter
from crcache.insight.status import Status
from crcache.manifests import Manifests, Rules
from crcache.options import Options as Options
from crcache.origin import Origin
from crcache.policy.retry import pause
from crcache.provenance import Provenance
from crcache.settings import Config
from crcache.store.filesystem import Filesystem
from crcache.upstream import resolver
from crcache.upstream.client import Upstream
from crcache.web.site import Site
from crcache.web.v2 import V2
from crcache.workers import Workers

#: Threads for each kind of work. None of them keeps a processor busy for long but hashing.
DISK_THREADS = 8
SYNCING_THREADS = 4
READING_THREADS = 8
HASHING_THREADS = 4
NAME_THREADS = 8


def makeService(options: Options) -> IService:
    """What twistd runs."""
    from twisted.internet import reactor

    sys.excepthook = tell_why
    try:
        service: IService = build(options.config, reactor, warnings=options.warnings)
    except ConfigError as problem:
        # Of what the options cannot see: the environment's proxies.
        raise CannotStart(problem.message) from problem
    return service


def build(
    config: Config, reactor: Any, *, warnings: tuple[str, ...] = (), environ: Mapping[str, str] = os.environ
) -> Daemon:
    """A daemon for one configuration. Nothing is opened or started yet.

    @param reactor: TCP, time, threads, names.
    @param environ: says where the proxies are, if the configuration does not.
    """
    disk = Workers(reactor, DISK_THREADS, "crcache-disk")
    syncing = Workers(reactor, SYNCING_THREADS, "crcache-syncing")
    reading = Workers(reactor, READING_THREADS, "crcache-reading")
    hashing = Workers(reactor, HASHING_THREADS, "crcache-hashing")
    names = Workers(reactor, NAME_THREADS, "crcache-names")
    clock = time.time

    # Those that the administrator has named anywhere; clients cannot add to them.
    credited = {registry for registry, _ in config.credentials.entries}
    meter = Meter({*config.registries, *credited, config.default_registry})
    store = Filesystem(config.cache_directory, disk, clock, syncing)
    upstream = Upstream(reactor, config.upstream, config.registry, config.credentials, meter, environ)
    origin = Origin(upstream)

    def retry(failures: int) -> float | None:
        return pause(failures, config.upstream.retries, random.random())  # noqa: S311

    fills = Fills(Tools(reactor, store, upstream, hashing, meter, retry))
    provenance = Provenance(store, origin, hashing, clock, config.cache_manifests, reactor)
    rules = Rules(config.cache_manifests, config.ignore, lambda registry: config.registry(registry).times)
    manifests = Manifests(store, provenance, rules, clock)
    cache = Cache(store, origin, fills, manifests, hashing, clock)
    clients = Site(V2(cache, Sender(reading, hashing), meter, reactor, config.default_registry), reactor)

    def endpoint(description: str) -> IStreamServerEndpoint:
        # Importing this module takes systemd's sockets out of the environment; nobody else may need them by then.
        from twisted.internet.endpoints import serverFromString

        made: IStreamServerEndpoint = serverFromString(reactor, description)
        return made

    listeners = [Listener(each, partial(endpoint, each), clients) for each in config.listen]
    parts = Parts(
        listeners,
        [disk, syncing, reading, hashing, names],
        store,
        fills,
        upstream.close,
        partial(_on_start, reactor, names),
        warnings,
    )
    daemon = Daemon(parts)

    def readiness() -> Deferred[list[str]]:
        if daemon.draining:
            return _now(["draining"])
        return store.ready().addCallbacks(lambda _: [], _reason)

    if config.admin is not None:
        status = Status(
            reactor,
            meter,
            str(config.cache_directory),
            list(config.registries),
            daemon.addresses,
            fills.describe,
        )
        pages = Site(admin.root(meter.collectors, readiness, status, reactor), reactor)
        listeners.append(Listener(config.admin, partial(endpoint, config.admin), pages))
    return daemon


def _on_start(reactor: Any, names: Workers) -> Callable[[], None]:
    keep_buffers()
    return resolver.install(reactor, names.pool).retire


def _now(reasons: list[str]) -> Deferred[list[str]]:
    done: Deferred[list[str]] = Deferred()
    done.callback(reasons)
    return done


def _reason(failure: Any) -> list[str]:
    failure.trap(StoreError)
    return [failure.value.message]
