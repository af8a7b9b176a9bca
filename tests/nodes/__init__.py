"""Tests of L{crcache.nodes} and of C{crcache hosts}."""
