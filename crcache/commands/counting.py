"""What commands put into a cache directory, and take out of it, counts at once for the daemons that bound it."""

from __future__ import annotations

import os
from collections.abc import Callable

from crcache.eviction.tally import Tally
from crcache.grammar.digest import Digest
from crcache.store.layout import Layout


def counting(layout: Layout) -> Callable[[Digest, int, int], None]:
    """What has to be told of each digest: how many bytes of content there were, and are now. It never fails.

    Where no daemon has counted anything yet nothing is noted: the first one counts all.
    """
    tally = Tally(layout)

    def changed(digest: Digest, before: int, after: int) -> None:
        if os.path.lexists(layout.eviction):
            tally.changed(digest, before, after)

    return changed
