"""Commands beside a daemon that goes on serving, and one that pulls through it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from crcache.cli import main
from crcache.testing.content import Image, noise
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path

BASE = noise(300_000)


class BesideTests(ClientCase):
    """A daemon, its clients, and an administrator who is busy."""

    timeout = 60

    def setUp(self) -> None:
        """Images of one base."""
        super().setUp()
        self.images = [
            self.origin.content.add_image(REPO, f"v{number}", [BASE, 40_000 + number], seed=number)
            for number in range(5)
        ]

    def command(self, *arguments: str) -> tuple[int, Any, str]:
        """A command in the thread that this is called in: exit status, what C{--json} printed, stderr."""
        place = ["-c", str(self.file), "-d", str(self.cache.config.cache_directory), "--json"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([arguments[0], *place, *arguments[1:]])
        return status, json.loads(out.getvalue() or "null"), err.getvalue()

    def run_command(self, *arguments: str) -> Deferred[tuple[int, Any, str]]:
        """The same, in a thread of its own."""
        return deferToThread(self.command, *arguments)

    @property
    def file(self) -> Path:
        """A configuration without an admin listener of its own."""
        path = self.cache.config.cache_directory.parent / "empty.yaml"
        path.write_text("")
        return path

    async def pull(self, image: Image, tag: str) -> None:
        """All of an image, as containerd asks for it. All of it must be right."""
        found = await self.ask(manifest_path(tag))
        self.assertEqual((found.status, found.body), (200, image.manifest))
        for digest in (image.config, *image.layers):
            blob = await self.ask(blob_path(digest))
            self.assertEqual((blob.status, blob.body == self.origin.content.blobs[digest]), (200, True))

    async def client(self, rounds: int) -> None:
        """Pulls all images, again and again."""
        for _ in range(rounds):
            for number, image in enumerate(self.images):
                await self.pull(image, f"v{number}")

    async def administrator(self, chores: Sequence[Sequence[str]], done: list[int], busy: list[bool]) -> None:
        """Does these, again and again, while there are clients."""
        while busy[0]:
            for chore in chores:
                status, found, err = await self.run_command(*chore)
                done.append(found["freed"] if chore[0] == "prune" else 0)
                self.assertEqual(status, 0, (chore, err))

    async def test_during_pulls(self) -> None:
        """Whatever is removed, checked and listed meanwhile, clients get right bytes; what is left is whole."""
        busy, done = [True], list[int]()
        everything = f"{NAME}/*"
        chores = (["prune", "--matching", everything], ["verify"], ["ls", "--digests"], ["du", "--by", "image"])
        working = Deferred.fromCoroutine(self.administrator(chores, done, busy))
        await gatherResults([Deferred.fromCoroutine(self.client(4)) for _ in range(3)])
        busy[0] = False
        await working
        self.assertGreater(sum(done), len(BASE))
        await self.client(1)
        await self.settled()
        status, found, err = await self.run_command("verify")
        self.assertEqual((status, found["wrong"], found["records"], err), (0, [], [], ""))
        status, found, err = await self.run_command("ls")
        self.assertEqual([(each["complete"], each["tag"]) for each in found], [(True, f"v{n}") for n in range(5)])

    async def test_pinned_during_pulls(self) -> None:
        """What is pinned stays served from disk, whatever is pruned beside it, and while its origin is gone."""
        await self.client(1)
        await self.settled()
        status, _, err = await self.run_command("pin", f"{NAME}/{REPO}:v2")
        self.assertEqual((status, err), (0, ""))
        status, found, _ = await self.run_command("prune", "--to-size", "0")
        self.assertEqual((status, len(found["images"])), (0, 4))
        await self.origin.stop()
        await self.pull(self.images[2], "v2")
        self.assertHit(await self.ask(blob_path(self.images[2].layers[0])))

    async def test_quarantined(self) -> None:
        """What was damaged is fetched anew after it was taken away, and served right."""
        await self.client(1)
        await self.settled()
        digest = self.images[0].layers[0]
        path = self.cache.config.cache_directory / "blobs" / digest.replace(":", "/")
        path.chmod(0o640)
        path.write_bytes(b"wrong")
        status, found, _ = await self.run_command("verify")
        self.assertEqual((status, [each["digest"] for each in found["wrong"]]), (1, [digest]))
        await self.pull(self.images[0], "v0")
        await self.settled()
        self.assertEqual((await self.run_command("verify"))[0], 0)
        self.assertEqual(path.read_bytes(), BASE)

    async def test_status(self) -> None:
        """C{status} is what a daemon says that runs: its version, its requests, how many were hits."""
        await self.client(1)
        await self.settled()
        before = len(self.images)
        await self.client(1)
        status, found, err = await self.run_command("status", "--admin", f"tcp:{self.cache.admin_port}")
        self.assertEqual((status, err), (0, ""))
        self.assertGreaterEqual(found["total"]["requests"], before * 8)
        self.assertGreaterEqual(found["total"]["hitRatio"], 0.5)
        self.assertEqual(found["daemons"][0]["cacheDirectory"], str(self.cache.config.cache_directory))
        self.assertGreater(found["total"]["sentBytes"], 10 * len(BASE))
