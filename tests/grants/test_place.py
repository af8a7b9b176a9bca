"""L{crcache.grants.place}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.grants.place import runtime_directory


class PlaceTests(SynchronousTestCase):
    """Which directory a host's processes share."""

    def test_environment(self) -> None:
        """systemd's comes before the user's, the first of several; relative ones, and empty ones, are ignored."""
        for environ, expected in (
            ({"RUNTIME_DIRECTORY": "/run/crcache"}, "/run/crcache"),
            ({"RUNTIME_DIRECTORY": "/run/crcache:/run/other", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/crcache"),
            ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/crcache"),
            ({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/crcache"),
            ({"RUNTIME_DIRECTORY": "run", "XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/crcache"),
            ({"RUNTIME_DIRECTORY": "run", "XDG_RUNTIME_DIR": "user"}, "None"),
            ({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}, "None"),
            ({}, "None"),
        ):
            self.assertEqual(str(runtime_directory(environ)), expected, environ)
