"""C{crcache ls}."""

from __future__ import annotations

import json
import os

from crcache.commands.references import parse_name
from crcache.facts import Privacy
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import DOCKER_SCHEMA1, OCI_MANIFEST
from tests.commands.tree import CONFIG, DAY, LAYER, TreeCase, descriptor

BASE, ONE, TWO = b"b" * 5000, b"1" * 700, b"2" * 900


class ListTests(TreeCase):
    """What is listed."""

    def test_report(self) -> None:
        """An image is reported with all that C{--json} promises, in these words."""
        manifest = self.tree.image("nginx:1", [BASE, ONE])
        (found,) = self.json("ls")
        self.assertEqual(found.pop("checked")[-1], "Z")
        self.assertEqual(found.pop("used")[-1], "Z")
        here = found.pop("here")
        self.assertEqual(here, sum(path.stat().st_size for path in (self.tree.layout.blobs / "sha256").iterdir()))
        self.assertEqual(
            found,
            {
                "name": "docker.io/library/nginx:1",
                "registry": "docker.io",
                "repository": "library/nginx",
                "tag": "1",
                "digest": str(Digest.of(manifest)),
                "mediaType": OCI_MANIFEST,
                "platforms": ["linux/amd64"],
                "platformsOffered": 1,
                "missing": 0,
                "missingParts": 0,
                "complete": True,
                "pinned": False,
                "private": False,
            },
        )

    def test_table(self) -> None:
        """People get a table with the same in it; digests are whole if asked for."""
        manifest = self.tree.image("ghcr.io/a/b:1", [BASE])
        head, line = self.done("ls").splitlines()
        self.assertTrue(head.startswith("IMAGE"), head)
        for word in ("ghcr.io/a/b:1", f"sha256:{Digest.of(manifest).hex[:12]} ", "linux/amd64", "KiB", " - "):
            self.assertIn(word, line)
        self.assertIn(str(Digest.of(manifest)), self.done("ls", "--no-trunc"))

    def test_quiet(self) -> None:
        """C{-q} prints names alone, for other programs."""
        self.tree.image("nginx:1", [BASE])
        loose = self.tree.image("nginx", [ONE], tagged=False)
        self.assertEqual(self.done("ls", "-q"), "docker.io/library/nginx:1\n")
        self.assertIn(f"docker.io/library/nginx@{Digest.of(loose)}\n", self.done("ls", "-q", "--digests"))

    def test_missing(self) -> None:
        """What of a begun platform is missing is said in bytes; platforms that nobody wanted are not missed."""
        one = self.tree.image("r.example/a:part", [BASE, ONE], absent=[ONE], tagged=False)
        self.tree.index("r.example/a:all", {"linux/amd64": one}, absent=["linux/arm64", "windows/amd64"])
        (found,) = self.json("ls")
        self.assertEqual((found["complete"], found["missing"], found["missingParts"]), (False, len(ONE), 1))
        self.assertEqual((found["platforms"], found["platformsOffered"]), (["linux/amd64"], 3))
        self.assertIn("linux/amd64 of 3", self.done("ls"))
        self.assertIn(" 700 B ", self.done("ls"))
        self.tree.put(ONE)
        self.assertTrue(self.json("ls")[0]["complete"])

    def test_elsewhere(self) -> None:
        """A layer that clients have from elsewhere, by the word of the manifest, is not missed."""
        name, config = (
            parse_name("r.example/windows:1"),
            json.dumps({"os": "windows", "architecture": "amd64"}).encode(),
        )
        foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        for urls in (["https://elsewhere.example/1"], []):
            manifest = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_MANIFEST,
                    "config": descriptor(CONFIG, config),
                    "layers": [descriptor(foreign, ONE, urls=urls), descriptor(LAYER, BASE)],
                }
            ).encode()
            self.tree.enrol(name, config, CONFIG)
            self.tree.enrol(name, BASE, LAYER)
            self.tree.enrol(name, manifest, OCI_MANIFEST)
            self.tree.tag(name, manifest, OCI_MANIFEST)
            (found,) = self.json("ls")
            self.assertEqual((found["complete"], found["missing"]), (bool(urls), 0 if urls else len(ONE)))
            self.assertEqual("elsewhere" in self.done("show", "r.example/windows:1"), bool(urls))

    def test_attestations(self) -> None:
        """What an index has besides images is no platform, and is not missed."""
        one = self.tree.image("r.example/a", [BASE], tagged=False)
        self.tree.index("r.example/a:1", {"linux/amd64": one}, absent=["unknown/unknown"])
        (found,) = self.json("ls")
        self.assertEqual((found["platforms"], found["platformsOffered"]), (["linux/amd64"], 1))
        self.assertTrue(found["complete"])

    def test_schema1(self) -> None:
        """Manifests of the first kind, which say no sizes, are listed as well."""
        name = parse_name("r.example/old:1")
        layers = [{"blobSum": str(Digest.of(BASE))}, {"blobSum": str(Digest.of(ONE))}]
        manifest = json.dumps({"schemaVersion": 1, "fsLayers": layers}).encode()
        self.tree.enrol(name, manifest, DOCKER_SCHEMA1)
        self.tree.enrol(name, BASE, LAYER)
        self.tree.tag(name, manifest, DOCKER_SCHEMA1)
        (found,) = self.json("ls")
        self.assertEqual((found["complete"], found["missing"], found["missingParts"]), (False, 0, 1))
        self.assertEqual(found["platforms"], ["?"])
        self.assertEqual(found["here"], len(manifest) + len(BASE))

    def test_gone(self) -> None:
        """A tag whose manifest is gone is listed, with nothing of it here."""
        manifest = self.tree.image("r.example/a:1", [BASE])
        self.tree.content(manifest).unlink()
        (found,) = self.json("ls")
        self.assertEqual(
            (found["complete"], found["here"], found["platforms"], found["missingParts"]), (False, 0, [], 1)
        )

    def test_digests(self) -> None:
        """C{--digests} lists also what no tag leads to, neither itself nor through an index."""
        under = self.tree.image("r.example/a", [BASE], tagged=False)
        self.tree.index("r.example/a:1", {"linux/amd64": under})
        loose = self.tree.image("r.example/a", [ONE], tagged=False)
        self.assertEqual(len(self.json("ls")), 1)
        names = [each["name"] for each in self.json("ls", "--digests")]
        self.assertEqual(names, ["r.example/a:1", f"r.example/a@{Digest.of(loose)}"])

    def test_notes(self) -> None:
        """What is pinned or private is marked; C{--pinned} lists no other."""
        manifest = self.tree.image("r.example/a:1", [BASE])
        self.tree.image("r.example/b:1", [ONE])
        loose = self.tree.image("r.example/b", [TWO], tagged=False)
        name = parse_name("r.example/a:1")
        self.tree.pins.add(name.registry, name.repository, name.image, Digest.of(manifest))
        name = parse_name(f"r.example/b@{Digest.of(loose)}")
        self.tree.pins.add(name.registry, name.repository, Digest.of(loose), Digest.of(loose))
        self.tree.repositories.set_privacy(name.registry, name.repository, Privacy(self.tree.now))
        self.assertEqual(
            [(each["name"], each["private"]) for each in self.json("ls", "--pinned")],
            [("r.example/a:1", False), (str(name), True)],
        )

    def test_pin_without_entry(self) -> None:
        """A pinned tag whose entry is gone is still an image."""
        manifest = self.tree.image("r.example/a:1", [BASE], tagged=False)
        name = parse_name("r.example/a:1")
        self.tree.pins.add(name.registry, name.repository, name.image, Digest.of(manifest))
        (found,) = self.json("ls")
        self.assertEqual((found["name"], found["pinned"], found["complete"]), ("r.example/a:1", True, True))

    def test_last_use(self) -> None:
        """The last use is that of the tag or manifest in this repository, and looking is no use."""
        self.tree.image("r.example/a:1", [BASE])
        self.tree.age("r.example/a:1", 3 * DAY)
        before = {path: path.stat().st_mtime_ns for path in self.tree.layout.root.rglob("*")}
        self.assertIn("  3d", self.done("ls"))
        self.done("show", "r.example/a:1")
        self.done("du", "--by", "image")
        self.assertEqual({path: path.stat().st_mtime_ns for path in self.tree.layout.root.rglob("*")}, before)


