"""The parts of ``benchmarks/pruning.py``: what is pruned, by whom, how it is measured, kept and shown."""
