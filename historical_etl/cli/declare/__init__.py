"""The commands and their options, as Typer reads them. What each one does is in a module of its own above.

`--help` and `status` must start fast: nothing here imports Polars, DuckDB or a calendar, and each command imports its
module when it runs.
"""
