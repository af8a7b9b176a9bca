"""L{crcache.nodes.containerd} and L{crcache.nodes.containerd_config}, through C{crcache hosts}."""

from __future__ import annotations

import itertools
import json
import os
import tomllib
from pathlib import Path
from unittest import mock

from tests.nodes.case import CONFIG, GOOD, HOSTS, MARK, HostCase

_URL = "http://127.0.0.1:3000"


class WriteTests(HostCase):
    """hosts.toml, with a configuration that is as it should be."""

    def setUp(self) -> None:
        """Have that configuration."""
        super().setUp()
        self.put(CONFIG, GOOD)

    def test_golden(self) -> None:
        """What is written is this, and says no C{server}, which would be that of all registries."""
        self.good("--apply")
        text = self.text(HOSTS) or ""
        self.assertTrue(text.startswith(MARK))
        self.assertEqual(
            tomllib.loads(text),
            {"host": {_URL: {"capabilities": ["pull", "resolve"], "dial_timeout": "2s"}}},
        )
        self.assertEqual((self.root / HOSTS).stat().st_mode & 0o777, 0o644)
        self.no_leftovers()

    def test_show(self) -> None:
        """Without a flag nothing is written; the status says that something is missing, and later that nothing is."""
        before = self.files()
        status, out, err = self.hosts()
        self.assertEqual((status, err, self.files()), (1, "", before))
        self.assertIn(f"/{HOSTS}: would be written\n", out)
        self.assertIn(f'    [host."{_URL}"]\n', out)
        self.good("--apply")
        self.assertEqual(self.good(), "containerd: nothing to change\n")

    def test_idempotent(self) -> None:
        """Applied twice it changes nothing, and says so; not even the file is another."""
        self.assertIn("written", self.good("--apply"))
        inode = (self.root / HOSTS).stat().st_ino
        self.assertEqual(self.good("--apply"), "containerd: nothing to change\n")
        self.assertEqual((self.root / HOSTS).stat().st_ino, inode)

    def test_remove(self) -> None:
        """Removed, nothing of it is left; removed again there is nothing to remove."""
        before = self.files()
        self.good("--apply")
        self.assertIn(f"/{HOSTS}: removed\n", self.good("--remove"))
        self.assertEqual(self.files(), before)
        self.assertFalse((self.root / HOSTS).parent.exists())
        self.assertEqual(self.good("--remove"), "containerd: nothing to remove\n")

    def test_another_mirror(self) -> None:
        """Another mirror takes the place of the first, without a copy: it was crcache's own."""
        self.good("--apply")
        self.good("--apply", "--mirror", "http://10.0.0.1:3000/")
        self.assertEqual(set(tomllib.loads(self.text(HOSTS) or "")["host"]), {"http://10.0.0.1:3000"})
        self.assertEqual(set(self.files()), {CONFIG, HOSTS})

    def test_somebody_elses(self) -> None:
        """A file that is somebody else's is kept in a copy with its mode, and comes back."""
        self.put(HOSTS, "# theirs\n", 0o640)
        self.assertIn(f"/{HOSTS}.crcache-backup\n", self.good("--apply"))
        self.assertEqual(self.text(f"{HOSTS}.crcache-backup"), "# theirs\n")
        self.assertEqual((self.root / HOSTS).stat().st_mode & 0o777, 0o640)
        self.good("--remove")
        self.assertEqual(self.files(), {CONFIG: GOOD, HOSTS: "# theirs\n"})
        self.assertEqual((self.root / HOSTS).stat().st_mode & 0o777, 0o640)

    def test_somebody_elses_again(self) -> None:
        """A second file of somebody else's is kept beside the first, and it is the one that comes back."""
        for text in ("# first\n", "# second\n"):
            self.put(HOSTS, text)
            self.good("--apply")
        self.assertEqual(self.text(f"{HOSTS}.crcache-backup"), "# second\n")
        self.assertEqual(self.text(f"{HOSTS}.crcache-backup.1"), "# first\n")
        self.good("--remove")
        self.assertEqual(self.text(HOSTS), "# second\n")

    def test_not_ours_to_remove(self) -> None:
        """Somebody else's file is left alone by C{--remove}."""
        self.put(HOSTS, "# theirs\n")
        self.assertEqual(self.good("--remove"), "containerd: nothing to remove\n")
        self.assertEqual(self.text(HOSTS), "# theirs\n")

    def test_edited(self) -> None:
        """What the administrator changed in crcache's file is kept in a copy, by C{--remove} and by C{--apply}."""
        for flags in (("--remove",), ("--apply",)):
            self.good("--apply")
            edited = (self.text(HOSTS) or "") + "# mine\n"
            self.put(HOSTS, edited)
            self.assertIn(".crcache-edited", self.good(*flags))
            self.assertEqual(self.text(f"{HOSTS}.crcache-edited"), edited)
        self.assertNotIn("mine", self.text(HOSTS) or "")

    def test_crash(self) -> None:
        """Broken off before any of its renames it leaves a state from which both ways lead on, and nothing is lost."""
        for flags, outcome in ((("--apply",), MARK), (("--remove",), "# theirs\n")):
            for survived in range(2):
                self.put(HOSTS, "# theirs\n")
                left = iter([os.rename] * survived)

                def rename(source: str, target: str) -> None:
                    step = next(left, None)  # noqa: B023
                    if step is None:
                        raise KeyboardInterrupt
                    step(source, target)

                with mock.patch("crcache.nodes.files.os.rename", rename):
                    self.assertEqual(self.hosts("--apply")[0], 130)
                self.assertEqual(self.text(HOSTS), "# theirs\n")
                self.no_leftovers()
                self.good(*flags)
                self.assertTrue((self.text(HOSTS) or "").startswith(outcome))
                self.good("--remove")
                self.assertEqual(self.files(), {CONFIG: GOOD, HOSTS: "# theirs\n"})

    def test_link(self) -> None:
        """A link stays a link, followed inside the root; one in a circle is a line."""
        self.put("srv/hosts.toml", "# theirs\n")
        link = self.root / HOSTS
        link.parent.mkdir(parents=True)
        link.symlink_to("/srv/hosts.toml")
        self.good("--apply")
        self.assertTrue(link.is_symlink())
        self.assertTrue((self.text("srv/hosts.toml") or "").startswith(MARK))
        link.unlink()
        link.symlink_to("hosts.toml")
        self.assertEqual(self.bad("--apply"), f"/{HOSTS}: too many symbolic links")

    def test_link_out(self) -> None:
        """A link cannot lead out of the root."""
        link = self.root / "etc/containerd/certs.d"
        link.symlink_to("../../../../../../../../outside")
        self.good("--apply")
        self.assertIn("outside/_default/hosts.toml", self.files())

    def test_authority(self) -> None:
        """The authority of an https mirror is copied beside, and goes with it."""
        ca = self.put("ca.pem", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n")
        self.good("--apply", "--mirror", "https://cache:3443", "--ca", str(ca))
        host = tomllib.loads(self.text(HOSTS) or "")["host"]["https://cache:3443"]
        self.assertEqual(host["ca"], "crcache-ca.pem")
        copied = HOSTS.replace("hosts.toml", "crcache-ca.pem")
        self.assertIn(ca.read_text(), self.text(copied) or "")
        self.good("--apply")
        self.assertIsNone(self.text(copied))
        self.good("--apply", "--mirror", "https://cache:3443", "--ca", str(ca))
        self.good("--remove")
        self.assertEqual(set(self.files()), {CONFIG, "ca.pem"})

    def test_directories_of_registries(self) -> None:
        """A registry with a directory of its own is named, unless that names crcache too."""
        self.put("etc/containerd/certs.d/harbor.example.com_8443_/hosts.toml", "")
        self.put("etc/containerd/certs.d/quay.io/hosts.toml", f'[host."{_URL}"]\n')
        [note] = self.report()["notes"]
        self.assertIn("certs.d/harbor.example.com_8443_: ", note)
        self.assertIn("for harbor.example.com:8443, not by crcache", note)

    def test_json(self) -> None:
        """C{--json} is one object with all of it."""
        report = self.report("--apply")
        self.assertEqual((report["for"], report["mirror"], report["action"]), ("containerd", _URL, "apply"))
        [change] = report["changes"]
        self.assertEqual((change["path"], change["done"]), (f"/{HOSTS}", True))
        self.assertEqual((change["action"], change["text"]), ("write", self.text(HOSTS)))
        self.assertEqual((report["problems"], self.report()["changes"]), ([], []))

    def test_passwords(self) -> None:
        """What somebody else wrote, and gets back, is not shown: a hosts.toml may have a header that authorizes."""
        self.put(HOSTS, '[host."https://m.example.com".header]\nauthorization = "Basic aHVudGVyMg=="\n')
        actions = []
        for flag in ("--apply", "--remove"):
            _, out, err = self.hosts("--json", flag)
            self.assertNotIn("aHVudGVyMg", out + err)
            actions.append([change["action"] for change in json.loads(out)["changes"]])
        self.assertEqual(actions, [["copy", "write"], ["write", "remove"]])

    def test_attributes(self) -> None:
        """Of a file's extended attributes those that can be set are kept, whatever becomes of the others."""
        file, attributes = self.put(HOSTS, "[host]\n"), {"user.first": b"1", "user.second": b"2"}
        kept: dict[str, bytes] = {}

        def set_one(descriptor: int, name: str, value: bytes) -> None:
            if name == "user.first":
                raise PermissionError(1, "Operation not permitted")
            kept[name] = value

        def of(path: object) -> dict[str, bytes]:
            return attributes if Path(str(path)) == file else {}

        with (
            mock.patch("crcache.nodes.files.os.listxattr", lambda path: list(of(path))),
            mock.patch("crcache.nodes.files.os.getxattr", lambda path, name: of(path)[name]),
            mock.patch("crcache.nodes.files.os.setxattr", set_one),
        ):
            self.good("--apply")
        self.assertEqual(kept, {"user.second": b"2"})

    def test_umask(self) -> None:
        """Directories that are made are for all to enter, whatever the umask; those that are there stay as they are."""
        (self.root / "etc/containerd").chmod(0o711)
        self.addCleanup(os.umask, os.umask(0o077))
        self.good("--apply")
        modes = [each.stat().st_mode & 0o777 for each in list((self.root / HOSTS).parents)[:3]]
        self.assertEqual(modes, [0o755, 0o755, 0o711])

    def test_unwritable(self) -> None:
        """A directory that cannot be written is one line."""
        with mock.patch("crcache.nodes.files.tempfile.mkstemp", side_effect=PermissionError(13, "Permission denied")):
            self.assertTrue(self.bad("--apply").startswith(f"/{HOSTS}: Permission denied"))
        (self.root / HOSTS).mkdir(parents=True)
        self.assertIn("s a directory", self.bad("--apply"))


class ConfigTests(HostCase):
    """What containerd's own configuration lacks."""

    def test_versions(self) -> None:
        """The table of each version is read, and named where it is missing; hosts.toml is written all the same."""
        for version, table in (
            ("", "[plugins.cri.registry]"),
            ("version = 1\n", "[plugins.cri.registry]"),
            ("version = 2\n", '[plugins."io.containerd.grpc.v1.cri".registry]'),
            ("version = 3\n", '[plugins."io.containerd.cri.v1.images".registry]'),
            ("version = 4\n", '[plugins."io.containerd.cri.v1.images".registry]'),
        ):
            self.put(CONFIG, version)
            line = self.bad("--apply")
            self.assertEqual(
                line,
                f'/{CONFIG}: config_path is not set: add {table} config_path = "/etc/containerd/certs.d", then restart'
                " containerd",
            )
            self.assertIsNotNone(self.text(HOSTS))
            self.put(CONFIG, f'{version}{table}\nconfig_path = "/srv/certs"\n')
            self.good("--apply")
            self.assertIsNotNone(self.text("srv/certs/_default/hosts.toml"))
            self.good("--remove")

    def test_none(self) -> None:
        """Without a file the line says how to begin one that every containerd reads."""
        self.assertIn("is not there, and so config_path is not set: add version = 2 and [plugins.", self.bad("--apply"))

    def test_imports(self) -> None:
        """Imports count, relative ones and patterns too; the last says what is in force; circles do no harm."""
        self.put(CONFIG, 'version = 2\nimports = ["conf.d/*.toml", "/etc/containerd/config.toml"]\n')
        self.put("etc/containerd/conf.d/10.toml", GOOD)
        self.put("etc/containerd/conf.d/20.toml", GOOD.replace("/certs.d", "/other.d"))
        self.good("--apply")
        self.assertIsNotNone(self.text("etc/containerd/other.d/_default/hosts.toml"))
        self.put("etc/containerd/conf.d/30.toml", GOOD.replace("/etc/", "etc/"))
        self.assertTrue(self.bad("--apply").startswith("/etc/containerd/conf.d/30.toml: config_path: "))
        self.put(CONFIG, f'imports = ["gone.toml"]\n{GOOD}')
        self.assertEqual(self.bad(), f"/{CONFIG}: imports /etc/containerd/gone.toml, which is not there")

    def test_imports_without_version(self) -> None:
        """An imported file without C{version} is read as of the main file's, or under any name of the plugin's."""
        tables = {
            "": "[plugins.cri.registry]",
            "version = 2\n": '[plugins."io.containerd.grpc.v1.cri".registry]',
            "version = 3\n": '[plugins."io.containerd.cri.v1.images".registry]',
        }
        for version, (main, table) in itertools.product(tables, tables.items()):
            self.put(CONFIG, f'{version}imports = ["conf.d/*.toml"]\n')
            self.put("etc/containerd/conf.d/10.toml", f'{table}\nconfig_path = "/srv/certs"\n')
            out = self.good("--apply")
            self.assertIsNotNone(self.text("srv/certs/_default/hosts.toml"))
            # It is certain that only containerd 2 is run with version 3.
            unread = version != main and version != "version = 3\n"
            self.assertEqual("before 2.0 does not read config_path in that table" in out, unread, (version, table))
            self.good("--remove")
        images = tables["version = 3\n"]
        self.put("etc/containerd/conf.d/10.toml", f'version = 2\n{images}\nconfig_path = "/srv"\n')
        self.assertIn("config_path is not set", self.bad())

    def test_inline_without_version(self) -> None:
        """Mirrors in an imported file without C{version} are seen under full names, too."""
        self.put(CONFIG, 'imports = ["conf.d/*.toml"]\n' + GOOD)
        for name in ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"):
            table = f'[plugins."{name}".registry.mirrors."docker.io"]'
            self.put("etc/containerd/conf.d/10.toml", f'{table}\nendpoint = ["https://m.example.com"]\n')
            self.assertIn("registry.mirrors are set", self.bad())

    def test_main_without_version(self) -> None:
        """Full names in a main file without C{version} are containerd 2's alone, which is said."""
        self.put(CONFIG, GOOD.replace("version = 2\n", ""))
        self.good("--apply")
        [note] = self.report()["notes"]
        self.assertIn("before 2.0 does not read config_path in that table, only in [plugins.cri.registry]", note)

    def test_replaced(self) -> None:
        """A later table of the CRI plugin without C{config_path} is named: containerd 1 takes it in place of the other.

        The status stays, since containerd 2 reads such files, too, and merges them.
        """
        imports, drop_in = 'imports = ["conf.d/*.toml"]\n', "etc/containerd/conf.d/20.toml"
        containerd = '[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "nvidia"\n'
        note = (
            f"/{drop_in}: containerd before 2.0 takes its CRI plugin's table in place of that in /{CONFIG}: repeat"
            " config_path there"
        )
        self.put(CONFIG, imports + GOOD)
        self.put("etc/containerd/conf.d/10.toml", containerd)
        for text in (containerd, f"version = 2\n{containerd}"):
            self.put(drop_in, text)
            self.assertIn(f"note: {note}\n", self.good("--apply"))
            self.assertEqual(self.report()["notes"], [note])
        self.put(drop_in, GOOD.partition("\n")[2] + containerd)
        self.assertEqual(self.report()["notes"], [])
        self.put(drop_in, '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = ""\n')
        self.assertEqual(self.report()["notes"], [note])
        images = "io.containerd.cri.v1.images"
        self.put(CONFIG, imports + GOOD.replace("2", "3").replace("io.containerd.grpc.v1.cri", images))
        self.put(drop_in, containerd.replace("io.containerd.grpc.v1.cri", images))
        self.assertEqual(self.report()["notes"], [])

    def test_several_directories(self) -> None:
        """The first of several is used; what the others hold for single registries is named, and containerd's fault."""
        self.put(CONFIG, GOOD.replace("certs.d", "certs.d:/etc/docker/certs.d"))
        self.put("etc/docker/certs.d/harbor.example.com/ca.crt", "")
        self.good("--apply")
        self.assertIsNotNone(self.text(HOSTS))
        moved, several = self.report()["notes"]
        self.assertIn("/etc/docker/certs.d/harbor.example.com: containerd no longer looks there", moved)
        self.assertIn("set it to", several)

    def test_mirrors_beside(self) -> None:
        """Tables with which containerd refuses C{config_path} are named, whether that is set or not."""
        table = '[plugins."io.containerd.grpc.v1.cri".registry.'
        mirrors = f'{table}mirrors."docker.io"]\nendpoint = ["https://m.example.com"]\n'
        tls = f'{table}configs."docker.io".tls]\nca_file = "/ca.pem"\n'
        self.put(CONFIG, GOOD + mirrors)
        self.assertIn("registry.mirrors are set, which containerd refuses beside config_path", self.bad("--apply"))
        self.put(CONFIG, GOOD + mirrors + tls)
        self.assertIn("registry.mirrors and registry.configs.*.tls are set", self.bad("--apply"))
        self.put(CONFIG, "version = 2\n" + mirrors)
        self.assertEqual(len(self.report()["problems"]), 2)

    def test_disabled(self) -> None:
        """A containerd whose CRI plugin is off, as Docker's packages have it, is told of."""
        self.put(CONFIG, f'disabled_plugins = ["cri"]\n{GOOD}')
        self.assertIn("disabled_plugins", self.bad("--apply"))

    def test_malformed(self) -> None:
        """What cannot be understood is one line with the file, and the line in it; nothing is written then."""
        for text, line in (
            ("version = 2\nx = \n", f"/{CONFIG}:2: is not TOML: invalid value"),
            ("x = " + "9" * 5000, f"/{CONFIG}: is nested too deeply, or a number in it is too long"),
            ("x = " + "[" * 5000, f"/{CONFIG}: is nested too deeply, or a number in it is too long"),
            ('version = "2"\n', f"/{CONFIG}: version: must be a number"),
            (GOOD.replace('"/etc/containerd/certs.d"', "3"), f"/{CONFIG}: config_path: must be a string"),
            (
                GOOD.replace("/etc/", "etc/"),
                f"/{CONFIG}: config_path: 'etc/containerd/certs.d' is not an absolute path",
            ),
            ("#" * ((1 << 20) + 1), f"/{CONFIG}: is larger than 1 MiB"),
        ):
            self.put(CONFIG, text)
            self.assertEqual(self.bad("--apply"), line)
            self.assertEqual(set(self.files()), {CONFIG})
        (self.root / CONFIG).write_bytes(b"\xff")
        self.assertEqual(self.bad("--apply"), f"/{CONFIG}: is not UTF-8 text")

    def test_set_since(self) -> None:
        """What was written before C{config_path} was set to another directory is removed too."""
        self.put(CONFIG, "version = 2\n")
        self.bad("--apply")
        self.put(CONFIG, GOOD.replace("certs.d", "other.d"))
        self.good("--apply")
        self.good("--remove")
        self.assertEqual(set(self.files()), {CONFIG})

    def test_elsewhere(self) -> None:
        """C{--config} names another file, which has to be there."""
        self.put("srv/c.toml", GOOD)
        self.good("--apply", "--config", "/srv/c.toml")
        self.assertEqual(self.bad("--apply", "--config", "/srv/d.toml"), "--config: /srv/d.toml: is not there")


class FlagTests(HostCase):
    """What the flags take."""

    def test_misuse(self) -> None:
        """What is no mirror, no registry, or does not go together is status 2, names the flag, and writes nothing."""
        for flags in (
            ("--mirror", "127.0.0.1:3000"),
            ("--mirror", "ftp://x"),
            ("--mirror", "http://"),
            ("--mirror", "http://u:p@x:1"),
            ("--mirror", "http://x/path"),
            ("--mirror", "http://x?y"),
            ("--mirror", "http://x:99999"),
            ("--mirror", 'http://x"y'),
            ("--ca", "/ca.pem"),
            ("--registry", "quay.io"),
            ("--registry", "*.example.com", "--for", "podman"),
            ("--registry", "localhost:5000", "--for", "podman"),
            ("--registry", "busybox", "--for", "podman"),
            ("--config", "/x", "--for", "k3s"),
            ("--config", "x"),
            ("--remove", "--apply"),
            ("--for", "rkt"),
        ):
            status, out, err = self.hosts("--apply", *flags) if "--remove" not in flags else self.hosts(*flags)
            self.assertEqual((status, out, self.files()), (2, "", {}), flags)
            self.assertTrue(flags[0] in err or "--for" in err, err)
            self.assertNotIn("u:p", err)

    def test_authority(self) -> None:
        """An authority's file has to be one, without a key in it."""
        https = ("--mirror", "https://x", "--ca")
        key = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"
        for text, line in (("x", "has no certificate in PEM form"), (key, "has a private key in it")):
            self.assertIn(f"--ca: /ca.pem: {line}", self.bad(*https, str(self.put("ca.pem", text))))
        self.assertIn("No such file", self.bad(*https, str(self.root / "gone.pem")))

    def test_no_root(self) -> None:
        """A root that is no directory is a line."""
        self.root = self.root / "gone"
        self.assertIn("--root: ", self.bad("--apply"))
