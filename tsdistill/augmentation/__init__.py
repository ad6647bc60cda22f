"""Strategies that make or move samples; by name through ``plugins.get("augmentation", name)``."""
