"""The experiments: one module for each, named as on the command line."""
