"""A bucket behind the cache directory: asked before origins, and filled from what they gave."""
