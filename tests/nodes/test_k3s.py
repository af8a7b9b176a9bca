"""L{crcache.nodes.k3s}, through C{crcache hosts --for k3s}."""

from __future__ import annotations

import yaml

from tests.nodes.case import HostCase

_K3S, _RKE2 = "etc/rancher/k3s/registries.yaml", "etc/rancher/rke2/registries.yaml"
_FOR = ("--for", "k3s")
_ENTRY = {"endpoint": ["http://127.0.0.1:3000"]}


class K3sTests(HostCase):
    """registries.yaml."""

    def test_golden(self) -> None:
        """Without a file there is this afterwards, for its owner alone since passwords may follow; and none again."""
        self.assertIn("'systemctl restart k3s'", self.good("--apply", *_FOR))
        lines = [line for line in (self.text(_K3S) or "").splitlines() if "#" not in line]
        self.assertEqual(lines, ["mirrors:", '  "*":', "    endpoint:", '      - "http://127.0.0.1:3000"'])
        self.assertEqual((self.root / _K3S).stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.good("--apply", *_FOR), "k3s: nothing to change\n")
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {})
        self.assertEqual(self.good("--remove", *_FOR), "k3s: nothing to remove\n")

    def test_existing(self) -> None:
        """However the file is written, all that was in it stays, comments too, and comes back to the byte."""
        for text in (
            "# only a comment\n",
            "mirrors:\n  # ours\n  docker.io:\n    endpoint:\n      - https://m.example.com\n",
            "mirrors:\n    docker.io: {endpoint: [https://m.example.com]}\nconfigs: {}\n",
            "---\nmirrors:  # none yet\n",
            "configs:\n  x.io:\n    auth: {username: u, password: p}",
            "mirrors: ~  \nconfigs: ~\n",
            "configs: {a: {tls: {insecure_skip_verify: true}}}\r\nmirrors:\r\n  a.io:\r\n",
            "",
        ):
            file = self.put(_K3S, "")
            file.write_bytes(text.encode())
            status, _, err = self.hosts("--apply", *_FOR)
            if "~" in text:
                self.assertIn("cannot be added to", err)
                self.assertEqual(file.read_bytes(), text.encode())
                continue
            self.assertEqual((status, err), (0, ""), text)
            before, after = yaml.safe_load(text) or {}, yaml.safe_load(file.read_text())
            self.assertEqual(after["mirrors"], {**(before.get("mirrors") or {}), "*": _ENTRY})
            self.assertEqual(after.get("configs"), before.get("configs"))
            self.assertEqual("ours" in text, "# ours" in file.read_text())
            self.assertEqual(self.report("--apply", *_FOR)["changes"], [], text)
            self.good("--remove", *_FOR)
            self.assertEqual((file.read_bytes(), set(self.files())), (text.encode(), {_K3S}))

    def test_wildcard(self) -> None:
        """A file with C{"*"} of its own is left alone, with what to do; one that names crcache there is in order."""
        self.put(_K3S, 'mirrors:\n  "*":\n    endpoint: [https://m.example.com]\n')
        self.assertIn('mirrors has "*" already: put http://127.0.0.1:3000 first', self.bad("--apply", *_FOR))
        text = 'mirrors:\n  "*":\n    endpoint: ["http://127.0.0.1:3000"]\n'
        self.put(_K3S, text)
        self.good("--apply", *_FOR)
        self.assertEqual(self.files(), {_K3S: text})

    def test_malformed(self) -> None:
        """What is not a registries.yaml is a line with the file, and nothing is written."""
        for text, line in (
            ("mirrors:\n  a: [\n", f"/{_K3S}:3: is not YAML: "),
            ("- a\n", f"/{_K3S}: must be a mapping"),
            ("mirrors: [a]\n", f"/{_K3S}: mirrors: must be a mapping"),
            ("a: 1\n---\nb: 2\n", f"/{_K3S}:2: is not YAML: "),
            ("{mirrors: {a: {}}}\n", f"/{_K3S}: is written in a way that cannot be added to"),
            ("mirrors: {a: {}}\n", f"/{_K3S}: is written in a way that cannot be added to"),
            ("a: \x00\n", f"/{_K3S}: is not YAML: "),
        ):
            self.put(_K3S, text)
            self.assertTrue(self.bad("--apply", *_FOR).startswith(line), text)
            self.assertEqual(self.files(), {_K3S: text})

    def test_passwords(self) -> None:
        """What would be written is shown, and nothing of what stands beside it: that has passwords in it."""
        self.put(_K3S, "mirrors:\n  a.io:\nconfigs:\n  x.io: {auth: {username: u, password: hunter2}}\n", 0o600)
        for flags in ((), ("--json",), ("--apply", "--json"), ("--remove", "--json")):
            _, out, err = self.hosts(*_FOR, *flags)
            self.assertNotIn("hunter2", out + err)
            self.assertIn("http://127.0.0.1:3000", out)
        self.assertIn("hunter2", self.text(_K3S) or "")

    def test_rke2(self) -> None:
        """The file of whatever is installed is written, both of them if need be."""
        (self.root / "etc/rancher/rke2").mkdir(parents=True)
        self.assertIn("'systemctl restart rke2-server' (on agents rke2-agent)", self.good("--apply", *_FOR))
        self.assertEqual(set(self.files()), {_RKE2})
        (self.root / "etc/rancher/k3s").mkdir()
        self.good("--apply", *_FOR)
        self.assertEqual(set(self.files()), {_K3S, _RKE2})
        self.good("--remove", *_FOR)
        self.assertEqual(self.files(), {})

    def test_more_specific(self) -> None:
        """A registry with mirrors of its own is named: it does not go through crcache."""
        self.put(_K3S, "mirrors:\n  docker.io:\n    endpoint: [https://m.example.com]\n")
        self.assertIn("mirrors has docker.io, which goes before crcache", self.report(*_FOR)["notes"][0])

    def test_added_since(self) -> None:
        """What the administrator added beside the entry stays when that goes; in it, it is kept in a copy."""
        self.put(_K3S, "configs: {}\n")
        self.good("--apply", *_FOR)
        text = (self.text(_K3S) or "") + "# mine\n"
        self.put(_K3S, text)
        self.good("--remove", *_FOR)
        self.assertEqual(self.text(_K3S), "configs: {}\n# mine\n")
        self.good("--apply", *_FOR)
        edited = (self.text(_K3S) or "").replace("127.0.0.1", "10.0.0.1")
        self.put(_K3S, edited)
        self.good("--remove", *_FOR)
        self.assertEqual(self.text(f"{_K3S}.crcache-edited"), edited)

    def test_authority(self) -> None:
        """With an https mirror the authority's file is named for that mirror, and copied beside."""
        ca = self.put("ca.pem", "-----BEGIN CERTIFICATE-----\n")
        self.put(_K3S, "configs:\n  x.io: {auth: {username: u}}\n")
        self.good("--apply", *_FOR, "--mirror", "https://cache:3443", "--ca", str(ca))
        document = yaml.safe_load(self.text(_K3S) or "")
        self.assertEqual(
            document["configs"],
            {
                "cache:3443": {"tls": {"ca_file": "/etc/rancher/k3s/crcache-ca.pem"}},
                "x.io": {"auth": {"username": "u"}},
            },
        )
        self.assertIn("BEGIN CERTIFICATE", self.text("etc/rancher/k3s/crcache-ca.pem") or "")
        self.good("--remove", *_FOR)
        self.assertEqual(set(self.files()), {_K3S, "ca.pem"})
