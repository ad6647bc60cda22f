"""Two-layer networks under Gaussian input, in closed form (arXiv 1703.00560)."""
