"""What was imported, served by a daemon whose origin cannot be asked."""

from __future__ import annotations

import io

from crcache.grammar.digest import Digest
from crcache.images.importing import Importer, Wish
from crcache.store.layout import Layout
from crcache.store.staging import PREFIX
from tests.clients.case import IMPATIENT, MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.images.archives import LAYERS, app, config_of, manifest_of, named

_ACCEPT = [("Accept", kind) for kind in MANIFEST_TYPES]


class ImportedTests(ClientCase):
    """Beside a daemon that runs."""

    async def test_beside_a_daemon(self) -> None:
        """What is imported while the daemon runs is served from then on, byte for byte, by tag and by digest, C{latest}
        too as long as it is pinned, although nobody can be asked; before that there is an error."""
        root = self.directory() / "cache"
        self.cache = self.instance(root, origins={NAME: "http://127.0.0.1:1"}, upstream=IMPATIENT)
        await eventually((root / "VERSION").exists)
        manifest = manifest_of(config_of(LAYERS), LAYERS)
        self.assertGreaterEqual((await self.ask(manifest_path("1.0"), *_ACCEPT)).status, 500)
        for tag, pinned in (("1.0", True), ("latest", True), ("old-latest", False)):
            source = io.BytesIO(app(f"{NAME}/{REPO}:{tag}").bytes())
            Importer(Layout(root), named).take(source, "a.tar", Wish(pin=pinned))
            answer = await self.ask(manifest_path(tag), *_ACCEPT)
            self.assertEqual(answer.status, 200 if pinned else 502, tag)
            if pinned:
                self.assertEqual(answer.body, manifest)
        self.assertHit(await self.ask(manifest_path(str(Digest.of(manifest))), *_ACCEPT))
        for data in (*LAYERS, config_of(LAYERS)):
            answer = await self.ask(blob_path(str(Digest.of(data))))
            self.assertHit(answer)
            self.assertEqual(answer.body, data)

    async def test_left_over(self) -> None:
        """What an import has left behind that was killed goes when a daemon starts."""
        root = self.directory() / "cache"
        left = root / "ingest" / f"{PREFIX}0123"
        left.mkdir(parents=True)
        (left / "1").write_bytes(b"x")
        left.with_name(f"{left.name}.lock").write_bytes(b"")
        self.cache = self.instance(root)
        await eventually(lambda: not list((root / "ingest").iterdir()))
