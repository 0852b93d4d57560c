"""Benchmarks: this package against plain Polars and DuckDB, in one run on one machine. `python -m benchmarks`."""
