"""What pruning and analysis cost, in forward passes: the measurement of one cell and the table of all."""
