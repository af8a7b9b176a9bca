"""The machine we live on."""
