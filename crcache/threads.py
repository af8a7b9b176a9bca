"""All the threads of a daemon: a pool for each kind of work, so that none starves another."""

from __future__ import annotations

from typing import Any

from crcache.workers import Workers

#: And as many credential helpers run at once.
HELPER_THREADS = 4


class Threads:
    """None is started here. None of them keeps a processor busy for long but those that hash.

    @ivar disk: reads and writes.
    @ivar syncing: waits for the disk.
    @ivar reading: reads what is not in memory, for sends.
    @ivar hashing: hashes what comes, and parses manifests.
    @ivar names: looks names up.
    @ivar config: reads configuration; one, on its own, as its disk may be another one.
    @ivar doubting: hashes whole files, for which manifests, and what is hashed as it comes, would have to wait.
    @ivar checking: checks content again, in the background.
    @ivar helping: runs credential helpers.
    @ivar noting: notes who may read. Registries of strangers can have this take long: nothing else waits for it.
    @ivar making: makes room for what is about to be stored, and may have to wait for others who do.
    @ivar evicting: counts content, and removes what has to go, in the background.
    @ivar granting: writes grants down. Not more: what is granted and then refused must be noted in this order.
    @ivar signing: signs questions to a bucket, and has the keys for that renewed.
    @ivar uploading: reads and hashes what is uploaded to a bucket.
    """

    def __init__(self, reactor: Any) -> None:
        self.disk = Workers(reactor, 8, "crcache-disk")
        self.syncing = Workers(reactor, 4, "crcache-syncing")
        self.reading = Workers(reactor, 8, "crcache-reading")
        self.hashing = Workers(reactor, 4, "crcache-hashing")
        self.names = Workers(reactor, 8, "crcache-names")
        self.config = Workers(reactor, 1, "crcache-config")
        self.doubting = Workers(reactor, 2, "crcache-doubting")
        self.checking = Workers(reactor, 1, "crcache-checking")
        self.helping = Workers(reactor, HELPER_THREADS, "crcache-helpers")
        self.noting = Workers(reactor, 1, "crcache-noting")
        self.making = Workers(reactor, 2, "crcache-making")
        self.evicting = Workers(reactor, 3, "crcache-evicting")
        self.granting = Workers(reactor, 1, "crcache-granting")
        self.signing = Workers(reactor, 4, "crcache-signing")
        self.uploading = Workers(reactor, 2, "crcache-uploading")

    @property
    def all(self) -> list[Workers]:
        """Every pool."""
        return list(vars(self).values())
