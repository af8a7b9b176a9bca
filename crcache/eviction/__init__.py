"""Keeps the cache within its bounds: what there is, what goes next, and room for what comes."""
