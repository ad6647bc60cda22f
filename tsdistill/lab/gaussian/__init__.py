"""Two-layer ReLU networks on Gaussian input in closed form (arXiv 1703.00560)."""
