"""What is measured of the nodes of one model, or of two, in one pass over the data."""
