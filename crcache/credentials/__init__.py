"""The administrator's credentials while the daemon runs: programs that know them, files that change."""
