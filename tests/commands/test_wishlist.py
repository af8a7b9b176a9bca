"""L{crcache.commands.wishlist}: which images files name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.commands.wishlist import images_in_list, images_in_manifest
from crcache.errors import ConfigError

MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
      - {name: init, image: "busybox:1.36"}
      containers:
      - name: app
        image: registry.k8s.io/app@sha256:DIGEST
        env: [{name: image, value: not/this}]
      - name: side
        image: ghcr.io/team/side
      volumes:
      - name: data
        image: {reference: quay.io/data/set:3, pullPolicy: Always}
      - name: other
        configMap: {name: image}
---
apiVersion: v1
kind: List
items:
- kind: CronJob
  spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: busybox:1.36}], volumes: null}}}}}
- kind: Pod
  spec:
    ephemeralContainers: [{image: "debug:1", targetContainerName: app}]
    containers: null
---
---
kind: ConfigMap
data: {image: not/this:1, containers: "text"}
---
x-base: &base {image: "merged:1", name: x}
kind: Pod
spec:
  containers:
  - <<: *base
    name: y
  - <<: [{name: z}, *base]
"""


class WishlistTests(SynchronousTestCase):
    """Lists and manifests."""

    def setUp(self) -> None:
        """A file to write to."""
        place = Path(tempfile.mkdtemp(prefix="crcache-test-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        self.file = place / "file"

    def test_socket(self) -> None:
        """A list comes in by stdin whatever that is: a socket, as under ssh, has no name to be opened by."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"nginx:1  # one\n\nghcr.io/a/b\n")
            ours.shutdown(socket.SHUT_WR)
            code = "from crcache.commands.wishlist import *; print(*images_in_list('-'))"
            path = os.pathsep.join(filter(None, sys.path))
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code],
                stdin=theirs.fileno(),
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": path},
            )
        self.assertEqual((done.stdout, done.stderr), ("docker.io/library/nginx:1 ghcr.io/a/b\n", ""))

    def names(self, text: str) -> list[str]:
        """The images that manifests name."""
        self.file.write_text(text)
        return [str(each) for each in images_in_manifest(str(self.file))]

    def refused(self, text: str, line: int | None = None) -> str:
        """Why manifests are refused, in one line that names the file, and perhaps a line."""
        self.file.write_text(text)
        problem = self.assertRaises(ConfigError, images_in_manifest, str(self.file))
        where = f"{self.file}:" if line is None else f"{self.file}:{line}: "
        self.assertTrue(problem.message.startswith(where), problem.message)
        self.assertTrue(problem.message.isprintable())
        return str(problem.message)

    def test_manifests(self) -> None:
        """All containers' and image volumes' images, of whatever kind, in whichever document, each once, in order."""
        found = self.names(MANIFESTS.replace("DIGEST", "0" * 64))
        self.assertEqual(
            found,
            [
                "docker.io/library/busybox:1.36",
                f"registry.k8s.io/app@sha256:{'0' * 64}",
                "ghcr.io/team/side",
                "quay.io/data/set:3",
                "docker.io/library/debug:1",
                "docker.io/library/merged:1",
            ],
        )

    def test_json(self) -> None:
        """JSON is YAML, as C{kubectl get -o json} prints it."""
        self.assertEqual(
            self.names('{"items": [{"spec": {"containers": [{"image": "a:1"}]}}]}'), ["docker.io/library/a:1"]
        )

    def test_mistakes(self) -> None:
        """What is no name is told with its line; so is what is no YAML, or names nothing."""
        self.refused("spec:\n  containers:\n  - name: x\n    image: UPPER/x\n", 4)
        self.refused("spec:\n  containers:\n  - image: [a]\n", 3)
        self.refused("spec:\n  containers:\n  - image:\n", 3)
        self.refused('spec:\n  containers:\n  - image: "a\\nb"\n', 3)
        self.refused("a: b: c\n", 1)
        self.refused("a: [\n", 2)
        self.refused("a: \x00\n")
        self.refused('a: "\\UFFFFFFFF"\n')
        self.refused("kind: Pod\n")
        self.refused("")

    def test_bounds(self) -> None:
        """Aliases of aliases, lists in lists, and merges in a circle take no time; what is too much is refused."""
        laughs = "a0: &a0 {image: x}\n"
        laughs += "".join(f"a{n}: &a{n} {{containers: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40))
        laughs += "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(1, 40))
        laughs += f"spec: {{containers: [{', '.join(['*m39', '*a0'] * 500)}]}}\n"
        self.assertEqual(self.names(laughs), ["docker.io/library/x"])
        self.assertEqual(self.names("spec: {containers: [&a {<<: *a, image: x}]}"), ["docker.io/library/x"])
        self.refused("spec: {containers: [&a {<<: [*a, *a]}]}")
        self.refused("\n" + "[" * 100_000, 2)
        self.refused("[" + "x," * 500_001 + "]", 1)
        self.file.write_bytes(b"#" * (17 << 20))
        problem = self.assertRaises(ConfigError, images_in_manifest, str(self.file))
        self.assertIn("16 MiB", problem.message)

    def test_files(self) -> None:
        """What cannot be read, or is no text, is told."""
        self.assertRaises(ConfigError, images_in_manifest, "/nowhere")
        self.file.write_bytes(b"a\n\xff")
        problem = self.assertRaises(ConfigError, images_in_manifest, str(self.file))
        self.assertIn(f"{self.file}:2: ", problem.message)

    def test_list(self) -> None:
        """A list has a name in each line, and comments."""
        self.file.write_text("# all\na:1\n\n  b/c:2 # why\n")
        found = [str(each) for each in images_in_list(str(self.file))]
        self.assertEqual(found, ["docker.io/library/a:1", "docker.io/b/c:2"])
        self.file.write_text("a:1\nNO\n")
        problem = self.assertRaises(ConfigError, images_in_list, str(self.file))
        self.assertIn(f"{self.file}:2: ", problem.message)
