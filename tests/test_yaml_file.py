"""L{crcache.yaml_file}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import ConfigError
from crcache.yaml_file import Entry, one_line, parse_yaml, read_file


class ReadFileTests(SynchronousTestCase):
    def write(self, data: bytes, mode: int = 0o640) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def test_text(self) -> None:
        """The text comes without a byte order mark, and with whether everybody can read it."""
        self.assertEqual(read_file(self.write(b"\xef\xbb\xbfa: \xc3\xa4\n")), ("a: ä\n", False))
        self.assertEqual(read_file(self.write(b"", 0o644)), ("", True))

    def test_device(self) -> None:
        """What a pipe or device delivers is not called public, whatever its mode."""
        self.assertEqual(read_file(Path("/dev/null")), ("", False))

    def test_unreadable(self) -> None:
        """A file that is missing or no file is named, with the reason."""
        error = self.assertRaises(ConfigError, read_file, Path("/nonexistent\n/x.yaml"))
        self.assertEqual(error.message, "/nonexistent\\n/x.yaml: cannot be read: No such file or directory")
        self.assertIn("Is a directory", self.assertRaises(ConfigError, read_file, Path("/")).message)

    def test_not_text(self) -> None:
        """Bytes that are not UTF-8 are told with their line."""
        path = self.write(b"a: b\nc: \xff\n")
        self.assertEqual(self.assertRaises(ConfigError, read_file, path).message, f"{path}:2: is not UTF-8 text")


class ParseTests(SynchronousTestCase):
    def parse_error(self, text: str) -> str:
        message: str = self.assertRaises(ConfigError, parse_yaml, "f.yaml", text).message
        return message

    def test_empty(self) -> None:
        """A file without anything in it is an empty mapping."""
        for text in ["", "# nothing\n", "---\n"]:
            self.assertEqual(parse_yaml("f.yaml", text).section(), {})

    def test_syntax_error(self) -> None:
        """What is not YAML is one line with file and line."""
        for text, line in [
            ("a: b\nc: [\n", 3),
            ("a: b\n\tc: d\n", 2),
            ("a: b: c\n", 1),
            ("a: b\n---\nc: d\n", 2),
            ("a: b\nc: \x01\n", 2),
            ("a: 'b\n", 2),
        ]:
            message = self.parse_error(text)
            self.assertTrue(message.startswith(f"f.yaml:{line}: is not YAML: "), (text, message))
            self.assertNotIn("\n", message)

    def test_syntax_error_shows_nothing(self) -> None:
        """Nothing of the text is shown: YAML stumbles over passwords first of all."""
        for text in [
            "password: *s3cret\n",
            "password: %s3cret\n",
            "password: @s3cret\n",
            "password: `s3cret\n",
            "password: 's3cret\n",
            'password: "s3cret\\x"\n',
            "password: !<s3cret\n",
            "password: !s3cret!x y\n",
            "a: &s3cret 1\nb: &s3cret 2\nc: *s3cre\n",
            "password:s3cret\nb: c\n",
            "a: [s3cret\n",
        ]:
            self.assertNotIn("s3cre", self.parse_error(text), text)

    def test_too_deep(self) -> None:
        """A file made to exhaust the parser is refused like any other mistake."""
        self.assertIn("too deeply", self.parse_error("[" * 20000))


class EntryTests(SynchronousTestCase):
    def entry(self, text: str) -> Entry:
        return parse_yaml("f.yaml", text)

    def only(self, text: str) -> Entry:
        """The value behind the one key C{k}."""
        return self.entry(text).section(["k"])["k"]

    def message(self, error: ConfigError) -> str:
        self.assertNotIn("\n", error.message)
        return error.message

    def test_text_as_typed(self) -> None:
        """A scalar is what was typed, not what YAML takes it for."""
        for typed, text in [
            ("0123", "0123"),
            ("1e3", "1e3"),
            ("no", "no"),
            ("12:30", "12:30"),
            ("2024-01-01", "2024-01-01"),
            ("'60'", "60"),
            ("''", ""),
            ("!!str 5", "5"),
            ("ä b", "ä b"),
        ]:
            self.assertEqual(self.only(f"k: {typed}").text(), text)

    def test_no_text(self) -> None:
        """Nothing, a list, a mapping, a foreign tag and control characters are refused, naming line and key."""
        for typed, what in [
            ("", "no value"),
            ("~", "no value"),
            ("[a]", "single value"),
            ("{a: b}", "single value"),
            ("!!binary aGk=", "single value"),
            ("!!python/object/apply:os.system [id]", "single value"),
            ('"a\\nb"', "control character"),
            ('"\\ud800"', "control character"),
        ]:
            error = self.message(self.assertRaises(ConfigError, self.only(f"# first\nk: {typed}\n").text))
            self.assertTrue(error.startswith("f.yaml:2: k: "), error)
            self.assertIn(what, error)

    def test_line_of_key(self) -> None:
        """A value's line is its key's, an item's its own, and nested keys are all named."""
        entry = self.only("\nk:\n  - a\n  -\n    b\n")
        self.assertEqual(entry.line, 2)
        self.assertEqual([item.line for item in entry.several()], [3, 5])
        nested = self.entry("a:\n  b:\n    c: 1\n").section()["a"].section()["b"].section()["c"]
        self.assertEqual(self.message(nested.wrong("is odd")), "f.yaml:3: a.b.c: is odd")

    def test_convert(self) -> None:
        """A C{ValueError} of the parser is told with the entry's place."""
        self.assertEqual(self.only("k: 5").convert(int), 5)

        def refuse(text: str) -> int:
            raise ValueError("is not to be")

        error = self.assertRaises(ConfigError, self.only("k: 5").convert, refuse)
        self.assertEqual(self.message(error), "f.yaml:1: k: is not to be")

    def test_several(self) -> None:
        """A single value is a list of itself; an empty list is a mistake."""
        self.assertEqual([item.text() for item in self.only("k: a").several()], ["a"])
        self.assertEqual([item.text() for item in self.only("k: [a, b]").several()], ["a", "b"])
        self.assertRaises(ConfigError, self.only("k: []").several)

    def test_empty_section(self) -> None:
        """A key whose children are all commented out is an empty section."""
        self.assertEqual(self.only("k:\n  # x: y\n").section(["x"]), {})

    def test_no_section(self) -> None:
        """A list or a single value where keys belong is refused without being shown."""
        for text in ["k: s3cret", "k: [s3cret]"]:
            for known in (["x"], None):
                error = self.message(self.assertRaises(ConfigError, self.only(text).section, known))
                self.assertIn("must be a mapping", error)
                self.assertNotIn("s3cret", error)

    def test_twice(self) -> None:
        """A key that is there twice is refused, naming both lines."""
        error = self.assertRaises(ConfigError, self.entry("a: 1\nb: 2\na: 3\n").section)
        self.assertEqual(self.message(error), "f.yaml:3: 'a' is there twice, first in line 1")

    def test_unknown_key(self) -> None:
        """A key that is not known is named, with the nearest that is, or all of them."""
        error = self.message(self.assertRaises(ConfigError, self.entry("a: 1\ntag_ttl: 2").section, ["a", "tag-ttl"]))
        self.assertEqual(error, "f.yaml:2: unknown key 'tag_ttl'; did you mean tag-ttl?")
        error = self.message(self.assertRaises(ConfigError, self.entry("zzz: 2").section, ["b", "a"]))
        self.assertEqual(error, "f.yaml:1: unknown key 'zzz'; known here: a, b")

    def test_key_that_is_part_of_a_password(self) -> None:
        """What becomes a key because quotes or a space are missing is not shown."""
        known = ["username", "password"]
        for text in [
            "{username: u, password: a,s3cret}",
            "{username: u, password:s3cret}",
            "{username: u, password s3cret}",
            "{username: u, s3cret: }",
            "? [s3cret]\n: x\n",
        ]:
            error = self.message(self.assertRaises(ConfigError, self.entry(text).section, known))
            self.assertNotIn("s3cret", error)
            self.assertTrue(error.startswith("f.yaml:1: "), error)

    def test_loop(self) -> None:
        """An anchor within itself does not trap anyone."""
        entry = self.entry("k: &a\n  k: *a\n").section()["k"]
        self.assertEqual(entry.section()["k"].section()["k"].path, ("k", "k", "k"))


class OneLineTests(SynchronousTestCase):
    def test_escaped(self) -> None:
        """Line ends of every kind and terminal controls do not get through; letters do."""
        self.assertEqual(one_line("ä\n\r\x1b[1m\u2028\x85"), "ä\\n\\r\\x1b[1m\\u2028\\x85")
