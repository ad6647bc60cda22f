"""Where an architecture comes from: catalogs of other libraries, and the user's own code."""
