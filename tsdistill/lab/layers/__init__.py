"""Deep networks node by node (arXiv 1909.13458)."""
