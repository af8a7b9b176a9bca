"""Signed URLs: botocore finds the keys, renews them, and signs. All of it blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from crcache.tier.problems import Failed

#: Seconds for which a signed URL is good. An upload's body may be on its way for so long.
GOOD_FOR = 3600


class Signer:
    """Signs questions with whatever keys botocore's chain finds: environment, files, the machine's own role."""

    def __init__(self, region: str, find: Callable[[], Any] | None = None) -> None:
        """
        @param find: in place of that chain; C{None} if there are no keys.
        """
        self._region = region
        self._find = _find if find is None else find
        self._lock = Lock()
        self._credentials: Any = None

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        """The same URL with a signature, which is a secret as long as it is good.

        @param headers: that have to be sent with it.
        @raise Failed: if there are no keys.
        """
        try:
            # That it was installed when the configuration was read does not mean that it can be used now.
            from botocore.auth import S3SigV4QueryAuth
            from botocore.awsrequest import AWSRequest

            request: Any = AWSRequest(method=method, url=url, headers=dict(headers))
            S3SigV4QueryAuth(self._frozen(), "s3", self._region, expires=GOOD_FOR).add_auth(request)
        except Failed:
            raise
        except ImportError as error:
            told = f"botocore cannot be used ({error.name or type(error).__name__} is missing); install it anew"
            raise Failed(told, refused=True) from None
        except Exception as error:
            # What its errors say may be what somebody's metadata service has said.
            told = f"the keys for cache.s3 cannot be had ({type(error).__name__}); check them"
            raise Failed(told, refused=True) from None
        signed: str = request.url
        return signed

    def forget(self) -> None:
        """Look for the keys anew."""
        with self._lock:
            self._credentials = None

    def _frozen(self) -> Any:
        with self._lock:
            # None is not kept: keys may be there later.
            if self._credentials is None:
                self._credentials = self._find()
            found = self._credentials
        if found is None:
            told = "there are no keys for cache.s3 in the environment, in a file, or of the machine; see docs/s3.md"
            raise Failed(told, refused=True)
        return found.get_frozen_credentials()


def _find() -> Any:
    # Not without a bucket: it takes megabytes.
    from botocore.session import Session

    return Session().get_credentials()
