"""Students of few samples: their settings, training sets and losses."""
