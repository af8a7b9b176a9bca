"""C{crcache show}."""

from __future__ import annotations

from crcache.grammar.digest import Digest
from tests.commands.tree import LAYER, TreeCase

BASE, ONE = b"b" * 5000, b"1" * 700


class ShowTests(TreeCase):
    """What is said of one image."""

    def setUp(self) -> None:
        """An index of two platforms, of which one is here but for a layer; another repository has its other layer."""
        super().setUp()
        self.manifest = self.tree.image("r.example/a", [BASE, ONE], absent=[ONE], tagged=False)
        self.index = self.tree.index("r.example/a:1", {"linux/amd64": self.manifest}, absent=["linux/arm64"])
        self.tree.image("nginx:1", [BASE])

    def test_json(self) -> None:
        """All of it is there, in these words."""
        found = self.json("show", "r.example/a:1")
        self.assertEqual((found["name"], found["digest"]), ("r.example/a:1", str(Digest.of(self.index))))
        self.assertEqual(found["size"], len(self.index))
        self.assertEqual(found["origin"]["came"], "fetched openly")
        self.assertEqual(set(found["origin"]), {"came", "open", "since"})
        here, absent = found["variants"]
        self.assertEqual(set(here), {"platform", "digest", "complete", "attestation", "created", "parts"})
        self.assertEqual(
            (here["platform"], here["complete"], here["created"]), ("linux/amd64", False, "2026-01-02T03:04:05Z")
        )
        self.assertEqual([part["kind"] for part in here["parts"]], ["manifest", "config", "layer", "layer"])
        base, one = here["parts"][2:]
        self.assertEqual(
            {key: base[key] for key in ("digest", "mediaType", "size", "here", "sharedWith")},
            {
                "digest": str(Digest.of(BASE)),
                "mediaType": LAYER,
                "size": len(BASE),
                "here": True,
                "sharedWith": ["docker.io/library/nginx"],
            },
        )
        self.assertEqual((one["here"], one["size"], one["sharedWith"]), (False, len(ONE), []))
        self.assertEqual(one["origin"]["came"], "named by a manifest")
        self.assertEqual((absent["platform"], absent["complete"], len(absent["parts"])), ("linux/arm64", False, 1))

    def test_text(self) -> None:
        """People are told the same."""
        out = self.done("show", "r.example/a:1")
        for word in (
            f"digest:      {Digest.of(self.index)}\n",
            "missing:     700 B\n",
            "linux/amd64, created 2026-01-02T03:04:05Z\n",
            "also in docker.io/library/nginx\n",
            "not here: sha256:",
            "  layer     ",
            " missing\n",
        ):
            self.assertIn(word, out)

    def test_by_digest(self) -> None:
        """A manifest is found by its digest as well, and by a short name."""
        found = self.json("show", f"r.example/a@{Digest.of(self.manifest)}")
        self.assertEqual((found["tag"], found["variants"][0]["platform"]), (None, "linux/amd64"))
        self.assertEqual(self.json("show", "nginx:1")["name"], "docker.io/library/nginx:1")

    def test_unknown(self) -> None:
        """What is not there is one line, and status 1; C{latest} is meant if no tag is said."""
        status, out, err = self.run_main("show", "r.example/a")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("r.example/a:latest is not in the cache", err)
