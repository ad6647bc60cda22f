"""The command line: each command parses, calls the Python API, and shows what came back."""
