"""The parts of ``benchmarks/coverage.py``: which architectures, what each must pass, what is kept."""
