"""Grants: whom origins have let in lately, known to all processes of a host."""
