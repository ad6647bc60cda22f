"""Which groups and which nodes of a student and a teacher belong together."""
