"""ArcticDB: one long frame by date in LMDB, given as pandas and read as Polars."""

from collections.abc import Sequence
from datetime import date, datetime, time
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import polars as pl

from benchmarks.peers.peer import Question, panel

__all__ = ["ArcticDB"]

_NAME: Final = "prices"


class Indexed(Protocol):
    """A frame of pandas."""

    def set_index(self, keys: str) -> "Indexed": ...


class _Query(Protocol):
    def __getitem__(self, item: object) -> "_Query": ...
    def groupby(self, name: str) -> "_Query": ...
    def agg(self, how: dict[str, str]) -> "_Query": ...


class _Read(Protocol):
    @property
    def data(self) -> pl.DataFrame: ...


class _Table(Protocol):
    def has_symbol(self, symbol: str) -> bool: ...
    def write(self, symbol: str, data: Indexed) -> object: ...
    def append(self, symbol: str, data: Indexed) -> object: ...
    def update(self, symbol: str, data: Indexed) -> object: ...
    def merge_experimental(self, symbol: str, source: Indexed, *, on: list[str]) -> object: ...
    def read(
        self,
        symbol: str,
        *,
        date_range: tuple[datetime, datetime] | None,
        columns: Sequence[str] | None,
        query_builder: _Query | None,
    ) -> _Read: ...


class _Store(Protocol):
    def get_library(self, name: str, *, create_if_missing: bool) -> _Table: ...


class _Formats(Protocol):
    POLARS: object


class _Library(Protocol):
    """What is used of `arcticdb`, which is not installed where types are checked."""

    OutputFormat: _Formats

    def Arctic(self, uri: str, *, output_format: object) -> _Store: ...  # noqa: N802 - its name there
    def QueryBuilder(self) -> _Query: ...  # noqa: N802 - its name there


class ArcticDB:
    def __init__(self, folder: Path) -> None:
        self._library = cast("_Library", import_module("arcticdb"))
        uri = f"lmdb://{folder}/arctic?map_size=64GB"
        store = self._library.Arctic(uri, output_format=self._library.OutputFormat.POLARS)
        self._table = store.get_library("bench", create_if_missing=True)

    def given(self, rows: pl.DataFrame) -> Indexed:
        ordered = rows.sort("date", "symbol").with_columns(pl.col("date").cast(pl.Datetime("ns")))
        return cast("Indexed", ordered.to_pandas()).set_index("date")

    def fill(self, rows: Indexed) -> None:
        if self._table.has_symbol(_NAME):
            self._table.append(_NAME, rows)
        else:
            self._table.write(_NAME, rows)

    def upsert(self, rows: Indexed, *, whole: bool) -> None:
        if whole:
            self._table.update(_NAME, rows)
        else:
            self._table.merge_experimental(_NAME, rows, on=["symbol"])

    def read(self, question: Question) -> pl.DataFrame:
        if question.ask == "mean":
            return self._read(query=self._library.QueryBuilder().groupby("symbol").agg({"close": "mean"}))
        if question.ask == "panel":
            return panel(_dated(self._read(columns=["symbol", "close"])))
        whole = self._library.QueryBuilder()
        query = whole[cast("object", whole["symbol"]) == question.symbol] if question.symbol else None
        span = (_midnight(question.start), _midnight(question.end)) if question.start and question.end else None
        return _dated(self._read(span=span, query=query))

    def close(self) -> None:
        """LMDB is closed with the process."""

    def _read(
        self,
        *,
        span: tuple[datetime, datetime] | None = None,
        columns: Sequence[str] | None = None,
        query: _Query | None = None,
    ) -> pl.DataFrame:
        return self._table.read(_NAME, date_range=span, columns=columns, query_builder=query).data


def _dated(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("date").cast(pl.Date))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())
