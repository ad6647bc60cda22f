"""The studies of the experiment population-gradient."""
