"""C{crcache pull}: a cache is warmed by an engine of its own, beside whatever daemon there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from crcache.errors import CrcacheError
from crcache.facts import Fetched, Membership
from crcache.grammar.digest import Digest
from crcache.grammar.platform import Platform
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.images.noting import Target
from crcache.pulling import Orders, Pulling
from crcache.settings import Bounds, Config, RegistrySettings
from crcache.store import version
from crcache.store.contents import Contents
from crcache.store.fileingest import FileIngest
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.repositories import Repositories
from crcache.testing.content import OCI_MANIFEST, noise
from crcache.testing.script import Fault, Rule
from crcache.warming.warmer import Warmed
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, eventually
from tests.web.cases import reactor

ROOT = Path(__file__).resolve().parents[2]
HERE, THERE = Registry(NAME), Repository(REPO)


class PullingCase(ClientCase):
    """An origin with an image, and a directory that is not there yet."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.image = self.origin.add_image(REPO, "1.0", [1000, 3 << 20])
        self.root = self.directory() / "cache"
        self.layout = Layout(self.root)
        registry = RegistrySettings(HERE, (self.origin.url,))
        self.config = Config(cache_directory=self.root, upstream=IMPATIENT, registries={HERE: registry})
        self.moved, self.expected = 0, 0

    async def pull(self, *references: str, jobs: int = 4, platforms: Sequence[Platform] = ()) -> list[Any]:
        """What has come of each tag, in their order."""
        targets: list[Target] = [(HERE, THERE, Tag(each)) for each in references]
        results: dict[Target, Warmed | CrcacheError] = {}

        def advanced(count: int) -> None:
            self.moved += count

        def expected(count: int) -> None:
            self.expected += count

        pulling = Pulling(self.config, reactor, {}, advanced=advanced, expected=expected)
        await pulling.run(Orders(targets, platforms, jobs), results.__setitem__)
        return [results[target] for target in targets]

    def assert_whole(self, *digests: str) -> None:
        """All of this is content, and is given openly by the repository."""
        known = Repositories(self.layout, lambda: 0.0)
        for text in digests:
            digest = Digest.parse(text)
            self.assertEqual(Digest.of(self.layout.content(digest).read_bytes()), digest)
            member = known.member(HERE, THERE, digest)
            assert member is not None
            self.assertIs(member.fetched, Fetched.OPENLY)
        self.assertEqual([name for name in os.listdir(self.root / "ingest") if name], [])


