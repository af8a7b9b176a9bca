"""L{crcache.nodes.podman}, through C{crcache hosts --for podman}."""

from __future__ import annotations

import tomllib
from typing import Any

from crcache.nodes.podman import REGISTRIES
from tests.nodes.case import HostCase

_DIRECTORY = "etc/containers/registries.conf.d"
_FILE, _MAIN = f"{_DIRECTORY}/50-crcache.conf", "etc/containers/registries.conf"
_FOR = ("--for", "podman")


class PodmanTests(HostCase):
    """The drop-in for registries.conf."""

    def registries(self) -> dict[str, Any]:
        """The entries of what was written, by their prefixes."""
        return {each["prefix"]: each for each in tomllib.loads(self.text(_FILE) or "")["registry"]}

    def test_golden(self) -> None:
        """Each registry has its own location, and its name before the path at crcache; it goes as it came."""
        self.good("--apply", *_FOR, "--registry", "quay.io")
        mirror = {"location": "127.0.0.1:3000/quay.io", "insecure": True}
        self.assertEqual(
            self.registries(), {"quay.io": {"prefix": "quay.io", "location": "quay.io", "mirror": [mirror]}}
        )
        self.assertEqual(self.good("--apply", *_FOR, "--registry", "quay.io"), "podman: nothing to change\n")
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {})

    def test_default(self) -> None:
        """Without C{--registry} the well-known public registries are written."""
        self.good("--apply", *_FOR)
        self.assertEqual(list(self.registries()), list(REGISTRIES))

    def test_existing(self) -> None:
        """
        A registry that the administrator has an entry for is left alone, wherever that is; it is a problem if it was
        asked for by name, unless the entry has crcache for a mirror.
        """
        self.put(_MAIN, '[[registry]]\nlocation = "quay.io"\nblocked = true\n')
        self.put(
            f"{_DIRECTORY}/99-mine.conf",
            '[[registry]]\nprefix = "ghcr.io"\nlocation = "ghcr.io"\n'
            '[[registry.mirror]]\nlocation = "127.0.0.1:3000/ghcr.io"\n',
        )
        self.put(f"{_DIRECTORY}/README", "[[")
        [note] = self.report("--apply", *_FOR)["notes"]
        self.assertIn("an entry for quay.io: add a [[registry.mirror]] 127.0.0.1:3000/quay.io", note)
        self.assertEqual(set(REGISTRIES) - set(self.registries()), {"quay.io", "ghcr.io"})
        self.assertIn(f"/{_MAIN}: has an entry for quay.io", self.bad("--apply", *_FOR, "--registry", "quay.io"))
        self.assertIsNone(self.text(_FILE))

    def test_malformed(self) -> None:
        """What podman could not read either is a line with the file, and nothing is written."""
        for text, line in (
            ("[[registry]]\nx\n", f"/{_MAIN}:2: is not TOML: "),
            ("registry = 1\n", f"/{_MAIN}: registry: must be an array of tables"),
            ('[[registry]]\nlocation = "x.io"\nmirror = 1\n', f"/{_MAIN}: mirror: must be an array of tables"),
        ):
            self.put(_MAIN, text)
            self.assertTrue(self.bad("--apply", *_FOR).startswith(line))
            self.assertEqual(set(self.files()), {_MAIN})

    def test_authority(self) -> None:
        """With an https mirror nothing is insecure, and the authority is where podman looks for that address."""
        ca = self.put("ca.pem", "-----BEGIN CERTIFICATE-----\n")
        self.good("--apply", *_FOR, "--mirror", "https://cache:3443", "--ca", str(ca))
        self.assertEqual(self.registries()["quay.io"]["mirror"], [{"location": "cache:3443/quay.io"}])
        self.assertIn("etc/containers/certs.d/cache:3443/crcache.crt", self.files())
        self.good("--apply", *_FOR)
        self.assertEqual(set(self.files()), {_FILE, "ca.pem"})
        self.assertFalse((self.root / "etc/containers/certs.d/cache:3443").exists())
