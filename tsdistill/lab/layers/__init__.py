"""Quantities of deep networks node by node (arXiv 1909.13458)."""
