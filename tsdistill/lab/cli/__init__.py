"""The command ``tsdistill lab``: a subcommand for each experiment, and ``check``."""
