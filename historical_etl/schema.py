"""The one schema of a daily bar. Column rules live here; row rules live in `quality`."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

import polars as pl

from historical_etl.models import DATASET_ID, SCHEMA_VERSION

__all__ = [
    "DATASET_ID",
    "FIELD_IDS",
    "IS_FIRST",
    "IS_LAST",
    "ORDER",
    "PRIMARY_KEYS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "VALUE_COLUMNS",
    "earliest",
    "empty_frame",
    "is_ordered",
    "latest",
    "ordered",
    "other_symbols",
    "spans_in",
    "symbols_in",
    "together",
    "years_in",
]

#: Column order and dtypes of every frame and file. `date` is the exchange's local session, prices are in
#: the quote currency, `volume` in shares (a float: fractional shares are reported since 2026; null where a source has
#: none, 0 without trades), `ret` is the total return since the symbol's previous stored session (0.01 = 1 %).
SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date(),
        "symbol": pl.String(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "ret": pl.Float64(),
        "adj_close": pl.Float64(),
    }
)
#: The number of each column in Parquet files. It never changes; a new column takes the next one.
FIELD_IDS: Final = {
    "date": 1,
    "symbol": 2,
    "open": 3,
    "high": 4,
    "low": 5,
    "close": 6,
    "volume": 7,
    "ret": 8,
    "adj_close": 9,
}
PRIMARY_KEYS: Final = ("date", "symbol")
#: The order of rows inside a month, and of every frame on its way into the store.
ORDER: Final = ("symbol", "date")
#: Whether a row is the first of its symbol, or the last, where those of a symbol stand together.
IS_FIRST: Final = pl.col("symbol").ne_missing(pl.col("symbol").shift())
IS_LAST: Final = pl.col("symbol").ne_missing(pl.col("symbol").shift(-1))
_LATER, _NO_EARLIER = pl.col("date") > pl.col("date").shift(), pl.col("date") >= pl.col("date").shift()
#: Comparing the order of strings is slow: it is done once for each symbol.
_SYMBOLS_ASCEND: Final = (pl.col("symbol").filter(IS_FIRST) > pl.col("symbol").filter(IS_FIRST).shift()).all()
VALUE_COLUMNS: Final = tuple(name for name in SCHEMA if name not in PRIMARY_KEYS)


def empty_frame() -> pl.DataFrame:
    """Zero rows with the full schema: what "no data" looks like everywhere."""
    return pl.DataFrame(schema=SCHEMA)


def symbols_in(frame: pl.DataFrame) -> pl.Series:
    """The distinct symbols of a frame, in any order; fast where the rows of a symbol stand together."""
    return frame.select(pl.col("symbol").filter(IS_FIRST).unique()).to_series()


def other_symbols(rows: pl.DataFrame, symbols: Collection[str]) -> pl.DataFrame:
    """The rows of all symbols but some."""
    return rows.filter(~pl.col("symbol").is_in(list(symbols))) if symbols and rows.height else rows


def spans_in(rows: pl.DataFrame) -> pl.DataFrame:
    """The symbols of rows sorted by (symbol, date): `symbol`, its `first` and `last` session, and how many `rows`."""
    end, day = pl.lit(rows.select(IS_LAST.arg_true()).to_series()).cast(pl.Int64), pl.col("date")
    start = (end + 1).shift(1, fill_value=0)
    return rows.select(
        pl.col("symbol").gather(end),
        day.gather(start).alias("first"),
        day.gather(end).alias("last"),
        (end - start + 1).alias("rows"),
    )


def earliest(days: pl.Series) -> date | None:
    """The first of some dates; None where there are none."""
    first = days.min()
    return first if isinstance(first, date) else None


def latest(days: pl.Series) -> date | None:
    """The last of some dates; None where there are none."""
    last = days.max()
    return last if isinstance(last, date) else None


def years_in(frame: pl.DataFrame) -> list[int]:
    """The years of the rows of a frame, ascending."""
    day = frame.get_column("date")
    first, last = earliest(day), latest(day)
    if first is None or last is None:
        return []
    return [first.year] if first.year == last.year else day.dt.year().unique().sort().to_list()


def is_ordered(frame: pl.DataFrame, *, unique: bool = False) -> bool:
    """Whether rows ascend by (symbol, date), with `unique` strictly; else equal keys may follow one another.

    Keys must not be null.
    """
    return frame.select((IS_FIRST | (_LATER if unique else _NO_EARLIER)).all() & _SYMBOLS_ASCEND).item()


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of some frames in ascending order of (symbol, date); each frame must be in it, and keys not be null.

    A stable sort takes advantage of that order: a year of 5,000 symbols is sorted five times as fast as otherwise.
    """
    filled = [part for part in parts if part.height] or parts[:1]
    return filled[0] if len(filled) == 1 else pl.concat(filled).sort(ORDER, maintain_order=True)


def ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in ascending order of (symbol, date). Keys must not be null."""
    if is_ordered(frame):
        return frame
    # One integer for both keys: for a year of 5,000 symbols 2.5 times as fast as sorting strings.
    rank = pl.col("symbol").cast(pl.Enum(frame.get_column("symbol").unique().sort())).to_physical().cast(pl.Int64)
    return frame.sort(rank * 2**32 + pl.col("date").cast(pl.Int32), maintain_order=True)
