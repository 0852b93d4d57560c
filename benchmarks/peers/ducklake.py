"""DuckLake: Parquet files, and a DuckDB file as their catalog. Its extension comes as a package, for another DuckDB."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from benchmarks.peers.duckdb_native import MERGE, answer
from benchmarks.peers.peer import Question

__all__ = ["DuckLake"]

_TABLE: Final = "lake.prices"


class DuckLake:
    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(f"LOAD '{_extension()}'")
        # A copied folder lies elsewhere than the catalog says.
        where = f"DATA_PATH '{folder}/data/', OVERRIDE_DATA_PATH true"
        self._connection.execute(f"ATTACH 'ducklake:{folder}/prices.ducklake' AS lake ({where})")

    def given(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    def fill(self, rows: pl.DataFrame) -> None:
        self._connection.register("given", rows)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} AS SELECT * FROM given WHERE false")
        self._connection.execute(f"INSERT INTO {_TABLE} SELECT * FROM given")

    def upsert(self, rows: pl.DataFrame, *, whole: bool) -> None:
        self._connection.register("given", rows)
        self._connection.execute(MERGE.format(table=_TABLE))

    def read(self, question: Question) -> pl.DataFrame:
        return answer(self._connection, _TABLE, question)

    def close(self) -> None:
        self._connection.close()


def _extension() -> Path:
    package = find_spec("duckdb_extension_ducklake")
    assert package is not None
    assert package.submodule_search_locations is not None
    folders = [Path(place) for place in package.submodule_search_locations]
    return next(path for folder in folders for path in folder.rglob("*.duckdb_extension"))
