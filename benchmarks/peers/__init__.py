"""Engines that people would otherwise pick, beside us and the floor: DuckDB, Delta, ArcticDB and DuckLake.

Each runs in a process of its own with an environment of its own. `serve` and the modules of the peers run there, and
import nothing of ours; `process` is our end.
"""