class WarmTests(PullingCase):
    """What is there afterwards."""

    async def test_cold_and_warm(self) -> None:
        """All of an image is there, tag included, in a directory made for it; pulled again, nothing is fetched."""
        (warmed,) = await self.pull("1.0")
        self.assert_whole(self.image.digest, self.image.config, *self.image.layers)
        self.assertEqual((len(warmed.new), warmed.there), (4, {}))
        self.assertEqual(self.moved, self.expected)
        self.assertEqual(self.expected, sum(warmed.new.values()) - len(self.image.manifest))
        entry = Repositories(self.layout, lambda: 0.0).tag(HERE, THERE, Tag("1.0"))
        assert entry is not None
        self.assertEqual((str(entry.digest), entry.open), (self.image.digest, True))
        asked = len(self.origin.requests)
        (warmed,) = await self.pull("1.0")
        self.assertEqual((warmed.new, len(warmed.there)), ({}, 4))
        self.assertEqual(len(self.origin.requests), asked)

    async def test_bounds(self) -> None:
        """The bounds hold without any daemon, though nobody has counted yet what there is: what was used least recently
        goes for what is pulled. Nothing is held afterwards."""
        self.config = replace(self.config, bounds=Bounds(5 << 20, 0))
        self.root.mkdir()
        contents = Contents(self.layout, lambda: 0.0, lambda digest, before, after: None)
        old = [noise(1 << 20, 900 + number) for number in range(4)]
        for data in old:
            contents.put(Digest.of(data), data)
            os.utime(self.layout.content(Digest.of(data)), (1e9, 1e9))
        version.write(self.layout)
        (warmed,) = await self.pull("1.0")
        self.assertNotIsInstance(warmed, CrcacheError)
        self.assert_whole(self.image.digest, self.image.config, *self.image.layers)
        self.assertLessEqual(sum(path.stat().st_size for path in self.root.glob("blobs/*/*")), 5 << 20)
        self.assertEqual(list(self.root.glob("eviction/holder-*")), [])

    async def test_several(self) -> None:
        """Several at once, with no more questions under way than there are jobs; what they share comes once; one that
        is not there fails, and no other."""
        for number in range(6):
            layers = [noise(1000, 0), noise(200_000, number + 50)]
            self.origin.add_image(REPO, f"v{number}", layers)
        self.origin.script.add(Rule(Fault(rate=4e5), kind="blob", times=None))
        results = await self.pull(*(f"v{number}" for number in range(6)), "none", jobs=3)
        self.assertEqual([isinstance(each, CrcacheError) for each in results], [False] * 6 + [True])
        self.assertIn("no manifest none", results[-1].message)
        self.assertLessEqual(self.origin.peak["blob"], 3)
        self.assertGreater(self.origin.peak["blob"], 1)
        blobs = [each.path for each in self.origin.requests if "/blobs/" in each.path]
        self.assertEqual(len(blobs), len(set(blobs)))

    async def test_platforms(self) -> None:
        """Of an index what is wanted, or all; the manifest that is not wanted is not fetched; what is not there for a
        platform fails, and says what there is."""
        images = [self.origin.add_image(REPO, None, [500 + number], seed=number) for number in range(2)]
        index = self.origin.content.add_index(REPO, "multi", images)
        (warmed,) = await self.pull("multi", platforms=[Platform("linux", "arch1")])
        self.assertEqual([str(each) for each in warmed.platforms], ["linux/arch1"])
        self.assert_whole(index, images[1].digest, *images[1].layers)
        self.assertFalse(self.layout.content(Digest.parse(images[0].digest)).exists())
        (problem,) = await self.pull("multi", platforms=[Platform("plan9", "mips")])
        self.assertIn("no image for plan9/mips; it has some for linux/arch0, linux/arch1", problem.message)
        (warmed,) = await self.pull("multi")
        self.assertEqual((len(warmed.new), len(warmed.there)), (3, 4))
        self.assert_whole(images[0].digest, *images[0].layers)

    async def test_beside_a_daemon(self) -> None:
        """What a daemon on the same directory is fetching is waited for, not fetched again; what was pulled the daemon
        has at once."""
        slow = self.origin.script.add(Rule(Fault(stall=1 << 20), kind="blob", path=self.image.layers[1]))
        self.cache = self.instance(self.root)
        client = await self.begin(blob_path(self.image.layers[1]))
        await eventually(lambda: slow.used)
        pulling = Deferred.fromCoroutine(self.pull("1.0"))
        await eventually(lambda: self.layout.content(Digest.parse(self.image.layers[0])).exists())
        self.assertFalse(pulling.called)
        slow.release()
        (warmed,) = await pulling
        self.assertEqual(len((await client.end()).body), 3 << 20)
        self.assertEqual(len(warmed.new), 4)
        fetched = [each.path for each in self.origin.requests if each.method == "GET" and "/blobs/" in each.path]
        self.assertEqual(len(fetched), len(set(fetched)))
        self.assertHit(await self.ask(blob_path(self.image.layers[0])))


