"""Guards that were found not to hold: each case by its own name."""
