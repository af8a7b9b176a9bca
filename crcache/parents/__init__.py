"""Other caches that are asked before origins."""
