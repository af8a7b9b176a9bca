"""The C{cache.s3} section of the configuration file: the bucket behind the cache directory."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from crcache import pem, values
from crcache.grammar.excerpt import excerpt
from crcache.settings import S3Settings
from crcache.yaml_file import Entry, get

S3_KEYS = ("bucket", "endpoint", "region", "prefix", "path-style", "ca", "timeout")

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; others' services take a bit more.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_IN_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html, "Safe characters", but for some.
_PREFIX = re.compile(r"[A-Za-z0-9!_.*-]+(?:/[A-Za-z0-9!_.*-]+)*/?")
_LONGEST_PREFIX = 200


def read_s3(cache: Mapping[str, Entry], base: Path) -> S3Settings | None:
    """The bucket that C{cache.s3} names; C{None} without one.

    @param base: where relative paths begin.
    @raise ConfigError: naming the line and key; also if what signs questions to a bucket is not installed.
    """
    if "s3" not in cache:
        return None
    entry = cache["s3"]
    fields = entry.section(S3_KEYS)
    if "bucket" not in fields:
        raise entry.wrong("has no bucket")
    bucket = fields["bucket"].convert(_bucket)
    named = "endpoint" in fields
    if not named and "region" not in fields:
        raise entry.wrong("has neither endpoint nor region; one of them says where the bucket is")
    region = get(fields, "region", _region, S3Settings.region)
    endpoint = get(fields, "endpoint", _endpoint, f"https://s3.{region}.amazonaws.com")
    path_style = get(fields, "path-style", values.boolean, named)
    if not path_style and not _IN_HOST.fullmatch(bucket):
        raise fields["bucket"].wrong(f"{excerpt(bucket)} cannot be part of a host's name; path-style needs to be yes")
    ca = get(fields, "ca", lambda text: pem.certificates(values.absolute(text, base)), None)
    timeout = get(fields, "timeout", values.timeout, S3Settings.timeout)
    settings = S3Settings(bucket, endpoint, region, get(fields, "prefix", _prefix, ""), path_style, ca, timeout)
    if not _installed():
        raise entry.wrong("needs botocore, which is not installed (Debian: python3-botocore)")
    return settings


def _installed() -> bool:
    """Looked for only: importing it takes memory, which is for whoever has a bucket."""
    return importlib.util.find_spec("botocore") is not None


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text) or ".." in text:
        raise ValueError(f"{excerpt(text)} is not a bucket's name, such as registry-cache; a path in it is the prefix")
    return text


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError(f"{excerpt(text)} is not a region such as eu-central-1")
    return text


def _prefix(text: str) -> str:
    parts = text.split("/")
    if len(text) > _LONGEST_PREFIX or not _PREFIX.fullmatch(text) or "." in parts or ".." in parts:
        raise ValueError(
            "must be like crcache/ or site-a/crcache/: letters, digits and any of ! _ . * - between slashes"
        )
    return text if text.endswith("/") else f"{text}/"


def _endpoint(text: str) -> str:
    return values.service_url(text, "https://s3.example.com:9000")
