"""What the grammar takes and refuses.

Property-based tests run the same examples everywhere, and keep no database of them.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("crcache", derandomize=True, deadline=None, max_examples=100, database=None)
settings.load_profile("crcache")
