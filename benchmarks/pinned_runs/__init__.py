"""The parts of ``benchmarks/pinned.py``: inputs, runs, digests of what they write, and the comparison."""
