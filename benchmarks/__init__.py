"""Benchmarks: programs that print a figure and write it to a results file."""