class FailingTests(PullingCase):
    """Origins and disks that fail."""

    async def test_breaks_off(self) -> None:
        """A body that breaks off is gone on with; an origin that is slow to begin is asked once more."""
        self.origin.script.add(Rule(Fault(cut=1 << 20), kind="blob", path=self.image.layers[1]))
        self.origin.script.add(Rule(Fault(status=503), kind="blob", path=self.image.layers[0], times=3))
        (warmed,) = await self.pull("1.0")
        self.assertEqual(len(warmed.new), 4)
        self.assert_whole(*self.image.layers)

    async def test_lies(self) -> None:
        """What is not what it should be fails the image, and is not kept."""
        self.origin.script.add(Rule(Fault(wrong=True), kind="blob", path=self.image.layers[1], times=None))
        (problem,) = await self.pull("1.0")
        self.assertIsInstance(problem, CrcacheError)
        self.assertFalse(self.layout.content(Digest.parse(self.image.layers[1])).exists())

    async def test_size_lies(self) -> None:
        """A manifest that says another size than its layer has fails: clients would refuse it."""
        body = json.loads(self.image.manifest)
        body["layers"][0]["size"] += 1
        self.origin.content.add_manifest(REPO, json.dumps(body).encode(), OCI_MANIFEST, "lies")
        (problem,) = await self.pull("lies")
        self.assertIn("not 1001 as its manifest says", problem.message)

    async def test_disk(self) -> None:
        """A disk that does not keep what has come fails the image, and says so."""

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(FileIngest, "_to_target", full)
        (problem,) = await self.pull("1.0")
        self.assertIn("could not be kept", problem.message)

    async def test_shared(self) -> None:
        """Content that is here through another repository becomes this one's by its origin's word."""
        await self.pull("1.0")
        again = self.origin.add_image("team/other", "1.0", [1000, 3 << 20])
        self.assertEqual(again.digest, self.image.digest)
        results: dict[Target, Any] = {}
        pulling = Pulling(self.config, reactor, {})
        target: Target = (HERE, Repository("team/other"), Tag("1.0"))
        await pulling.run(Orders([target], (), 2), results.__setitem__)
        self.assertEqual(results[target].there.keys() | results[target].new.keys(), {
            Digest.parse(each) for each in (again.digest, again.config, *again.layers)})  # fmt: skip
        sent = sum(1 for each in self.origin.requests if each.method == "GET" and "team/other/blobs" in each.path)
        self.assertEqual(sent, 0)

    async def test_proved(self) -> None:
        """Content that is here, and known as private alone, becomes this repository's once its origin has sent all of
        it; if it sends something else the image fails."""
        layer = noise(5000, 9)
        digest = Digest.of(layer)
        self.origin.add_image(REPO, "proved", [layer])
        self.root.mkdir()
        version.write(self.layout)
        Contents(self.layout, lambda: 0.0, lambda digest, before, after: None).put(digest, layer)
        private = Membership(digest, None, len(layer), False, fetched=Fetched.PRIVATELY)
        Repositories(self.layout, lambda: 0.0).enrol(HERE, Repository("team/secret"), [private])
        lie = self.origin.script.add(Rule(Fault(wrong=True), kind="blob", path=str(digest), times=None))
        (problem,) = await self.pull("proved")
        self.assertIsInstance(problem, CrcacheError)
        member = Repositories(self.layout, lambda: 0.0).member(HERE, THERE, digest)
        assert member is not None
        self.assertIs(member.fetched, Fetched.NEVER)
        self.origin.script.rules.remove(lie)
        (warmed,) = await self.pull("proved")
        self.assertIn(digest, warmed.there)
        self.assert_whole(str(digest))


