"""Files: configuration, credentials, the configuration of other engines, and the marks of a fill."""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from pathlib import Path

from hypothesis import strategies as st

from crcache.config import Overrides, load
from crcache.credentials_file import load_credentials
from crcache.errors import ConfigError
from crcache.nodes.containerd_config import read_config
from crcache.nodes.files import Files
from crcache.nodes.toml_file import read_toml
from crcache.store.marks import HEADER, SEGMENT, Marks, MarksDamaged
from crcache.units import LONGEST, format_duration, parse_duration
from crcache.yaml_file import Entry, parse_yaml
from tests.config_case import FULL
from tests.fuzz.target import Target, near, one_line

#: Nothing that was understood may show it.
SECRET = "hunter2"
#: Entries of a document that are looked at: with aliases there can be as many as there are atoms.
MOST = 2000

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
BITS = (
    *(
        "",
        " ",
        "\n",
        "\t",
        "\r",
        "\0",
        "\x85",
        "\u2028",
        "\ufeff",
        "\ud800",
        "\U0001f600",
        ":",
        ": ",
        "- ",
        "? ",
        "#",
        "|",
        ">",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        '"',
        "'",
        "&a ",
        "*a",
        "<<: *a",
        "!!python/name:os.system ",
        "!!binary ",
        "!<x>",
        "!",
        "%YAML 1.1\n",
    ),
    *(
        "---\n",
        "...\n",
        "~",
        "null",
        "yes",
        "0x10",
        "1_000",
        "1e3",
        "12:30:45",
        "2001-01-01",
        ".nan",
        "9" * 5000,
        "99999999999d",
    ),
    *(
        '"\\x00"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        '"\\U00110000"',
        "'" * 50,
        "[" * 60,
        "{a: " * 60,
        "- " * 2000,
        "/",
        "..",
        "\\",
    ),
)
NASTY_YAML = (
    *(
        LAUGHS,
        "&a [*a]",
        "a: &a {b: *a}",
        "&a {*a : 1}",
        "a: *missing",
        "[" * 60,
        "{" * 60,
        "- " * 3000,
        "? " * 2000,
    ),
    *(
        '"\\UFFFFFFFF"',
        '"\\U00110000"',
        "%YAML " + "9" * 5000 + ".1\n--- a",
        "%TAG ! %ff\n--- a",
        "!<%ff%fe> a",
        "!%ZZ a",
    ),
    *(
        "a: " + "9" * 100_000,
        "!!python/object/apply:os.system [x]",
        "a: 1\na: 2",
        "1: 2",
        "? [a, b]\n: c",
        "\ud800",
        "\0",
        "\x1b",
    ),
    *(
        "---\na\n---\nb",
        "a: |99\n x",
        "a: !!int x",
        "<<: {a: b}",
        "a: =",
        '"\\xZZ"',
        "a: 'x",
        f"password:{SECRET}",
        "\t",
        "@",
        "`",
    ),
)


def _told(problem: ConfigError) -> None:
    # Not that there is no secret in it: what has become a key is shown, and may be one here.
    one_line(problem.message)


def _walk(entry: Entry, room: list[int], depth: int = 0) -> None:
    """Read everything in every way, as far as there is room."""
    room[0] -= 1
    if room[0] < 0 or depth > 50:
        return
    try:
        text = entry.text()
        assert not any(ord(character) < 32 for character in text)
        text.encode()
    except ConfigError as problem:
        _told(problem)
    try:
        for inner in entry.section().values():
            _walk(inner, room, depth + 1)
    except ConfigError as problem:
        _told(problem)
    try:
        for inner in entry.several():
            if inner is not entry:
                _walk(inner, room, depth + 1)
    except ConfigError as problem:
        _told(problem)


def yaml(text: str) -> None:
    """A text is a document of which each part is text, list or mapping, or it is told in one line why not."""
    try:
        entry = parse_yaml("crcache.yaml", text)
    except ConfigError as problem:
        _told(problem)
        return
    assert entry.line >= 1
    _walk(entry, [MOST])


def configuration(text: str) -> None:
    """A configuration is in force, and shows no secret, or is refused in one line."""
    path = Path("crcache.yaml").absolute()
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        found = load(path, Overrides(), {"HOME": "/nonexistent"}, reactor=object(), inherited=True)
    except ConfigError as problem:
        _told(problem)
        return
    assert SECRET not in repr(found)
    for warning in found.warnings:
        one_line(warning)


def credentials(example: tuple[str, str]) -> None:
    """Credentials are what HTTP can carry, and do not show, or are refused in one line."""
    name, text = example
    path = Path(name).absolute()
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        found, warnings = load_credentials(path)
    except ConfigError as problem:
        _told(problem)
        return
    for (registry, components), credential in found.entries.items():
        assert all(components) and str(registry)
        pair = credential.username + credential.password.reveal()
        assert not {"Cc", "Cs"} & set(map(unicodedata.category, pair)), ascii(pair)
        assert credential.identity_token or (credential.username and ":" not in credential.username)
        assert SECRET not in repr(credential)
    for warning in warnings:
        one_line(warning)


