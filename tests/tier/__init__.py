"""A bucket behind the cache directory."""
