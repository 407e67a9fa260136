"""Benchmarks: what is measured, how a run is kept, and what a comparison of two says."""
