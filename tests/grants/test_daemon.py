"""Grants of a whole daemon."""

from __future__ import annotations

import stat

from tests.clients.case import ClientCase, eventually
from tests.web.cases import reactor


class DaemonTests(ClientCase):
    """Where a daemon shares its grants."""

    async def test_runtime_directory(self) -> None:
        """It is the runtime directory, as soon as the cache is open; nothing goes on after it has stopped."""
        runtime = self.directory()
        # One without any: what that leaves behind is not of grants.
        await self.cache.stop()
        before = len(reactor.getDelayedCalls())
        cache = self.instance(environ={"RUNTIME_DIRECTORY": str(runtime)})
        key = runtime / "grants" / "key"
        await eventually(key.exists)
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        self.assertFalse(any(path.name == "grants" for path in cache.config.cache_directory.iterdir()))
        await cache.stop()
        self.assertEqual(len(reactor.getDelayedCalls()), before)
