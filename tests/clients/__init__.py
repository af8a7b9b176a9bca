"""Whole pulls, as each client does them: over real sockets, through a whole crcache, from a fake registry."""
