"""L{crcache.config_s3}: the bucket, as it is configured."""

from __future__ import annotations

from crcache import config_s3
from crcache.errors import ConfigError
from tests.config_case import ConfigCase


class S3Tests(ConfigCase):
    """C{cache.s3}."""

    def refused(self, section: str) -> str:
        """Why it is, behind the line's number."""
        problem = self.assertRaises(ConfigError, self.config, f"cache:\n  s3: {section}\n")
        self.assertEqual(len(problem.message.splitlines()), 1)
        return str(problem.message)

    def test_least(self) -> None:
        """A bucket and where it is are enough; without it there is none."""
        self.assertIsNone(self.config("").s3)
        found = self.config("cache: {s3: {bucket: b-1, endpoint: 'http://127.0.0.1:9000'}}").s3
        assert found is not None
        self.assertEqual((found.endpoint, found.path_style, found.region), ("http://127.0.0.1:9000", True, "us-east-1"))
        found = self.config("cache: {s3: {bucket: b-1, region: eu-central-1}}").s3
        assert found is not None
        self.assertEqual((found.endpoint, found.path_style), ("https://s3.eu-central-1.amazonaws.com", False))

    def test_prefix(self) -> None:
        """It ends with a slash, whether it was written so or not."""
        for text in ("a/b", "a/b/"):
            found = self.config(f"cache: {{s3: {{bucket: b-1, region: r, prefix: {text}}}}}").s3
            assert found is not None
            self.assertEqual(found.prefix, "a/b/")

    def test_mistakes(self) -> None:
        """Each is told with its line and key."""
        for section, words in (
            ("", "2: cache.s3: has no bucket"),
            ("{}", "cache.s3: has no bucket"),
            ("yes", "cache.s3: must be a mapping"),
            ("{bucket: b-1}", "cache.s3: has neither endpoint nor region"),
            ("{bucket: a/b, region: r}", "cache.s3.bucket: 'a/b' is not a bucket's name"),
            ("{bucket: ../b, region: r}", "cache.s3.bucket: "),
            ("{bucket: My_Bucket, region: r}", "cache.s3.bucket: 'My_Bucket' cannot be part of a host's name"),
            ("{bucket: b-1, region: 'eu/1'}", "cache.s3.region: "),
            ("{bucket: b-1, endpoint: s3.example.com}", "cache.s3.endpoint: must begin with http:// or https://"),
            ("{bucket: b-1, endpoint: 'https://s3.example.com/path'}", "cache.s3.endpoint: must end after"),
            ("{bucket: b-1, endpoint: 'https://u:s3cret@s3.example.com'}", "cache.s3.endpoint: must not carry"),
            ("{bucket: b-1, region: r, prefix: ../x}", "cache.s3.prefix: "),
            ("{bucket: b-1, region: r, prefix: /x}", "cache.s3.prefix: "),
            ("{bucket: b-1, region: r, prefix: a//x}", "cache.s3.prefix: "),
            ("{bucket: b-1, region: r, timeout: 0s}", "cache.s3.timeout: must be longer"),
            ("{bucket: b-1, region: r, ca: /nowhere.pem}", "cache.s3.ca: "),
            ("{bucket: b-1, region: r, path-style: maybe}", "cache.s3.path-style: must be yes or no"),
            ("{bucket: b-1, region: r, secret-key: s3cret}", "unknown key 'secret-key'"),
        ):
            found = self.refused(section)
            self.assertIn(words, found)
            self.assertNotIn("s3cret", found)

    def test_botocore_missing(self) -> None:
        """Without what signs it is one line, which says what to install."""
        self.patch(config_s3, "_installed", lambda: False)
        self.assertIn("cache.s3: needs botocore, which is not installed", self.refused("{bucket: b-1, region: r}"))
        self.config("")
