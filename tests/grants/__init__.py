"""L{crcache.grants}."""
