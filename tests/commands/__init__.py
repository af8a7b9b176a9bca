"""Tests of L{crcache.commands}, on cache directories that the real store has made."""