def containerd(text: str) -> None:
    """What other engines have configured is understood, or is refused in one line."""
    Path("host").mkdir(exist_ok=True)
    Path("host/config.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    files = Files(Path("host"))
    for read in (read_toml, read_config):
        try:
            read(files, "/config.toml")
        except ConfigError as problem:
            one_line(problem.message)


def marks(data: bytes) -> None:
    """Marks that somebody has written claim nothing beyond themselves, and take no longer than they are long."""
    fd = os.memfd_create("marks", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        found = Marks(fd, bytes(16))
        segments = max(len(data) - HEADER, 0) // 8
        for offset in (0, 1, SEGMENT - 1, SEGMENT, 5 * SEGMENT + 7, 2**50):
            readable = found.readable(offset)
            assert offset <= readable <= max(offset, segments * SEGMENT)
            for size in (None, 0, 3 * SEGMENT + 5):
                hole = found.hole(offset, size)
                assert hole is None or (hole[0] >= offset and (hole[1] is None or hole[1] > hole[0])), (
                    hole,
                    offset,
                    size,
                )
        assert 0 <= found.reach() <= segments * SEGMENT
        for what in ("size", "state", "front"):
            try:
                getattr(found, what)
            except MarksDamaged:
                continue
        if found.belongs_to(4711):
            found.adopt()
            assert found.of_this_boot() and found.reach() <= segments * SEGMENT
    finally:
        os.close(fd)


def duration(text: str) -> None:
    """A duration is a number of seconds that a timer can be set to, and can be written again."""
    try:
        seconds = parse_duration(text)
    except ValueError as problem:
        one_line(str(problem))
        return
    assert 0 <= seconds <= float(LONGEST)
    assert parse_duration(format_duration(seconds)) == seconds


def _fresh() -> bytes:
    fd = os.memfd_create("marks", os.MFD_CLOEXEC)
    try:
        made = Marks(fd, bytes(16))
        made.create(4711)
        made.size = 3 * SEGMENT + 5
        made.add(0, SEGMENT + 7)
        made.add(3 * SEGMENT, 5)
        return os.pread(fd, 4096, 0)
    finally:
        os.close(fd)


YAML_SAMPLES = (FULL, LAUGHS, "a: [b, {c: d}]\n'e': |\n  f\n", f"ghcr.io/team: {{username: a, password: {SECRET}}}\n")
AUTH = base64.b64encode(f"a:{SECRET}".encode()).decode()
DOCKER = json.dumps(
    {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}, "ghcr.io": {"username": "a", "password": SECRET}}}
)
IDENTITY = json.dumps({"auths": {"x.azurecr.io": {"auth": AUTH, "identitytoken": SECRET}}, "credHelpers": {}})
DOCKER_BITS = (
    *BITS,
    '{"auths": ',
    '"auth": "',
    "\\ud800",
    "\\u0000",
    "1e999",
    "null",
    "https://",
    "@",
    "AAAA",
    "====",
    '"a":1,' * 50,
)
TOML = (
    'version = 2\nimports = ["*.toml"]\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/certs.d"\n'
)
TOML_BITS = (
    *BITS,
    "[[a]]",
    "a.b.c = 1",
    "inf",
    "0b1",
    "0x" + "f" * 5000,
    '"""',
    "'''",
    "1979-05-27T07:32:00Z",
    "version = 3",
)
MARKS = _fresh()

TARGETS = (
    Target("yaml", st.one_of(st.text(max_size=60), near(YAML_SAMPLES, BITS)), yaml, (*NASTY_YAML, "[" * 3000)),
    Target(
        "configuration",
        near((FULL, *YAML_SAMPLES), BITS),
        configuration,
        (*NASTY_YAML, *(f"registries: {{a.io: {each}}}" for each in NASTY_YAML)),
    ),
    Target(
        "credentials",
        st.tuples(
            st.sampled_from(["creds.yaml", "config.json"]), near((DOCKER, IDENTITY, YAML_SAMPLES[-1]), DOCKER_BITS)
        ),
        credentials,
        [
            (name, text)
            for name in ("creds.yaml", "config.json")
            for text in (
                *NASTY_YAML,
                '{"auths": {}, "x": ' + "9" * 5000 + "}",
                '{"auths": ' + "[" * 100_000,
                '{"auths": {"\\ud800": {"auth": "YTpi"}}}',
                '{"auths": {"a.io": {"username": "\\ud800", "password": "x"}}}',
                '{"auths": {"a.io": {"auth": "' + base64.b64encode(b"a:b\r\nX: y").decode() + '"}}}',
                '{"auths": {"a.io": {"auth": "////"}}}',
                '{"auths": [1]}',
                "ghcr.io/team: {username: \ufeffa, password: \u2028b}",
                f'{{"a.io": {{"username": "a:b", "password": "{SECRET}"}}}}',
            )
        ],
    ),
    Target(
        "containerd's configuration",
        near((TOML,), TOML_BITS),
        containerd,
        (
            "a = " + "9" * 5000,
            "a = " + "[" * 5000,
            "a = 0x" + "f" * 10**5,
            "version = -1",
            'imports = ["/config.toml"]',
            "plugins = 5",
            "imports = [[1]]",
        ),
    ),
    Target(
        "marks",
        st.one_of(
            st.binary(max_size=300),
            near((MARKS,), (b"", b"\0" * 8, b"\xff" * 8, MARKS[:16], MARKS[40:56], MARKS[128:136])),
        ),
        marks,
        (
            b"",
            MARKS,
            MARKS[:127],
            bytes(4096),
            b"\xff" * 4096,
            MARKS[:8] + b"\xff" * 500,
            MARKS + b"\0\0\x10\0\xff\xff\xef\xff" * 400,
        ),
    ),
    Target(
        "duration",
        st.one_of(st.text(max_size=20), near(("500ms", "60s", "1.5h", "7d", "0"), BITS)),
        duration,
        (
            "0",
            "0.0",
            "9" * 18 + "ms",
            "9" * 5000 + "s",
            "0.000000001ms",
            "3650d",
            "3651d",
            "1e3s",
            "\u0661s",
            "-1s",
            "nan",
            "1.s",
        ),
    ),
)