class SelectionTests(TreeCase):
    """Which are listed."""

    def setUp(self) -> None:
        """Four images."""
        super().setUp()
        for name in ("nginx:1", "nginx:2", "ghcr.io/team/app:v1", "ghcr.io/team/deep/tool:v1"):
            self.tree.image(name, [name.encode()])

    def names(self, *selectors: str) -> list[str]:
        """What is listed."""
        return [each["name"] for each in self.json("ls", *selectors)]

    def test_selectors(self) -> None:
        """Names mean one image or one repository, patterns whatever they match; each is listed once."""
        both = ["docker.io/library/nginx:1", "docker.io/library/nginx:2"]
        for selectors, expected in (
            (["nginx:2"], both[1:]),
            (["nginx"], both),
            (["nginx", "nginx:1", "ng*"], both),
            (["nginx:*"], both),
            (["*:v1"], ["ghcr.io/team/app:v1", "ghcr.io/team/deep/tool:v1"]),
            (["ghcr.io/team/ap?"], ["ghcr.io/team/app:v1"]),
            (["ghcr.io/*", "nginx:[2-9]"], ["ghcr.io/team/app:v1", "ghcr.io/team/deep/tool:v1", both[1]]),
            (["quay.io/*"], []),
        ):
            self.assertEqual(sorted(self.names(*selectors)), sorted(expected), selectors)

    def test_missing(self) -> None:
        """A name that nothing is known of is said, and is status 1; the others are listed."""
        status, out, err = self.run_main("ls", "nginx:1", "nginx:3", "busybox")
        self.assertEqual(status, 1)
        self.assertIn("library/nginx:1", out)
        self.assertEqual(
            err,
            "crcache: docker.io/library/nginx:3 is not in the cache\n"
            "crcache: docker.io/library/busybox is not in the cache\n",
        )

    def test_misuse(self) -> None:
        """What is no name is misuse, and said why."""
        status, out, err = self.run_main("ls", "NGINX")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("lower-case", err)


