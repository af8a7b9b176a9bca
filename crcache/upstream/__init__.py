"""How origins are spoken to."""
