"""Benchmarks of our own, from commit to commit: see asv.conf.json and the development guide."""
