"""Measurements of Serval; `python -m benchmarks` lists them."""
