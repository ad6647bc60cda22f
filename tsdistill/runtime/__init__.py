"""How somebody else's model is run: one call at a time in a process, and nothing of the caller's changes."""
