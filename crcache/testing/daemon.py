"""A whole crcache in the process of a test: on free ports of the loopback interface, in a directory of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry
from crcache.settings import Bounds, Config, RegistrySettings, Share

_LOOPBACK = "tcp:0:interface=127.0.0.1"


class Instance:
    """One crcache, put together as C{twistd crcache} does it.

    Of several that run at once, stop the last one first: each gives the reactor back the resolver that it found there.

    @ivar config: what it runs with.
    @ivar service: the daemon itself; a new one for each L{start}, C{None} before the first.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        reactor: Any,
        directory: Path,
        origins: Mapping[str, str],
        day: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        trusted_hosts: tuple[HostPattern, ...] = (HostPattern("127.0.0.1"),),
        **settings: Any,
    ) -> None:
        """
        @param build: C{crcache.tap.build}, which nothing here may import.
        @param directory: the cache directory.
        @param origins: URLs of origins, by the names under which clients ask for them; all else about a registry
            as in C{settings}.
        @param day: the time of day, in seconds since the epoch.
        @param environ: the daemon's environment: proxies, and the runtime directory. By default it is empty.
        @param trusted_hosts: where the origins may send it besides.
        @param settings: further fields of L{Config}; C{registries} of its own wins over the URLs. Without
            C{drain_timeout}, stopping breaks off what is being answered.
        """
        settings.setdefault("listen", (_LOOPBACK,))
        settings.setdefault("admin", _LOOPBACK)
        settings.setdefault("drain_timeout", 0.0)
        # However full the disk is on which tests are run.
        settings.setdefault("bounds", Bounds(Share(100), 0, 1.0, 1.0))
        config = Config(cache_directory=directory, **settings)
        named = {Registry.parse(name): url for name, url in origins.items()}
        plain = {
            registry: RegistrySettings(registry, (url,), times=config.times, trusted_hosts=trusted_hosts)
            for registry, url in named.items()
        }
        self.config = replace(config, registries={**plain, **config.registries})
        self._reactor = reactor
        self._build = build
        self._day = day
        self._environ = {} if environ is None else environ
        self._resolver: Any = None
        self.service: Any = None

    def start(self) -> None:
        """Listen and serve; also again, after L{stop}.

        @raise crcache.ending.CannotStart: with the line that says why it cannot.
        """
        resolver = self._reactor.nameResolver
        self.service = self._build(self.config, self._reactor, environ=self._environ, day=self._day)
        self.service.privilegedStartService()
        self.service.startService()
        self._resolver = resolver

    def stop(self) -> Deferred[None]:
        """Stop listening and fetching. Fires when threads, locks and connections to origins are gone. Idempotent."""
        if self._resolver is None:
            return succeed(None)
        self._reactor.installNameResolver(self._resolver)
        self._resolver = None
        stopped: Deferred[None] = self.service.stopService()
        return stopped

    @property
    def port(self) -> int:
        """Where the first listener for clients is."""
        return self._port(0)

    @property
    def admin_port(self) -> int:
        """Where the admin listener is."""
        return self._port(-1)

    def _port(self, index: int) -> int:
        address: Any = self.service.ports[index].getHost()
        port: int = address.port
        return port
