"""What ``benchmarks/distilling.py`` measures."""
