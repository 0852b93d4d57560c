"""DuckDB with its own tables: a file, `MERGE INTO`, and the write-ahead log it comes with."""

from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from benchmarks.peers.peer import Question, panel, sql

__all__ = ["MERGE", "DuckDB", "answer"]

MERGE: Final = """MERGE INTO {table} AS stored USING given ON stored.date = given.date AND stored.symbol = given.symbol
WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"""


class DuckDB:
    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(str(folder / "prices.duckdb"))

    def given(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    def fill(self, rows: pl.DataFrame) -> None:
        self._connection.register("given", rows)
        self._connection.execute("CREATE TABLE IF NOT EXISTS prices AS SELECT * FROM given WHERE false")
        self._connection.execute("INSERT INTO prices SELECT * FROM given")

    def upsert(self, rows: pl.DataFrame, *, whole: bool) -> None:
        self._connection.register("given", rows)
        self._connection.execute(MERGE.format(table="prices"))

    def read(self, question: Question) -> pl.DataFrame:
        return answer(self._connection, "prices", question)

    def close(self) -> None:
        self._connection.close()


def answer(connection: duckdb.DuckDBPyConnection, table: str, question: Question) -> pl.DataFrame:
    """What a table says to a question."""
    found = pl.DataFrame(connection.sql(sql(question, table)))
    return panel(found) if question.ask == "panel" else found
