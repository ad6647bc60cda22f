"""The parts of ``benchmarks/coverage.py``: which architectures, what each must pass, how it is kept and shown."""
