"""The administrator's tool, a module for each command; L{crcache.cli} lists them."""
