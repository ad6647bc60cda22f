"""How somebody else's model is run: one call at a time, nothing of the caller changed; how far it is."""