class HostileTests(TreeCase):
    """Directories that others have been in."""

    def test_passed_over(self) -> None:
        """What lies, is odd, or cannot be read is passed over and named, a line each; the rest is listed, status 0."""
        good = self.tree.image("r.example/a:1", [BASE])
        lying = self.tree.image("r.example/lying:1", [ONE])
        path = self.tree.content(lying)
        path.chmod(0o640)
        path.write_bytes(b"{}")
        huge = self.tree.image("r.example/huge:1", [TWO])
        self.tree.content(huge).chmod(0o640)
        os.truncate(self.tree.content(huge), 1 << 40)
        home = self.tree.layout.registries / "r.example" / "a"
        (home / "_tags" / "bad").write_bytes(b'{"digest": 5')
        os.mkfifo(home / "_tags" / "fifo")
        (home / "_tags" / "link").symlink_to("/etc/passwd")
        (home / "_digests" / "sha256-short").write_bytes(b"")
        (self.tree.layout.registries / "r.example" / "loop").symlink_to(self.tree.layout.registries)
        (self.tree.layout.registries / "NO\n").mkdir()
        (self.tree.layout.blobs / "sha256" / "junk").write_bytes(b"")
        (self.tree.layout.blobs / "sha256" / (64 * "f")).symlink_to("/dev/zero")
        status, out, err = self.run_main("ls", "--digests")
        self.assertEqual(status, 0)
        shown = " ".join(out.split())
        self.assertIn(f"r.example/a:1 sha256:{Digest.of(good).hex[:12]} linux/amd64", shown)
        for word in (
            "_tags/bad: ",
            "_tags/fifo: ",
            "_tags/link: ",
            "sha256-short: ",
            "loop: is no directory",
            "NO\\n'",
        ):
            self.assertIn(word, err)
        self.assertIn(f"{path}: holds other bytes", err)
        self.assertIn("larger than any manifest (1099511627776 bytes)", err)
        self.assertEqual(err.count("\n"), len(set(err.splitlines())))
        status, out, err = self.run_main("du")
        self.assertEqual(status, 0)
        self.assertIn("junk: is not named as a digest\n", err)
        self.assertIn(f"{64 * 'f'}: is no file\n", err)

    def test_circle(self) -> None:
        """Manifests that name more than there can be, or one another, come to an end."""
        manifest = self.tree.image("r.example/a:1", [BASE], tagged=False)
        for _ in range(8):
            manifest = self.tree.index("r.example/a:1", {"linux/amd64": manifest})
        (found,) = self.json("ls")
        self.assertEqual(found["platformsOffered"], 1)

    def test_no_cache(self) -> None:
        """A directory that is none is refused in one line, and left as it is."""
        self.tree.layout.version.unlink()
        status, out, err = self.run_main("ls")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("there is no cache in it", err)
        self.assertEqual(list(self.tree.layout.root.iterdir()), [])
