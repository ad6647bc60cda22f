"""Which architecture bare weights belong to."""