class CommandTests(PullingCase):
    """C{crcache pull} itself, as a process."""

    async def command(
        self, *words: str, stdin: bytes = b"", cache: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        file = self.root.with_name("crcache.yaml")
        settings = {
            "registries": {NAME: {"url": self.origin.url}},
            "cache": {"directory": str(self.root), **(cache or {})},
        }
        file.write_text(json.dumps(settings))
        environ = {**os.environ, "NO_PROXY": "*", "no_proxy": "*", "PYTHONPATH": str(ROOT)}
        words = ("-m", "crcache.cli", "pull", "-c", str(file), *words)
        out, err, status = await getProcessOutputAndValue(
            sys.executable, words, environ, path=str(self.root.parent), stdinBytes=stdin
        )
        return status, out.decode(), err.decode()

    async def test_list(self) -> None:
        """A list from stdin is pulled; if one fails the rest goes on, in one line each, and the status is 1."""
        listed = f"# what we need\n\n{NAME}/{REPO}:1.0  # this\n{NAME}/{REPO}:none\n".encode()
        status, out, err = await self.command("--file", "-", stdin=listed)
        self.assertEqual(status, 1)
        self.assertIn(f"pulled {NAME}/{REPO}:1.0 {self.image.digest[:19]} 3.0 MiB new, 0 B there\n", out)
        self.assertRegex(err, rf"^crcache: {NAME}/{REPO}:none: .*\n1 of 2 images, 3.0 MiB new\n$")
        self.assert_whole(*self.image.layers)

    async def test_pin(self) -> None:
        """With C{--pin} an image is pinned, and a tag noted that is asked of its registry otherwise; as JSON."""
        self.origin.add_image(REPO, "latest", [100], seed=7)
        digest = self.origin.content.tags[REPO]["latest"]
        self.assertEqual((await self.command("--json", f"{NAME}/{REPO}"))[0], 0)
        known, pins = Repositories(self.layout, lambda: 0.0), Pins(self.layout)
        self.assertIsNone(known.tag(HERE, THERE, Tag("latest")))
        status, out, err = await self.command("--json", "--pin", f"{NAME}/{REPO}")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["images"][0]["digest"], digest)
        entry = known.tag(HERE, THERE, Tag("latest"))
        assert entry is not None
        self.assertEqual((str(entry.digest), entry.open), (digest, True))
        self.assertEqual(list(pins.of(HERE, THERE)), [(Tag("latest"), Digest.parse(digest))])

    async def test_pins_hold(self) -> None:
        """What is to be pinned does not go for what is pulled after it: that is what fails."""
        for number in range(3):
            self.origin.add_image(REPO, f"v{number}", [noise(2 << 20, number + 50)])
        wanted = [f"{NAME}/{REPO}:v{number}" for number in range(3)]
        bounds = {"max-size": f"{5 << 20}B", "min-free": "0B"}
        status, out, err = await self.command("--json", "--pin", "--jobs", "1", *wanted, cache=bounds)
        self.assertEqual(status, 1, err)
        self.assertEqual(json.loads(out or "{}").get("failed"), 1, err)
        known = Repositories(self.layout, lambda: 0.0)
        for number in range(2):
            entry = known.tag(HERE, THERE, Tag(f"v{number}"))
            assert entry is not None
            manifest = json.loads(self.layout.content(entry.digest).read_bytes())
            for part in (manifest["config"], *manifest["layers"]):
                self.assert_whole(part["digest"])

    async def test_refused(self) -> None:
        """Nothing is asked, and no directory made, if something is wrong: a line of a list, a manifest, a flag."""
        wrong = self.root.with_name("list")
        wrong.write_text(f"{NAME}/{REPO}:1.0\n{NAME}/UPPER\n")
        for words, status, said in (
            (("--file", str(wrong)), 1, f"{wrong}:2: "),
            (("--manifest", str(wrong)), 1, f"{wrong}"),
            ((), 2, "name images"),
            (("--jobs", "0", "a"), 2, "--jobs"),
            (("--platform", "x", "a"), 2, "--platform"),
            (("--platform", "a/b", "--all-platforms", "a"), 2, "not allowed"),
            (("--file", "-", "--manifest", "-"), 2, "stdin"),
        ):
            found, out, err = await self.command(*words)
            self.assertEqual((found, out), (status, ""))
            self.assertIn(said, err)
        self.assertEqual((self.origin.requests, self.root.exists()), ([], False))

    async def test_interrupted(self) -> None:
        """SIGTERM ends it, with status 130; what had come of a layer stays, and the next pull goes on from there."""
        slow = self.origin.script.add(Rule(Fault(stall=2 << 20), kind="blob", path=self.image.layers[1]))
        file = self.root.with_name("crcache.yaml")
        settings = {"registries": {NAME: {"url": self.origin.url}}, "cache": {"directory": str(self.root)}}
        file.write_text(json.dumps(settings))
        environ = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
        command = [sys.executable, "-m", "crcache.cli", "pull", "-c", str(file), f"{NAME}/{REPO}:1.0"]
        child = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        marks = Path(self.root) / "ingest"
        await eventually(lambda: slow.used and marks.is_dir() and len(list(marks.iterdir())) == 2)
        child.terminate()
        await eventually(lambda: child.poll() is not None)
        assert child.stderr is not None
        self.assertEqual((child.returncode, child.stderr.read()), (130, b""))
        slow.release()
        (warmed,) = await self.pull("1.0")
        self.assertIn(Digest.parse(self.image.layers[1]), warmed.new)
        self.assertTrue(self.origin.requests[-1].header("Range"))
        self.assert_whole(*self.image.layers)

    async def test_denied(self) -> None:
        """What the configuration does not let be asked is not asked."""
        status, _, err = await self.command("127.0.0.1:1/x:1")
        self.assertEqual(status, 1)
        self.assertEqual(err.count("\n"), 1, err)


class ContentsTests(PullingCase):
    """What a command that reads the directory finds."""

    async def test_sealed(self) -> None:
        """Content is sealed, so that no daemon has to hash it again."""
        await self.pull("1.0")
        contents = Contents(self.layout, lambda: 0.0, lambda digest, before, after: None)
        for text in (self.image.digest, *self.image.layers):
            found = contents.find(Digest.parse(text))
            assert found is not None
            self.assertTrue(found.sealed)

    async def test_without_manifests(self) -> None:
        """Where manifests are not kept blobs are."""
        self.config = replace(self.config, cache_manifests=False)
        (warmed,) = await self.pull("1.0")
        self.assertEqual(len(warmed.new), 4)
        self.assertFalse(self.layout.content(Digest.parse(self.image.digest)).exists())
        self.assert_whole(*self.image.layers)
