"""Delta Lake by delta-rs: Parquet files by year, a log of JSON, and its merge; read through Polars."""

from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import polars as pl

from benchmarks.peers.peer import Question, panel

__all__ = ["Delta"]

_SAME: Final = "stored.year = given.year AND stored.date = given.date AND stored.symbol = given.symbol"


class _Merge(Protocol):
    def when_matched_update_all(self) -> "_Merge": ...
    def when_not_matched_insert_all(self) -> "_Merge": ...
    def execute(self) -> object: ...


class _Table(Protocol):
    def merge(self, source: pl.DataFrame, predicate: str, *, source_alias: str, target_alias: str) -> _Merge: ...


class _Library(Protocol):
    """What is used of `deltalake`, which is not installed where types are checked."""

    def DeltaTable(self, table_uri: str) -> _Table: ...  # noqa: N802 - its name there
    def write_deltalake(self, table_or_uri: str, data: pl.DataFrame, *, partition_by: list[str], mode: str) -> None: ...


class Delta:
    def __init__(self, folder: Path) -> None:
        self._library = cast("_Library", import_module("deltalake"))
        self._path = str(folder / "prices")

    def given(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(year=pl.col("date").dt.year())

    def fill(self, rows: pl.DataFrame) -> None:
        self._library.write_deltalake(self._path, rows, partition_by=["year"], mode="append")

    def upsert(self, rows: pl.DataFrame, *, whole: bool) -> None:
        table = self._library.DeltaTable(self._path)
        merge = table.merge(rows, _SAME, source_alias="given", target_alias="stored")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def read(self, question: Question) -> pl.DataFrame:
        rows = pl.scan_delta(self._path)  # pyright: ignore[reportUnknownMemberType] - a type of deltalake is in its signature
        if question.ask == "mean":
            return rows.group_by("symbol").agg(pl.col("close").mean()).collect()
        if question.ask == "panel":
            return panel(rows.select("date", "symbol", "close").collect())
        if question.symbol:
            rows = rows.filter(pl.col("symbol") == question.symbol)
        if question.start and question.end:
            years = pl.col("year").is_between(question.start.year, question.end.year)
            rows = rows.filter(years, pl.col("date").is_between(question.start, question.end))
        return rows.collect()

    def close(self) -> None:
        """It holds nothing open."""
