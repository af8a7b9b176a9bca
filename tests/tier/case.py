"""A store with a bucket behind it, to be tested as any store is."""

from __future__ import annotations

import os
from typing import Any

from crcache.settings import Config, S3Settings
from crcache.threads import Threads
from crcache.tier.tier import Tier
from tests.store.case import DirectoryCase
from tests.web.cases import pause, reactor


class BehindCase(DirectoryCase):
    """A directory, and behind it a bucket with nothing in it."""

    def s3(self) -> S3Settings:
        """Where the bucket is. The keys are in the environment."""
        raise NotImplementedError

    def set_keys(self, key: str, secret: str) -> None:
        """Have them there, as long as the test lasts."""
        for name, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
            before = os.environ.get(name)
            os.environ[name] = value
            self.addCleanup(_restore, name, before)

    def make(self) -> Any:
        """The two together."""
        disk = super().make()
        threads = Threads(reactor)
        for workers in threads.all:
            workers.start()
            self.addCleanup(workers.stop)
        self.tier = Tier(reactor, {}, self.root / "uploads", threads, lambda *known: known[-1], self.clock)
        store = self.tier.over(disk, None)  # type: ignore[arg-type]
        self.tier.use(Config(self.root, s3=self.s3()))
        self.addCleanup(self.tier.stop)
        # Connections are put back a moment after the last byte.
        self.addCleanup(pause, 0.01)
        return store


def _restore(name: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = before
