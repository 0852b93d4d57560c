"""What a peer is, and how its content is compared with ours. Needs Polars only."""

from datetime import date
from typing import Final, Literal, NamedTuple, Protocol, TypeVar, cast

import polars as pl

__all__ = ["COLUMNS", "EVERYTHING", "Given", "Peer", "Question", "digest", "panel", "sql"]

#: What is compared. `ret` is not: we compute our own, and the others keep what they are given.
COLUMNS: Final = ("date", "symbol", "open", "high", "low", "close", "volume", "adj_close")
#: What a peer takes rows as.
Given = TypeVar("Given")


class Question(NamedTuple):
    """Rows with all columns, the mean close of each symbol, or the closes as a wide panel."""

    ask: Literal["rows", "mean", "panel"]
    symbol: str | None = None
    start: date | None = None
    end: date | None = None


EVERYTHING: Final = Question("rows")


class Peer(Protocol[Given]):
    """A system with one table of prices in a folder. What it promises of durability is what it comes with."""

    def given(self, rows: pl.DataFrame) -> Given:
        """Rows as its users have them. This counts for nobody."""
        ...

    def fill(self, rows: Given) -> None:
        """Add rows of which none is stored."""
        ...

    def upsert(self, rows: Given, *, whole: bool) -> None:
        """Add rows, or replace those with their date and symbol. `whole`: they are all there is of their dates."""
        ...

    def read(self, question: Question) -> pl.DataFrame: ...

    def close(self) -> None: ...


def panel(closes: pl.DataFrame) -> pl.DataFrame:
    """Closes by date and symbol as one column for each symbol; everybody's go through this.

    Each close is put into its place of one long column, which is then cut. `pivot` takes time by the number of rows
    times that of symbols: minutes for 5,000 of them.
    """
    date_rows, dates = _numbered(closes.get_column("date").to_physical())
    symbol_rows, symbols = _numbered(closes.get_column("symbol").cast(pl.Categorical).to_physical())
    height = len(date_rows)
    column = pl.repeat(None, len(symbol_rows) * height, dtype=pl.Float64, eager=True)
    column = column.scatter(symbols * height + dates, closes.get_column("close"))
    names: list[str] = closes.get_column("symbol").gather(symbol_rows).to_list()
    cut = [column.slice(at * height, height).alias(name) for at, name in enumerate(names)]
    return pl.DataFrame([closes.get_column("date").gather(date_rows), *cut])


def _numbered(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A row of each value, by value, and for each row the number of its value. They are integers from a short range."""
    low = cast("int", values.min())
    places = (values - low).cast(pl.UInt32)
    rows = pl.int_range(len(values), dtype=pl.UInt32, eager=True)
    holders = pl.repeat(None, cast("int", places.max()) + 1, dtype=pl.UInt32, eager=True).scatter(places, rows)
    numbers = holders.is_not_null().cum_sum() - 1
    return holders.drop_nulls(), numbers.cast(pl.UInt32).gather(places)


def sql(question: Question, table: str) -> str:
    """A question in SQL; what comes for a panel is still to be made one."""
    if question.ask == "mean":
        return f"SELECT symbol, avg(close) AS close FROM {table} GROUP BY symbol"
    if question.ask == "panel":
        return f"SELECT date, symbol, close FROM {table}"
    wanted = [f"symbol = '{question.symbol}'"] if question.symbol else []
    wanted += [f"date BETWEEN DATE '{question.start}' AND DATE '{question.end}'"] if question.start else []
    return f"SELECT * FROM {table}{' WHERE ' if wanted else ''}{' AND '.join(wanted)}"


def digest(answer: pl.DataFrame) -> tuple[int, str]:
    """The number of rows, and what is the same for the same rows in any order: a hash of each, summed.

    Rows that are prices are compared bit by bit. A mean or a panel is summed: engines add up in their own order.
    """
    if set(COLUMNS) <= set(answer.columns):
        rows = answer.select(COLUMNS).cast(dict.fromkeys(COLUMNS[2:], pl.Float64))
        total = rows.rechunk().hash_rows(seed=1).sum()
        return rows.height, f"{total:x}"
    numbers = answer.select(pl.col(pl.Float64))
    total = float(numbers.sum().sum_horizontal().sum())
    return answer.height, f"{numbers.width} columns, {total:.6e}"
