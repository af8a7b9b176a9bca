"""What answers clients, put together: what lives as long as the process, and what a reload replaces."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from crcache.cache import Cache
from crcache.flow.carry import Means
from crcache.flow.fills import Fills
from crcache.flow.sender import Sender
from crcache.flow.tools import Room, Tools
from crcache.grammar.reference import Registry
from crcache.insight.metrics import Meter
from crcache.interfaces import ICache
from crcache.live import Switched, SwitchedCache, SwitchedUpstream
from crcache.manifests import Manifests, Rules
from crcache.opening import Closed
from crcache.origin import Origin
from crcache.policy.retry import pause
from crcache.provenance import Provenance
from crcache.scrub import Scrub
from crcache.settings import Config
from crcache.store.checker import Checker
from crcache.store.filesystem import Filesystem
from crcache.store.usage import Usage
from crcache.upstream.client import Upstream
from crcache.upstream.health import Health
from crcache.web.v2 import V2
from crcache.workers import Workers

#: Threads for each kind of work. None of them keeps a processor busy for long but hashing.
DISK_THREADS = 8
SYNCING_THREADS = 4
READING_THREADS = 8
HASHING_THREADS = 4
NAME_THREADS = 8
DOUBTING_THREADS = 2
CHECKING_THREADS = 1
CONFIG_THREADS = 1


class Engine:
    """Everything between the listeners, the cache directory and the registries.

    @ivar config: the one in force.
    @ivar v2: what clients' listeners answer with. Before L{open} that is 503.
    @ivar reading_config: the thread that reads configuration; a thread of its own, as its disk may be another one.
    @ivar workers: all the threads.
    @ivar usage: how much content there is; it begins to look with L{open}, and has to be stopped.
    @ivar scrub: checks content again; likewise.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        environ: Mapping[str, str],
        waiting: Callable[[], str],
        day: Callable[[], float] = time.time,
    ) -> None:
        """
        @param environ: says where the proxies are, if the configuration does not.
        @param waiting: why the store is not open.
        @param day: the time of day, in seconds since the epoch.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._reactor = reactor
        self._environ = environ
        self._day = day
        disk = Workers(reactor, DISK_THREADS, "crcache-disk")
        syncing = Workers(reactor, SYNCING_THREADS, "crcache-syncing")
        reading = Workers(reactor, READING_THREADS, "crcache-reading")
        self._hashing = Workers(reactor, HASHING_THREADS, "crcache-hashing")
        self.names = Workers(reactor, NAME_THREADS, "crcache-names")
        self.reading_config = Workers(reactor, CONFIG_THREADS, "crcache-config")
        # They hash whole files, for which manifests, and what is hashed as it comes, would have to wait.
        self._doubting = Workers(reactor, DOUBTING_THREADS, "crcache-doubting")
        checking = Workers(reactor, CHECKING_THREADS, "crcache-checking")
        self.workers = [
            disk,
            syncing,
            reading,
            self._hashing,
            self.names,
            self._doubting,
            checking,
            self.reading_config,
        ]

        self.config = Switched(config)
        self.meter = Meter(_named(config))
        self.usage = Usage(config.cache_directory, disk, reactor)
        self.meter.watch_cache(lambda: self.usage.content, lambda: self.usage.room)
        self.store = Filesystem(
            config.cache_directory,
            disk,
            day,
            syncing,
            hashing=self._doubting,
            parents=config.make_parents,
            changed=self.usage.changed,
            timer=reactor,
        )
        self.scrub = Scrub(Checker(self.store.contents), checking, reactor, time.time, lambda: self.usage.content)
        self._health = Health(reactor)
        self.upstream = SwitchedUpstream(self._upstream(config))
        # Half of the connections are left to those who fetch in their turn.
        room = Room(lambda: self.config.now.upstream.max_connections // 2)
        tools = Tools(
            reactor,
            self.store,
            self.upstream,
            self._hashing,
            self.meter,
            self._retry,
            urls=self._urls,
            room=room,
            stall=self._stall,
            opening=self._opening,
        )
        self.fills = Fills(tools)
        self._cache = SwitchedCache(Closed(waiting))
        self._opened = False
        sender = Sender(Means(reading, self._hashing, reactor, self._retry))
        self.v2 = V2(self._cache, sender, self.meter, reactor, config.default_registry)

    def open(self) -> None:
        """The store is open: serve."""
        self._opened = True
        self.usage.start()
        self.scrub.start()
        self._cache.use(self._story(self.config.now))

    def use(self, config: Config) -> None:
        """Put another configuration in force, for every request and every question to an origin from now on.

        What is being sent or fetched goes on. The cache directory, and where it is listened, stay as they are.

        @raise crcache.errors.ConfigError: if a proxy is not one; nothing has changed then.
        """
        upstream = self._upstream(config)
        self.config.use(config)
        self.upstream.use(upstream)
        self.meter.name(_named(config))
        self.v2.default_registry = config.default_registry
        if self._opened:
            self._cache.use(self._story(config))

    def failing(self) -> list[dict[str, object]]:
        """The registries that fail at the moment, as JSON can carry it; all that nobody has named are C{other}."""
        named = _named(self.config.now)
        found: dict[str, dict[str, object]] = {}
        for registry, (seconds, problem) in self._health.failing().items():
            name = str(registry) if registry in named else "other"
            if name not in found:
                found[name] = {"registry": name, "seconds": round(seconds, 3)}
                if name != "other":
                    found[name]["problem"] = problem
        return sorted(found.values(), key=lambda each: str(each["registry"]))

    def _upstream(self, config: Config) -> Upstream:
        return Upstream(
            self._reactor,
            config.upstream,
            config.registry,
            config.credentials,
            self.meter,
            self._environ,
            health=self._health,
        )

    def _story(self, config: Config) -> ICache:
        store, hashing, clock = self.store, self._hashing, self._day
        origin = Origin(self.upstream)
        keep = config.cache_manifests
        patience = config.upstream.first_byte_timeout + config.upstream.stall_timeout / 2
        provenance = Provenance(store, origin, hashing, clock, keep, self._reactor, self._urls, patience)
        rules = Rules(config.cache_manifests, config.ignore, lambda registry: config.registry(registry).times)
        manifests = Manifests(store, provenance, rules, clock)
        return Cache(store, origin, self.fills, manifests, self._doubting, clock)

    def _urls(self, registry: Registry) -> int:
        return len(self.config.now.registry(registry).urls)

    def _retry(self, failures: int) -> float | None:
        # Spreads retries over time; nobody gains by guessing it.
        return pause(failures, self.config.now.upstream.retries, random.random())  # noqa: S311 # nosec B311

    def _stall(self) -> float:
        return self.config.now.upstream.stall_timeout

    def _opening(self) -> float:
        upstream = self.config.now.upstream
        return upstream.first_byte_timeout + upstream.stall_timeout


def _named(config: Config) -> set[Any]:
    """The registries that the administrator has named anywhere; clients cannot add to them."""
    credited = {registry for registry, _ in config.credentials.entries}
    return {*config.registries, *credited, config.default_registry}
