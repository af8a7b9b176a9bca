"""L{crcache.upstream.link}: certificates that do not say whose they are."""

from __future__ import annotations

from crcache.errors import OriginUnreachable
from crcache.testing.certificates import Authority
from tests.upstream.harness import UpstreamCase


class NamelessTests(UpstreamCase):
    """A certificate by a trusted authority, but without a subjectAltName."""

    async def test_refused(self) -> None:
        """It is nobody's, whatever its subject says; unless certificates are not to be verified at all."""
        authority = Authority()
        ca = authority.write(self.directory())
        registry = self.registry(tls=authority.context([]))
        for url in (registry.url, registry.url.replace("127.0.0.1", "localhost")):
            with self.assertRaises(OriginUnreachable):
                await self.upstream(url, ca=ca).ask(self.blob())
            answer = await self.upstream(url, insecure_skip_verify=True).ask(self.blob())
            self.assertEqual(answer.status, 200)
            answer.abort()
        # Twisted logs what service-identity raises.
        self.flushLoggedErrors()
