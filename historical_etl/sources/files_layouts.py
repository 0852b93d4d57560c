"""Layouts of exports that many people have: how their columns are called, and what must be undone to read them.

Sources: Stooq's ASCII database (stooq.com/db/h), Sharadar's SEP table (Nasdaq Data Link), CRSP's daily stock file
(WRDS, table dsf joined with dsenames for the ticker).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.models import UNSTATED
from historical_etl.settings import PREFIX, FilesSettings

__all__ = ["LAYOUTS", "FilesLayout", "laid_out", "layout_of"]


def _same(expression: pl.Expr) -> pl.Expr:
    return expression


def _as_they_are(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@dataclass(frozen=True)
class FilesLayout:
    """One layout.

    Attributes:
        columns: ours → theirs; what the setting `columns` says goes before it.
        date_format: of dates in CSV files; None leaves the setting as it is.
        adjustment: the price basis, in words.
        split_adjusted: whether open, high, low, close and volume are adjusted for splits.
        symbol: from a symbol as it is written there to ours.
        bars: from bars as they are written there to ours.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    date_format: str | None = None
    adjustment: str = UNSTATED
    split_adjusted: bool = False
    symbol: Callable[[pl.Expr], pl.Expr] = _same
    bars: Callable[[pl.LazyFrame], pl.LazyFrame] = _as_they_are


def _crsp_bars(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A negative price marks the midpoint of bid and ask, 0 a missing one; `adj_close` came as CFACPR."""
    price = pl.col("close").abs()
    close = pl.when(price > 0).then(price)
    sound = [pl.when(pl.col(name).abs() > 0).then(pl.col(name).abs()).alias(name) for name in ("open", "high", "low")]
    factor = pl.when(pl.col("adj_close") > 0).then(pl.col("adj_close"))
    return rows.with_columns(*sound, close.alias("close"), (close / factor).alias("adj_close"))


LAYOUTS: Final[Mapping[str, FilesLayout]] = {
    "generic": FilesLayout(),
    "stooq": FilesLayout(
        columns={
            "symbol": "<TICKER>",
            "date": "<DATE>",
            "open": "<OPEN>",
            "high": "<HIGH>",
            "low": "<LOW>",
            "close": "<CLOSE>",
            "volume": "<VOL>",
        },
        date_format="%Y%m%d",
        adjustment="open, high, low, close and volume for splits and dividends, as Stooq adjusts them",
        split_adjusted=True,
        symbol=lambda text: text.str.replace(r"\.[A-Z]{2}$", ""),
    ),
    "sharadar": FilesLayout(
        columns={"symbol": "ticker", "adj_close": "closeadj"},
        adjustment="open, high, low, close and volume for splits; adj_close for splits and dividends (Sharadar SEP)",
        split_adjusted=True,
    ),
    "crsp": FilesLayout(
        columns={
            "symbol": "TICKER",
            "open": "OPENPRC",
            "high": "ASKHI",
            "low": "BIDLO",
            "close": "PRC",
            "volume": "VOL",
            "adj_close": "CFACPR",
        },
        adjustment="raw open, high, low, close and volume; adj_close for splits (PRC / CFACPR); dividends in neither",
        bars=_crsp_bars,
    ),
}


def layout_of(settings: FilesSettings) -> FilesLayout:
    """The layout that the settings name.

    Raises:
        ConfigurationError: there is no such layout.
    """
    layout = LAYOUTS.get(settings.layout.strip().lower())
    if layout is None:
        raise ConfigurationError(
            f"Unknown layout {settings.layout!r}",
            where=f"{PREFIX}FILES_LAYOUT",
            todo=f"use one of {', '.join(LAYOUTS)}",
        )
    return layout


def laid_out(settings: FilesSettings) -> FilesSettings:
    """The settings with what their layout implies, where they do not say it themselves."""
    layout = layout_of(settings)
    said = settings.model_fields_set
    implied: dict[str, object] = {"columns": {**layout.columns, **settings.columns}}
    if layout.date_format is not None and "date_format" not in said:
        implied["date_format"] = layout.date_format
    if "adjustment" not in said:
        implied["adjustment"] = layout.adjustment
    return settings.model_copy(update=implied)
