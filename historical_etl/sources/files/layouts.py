"""Layouts of exports that many people have: how their columns are called, and what must be undone to read them.

Sources: Stooq's ASCII database (stooq.com/db/h), Sharadar's SEP table (Nasdaq Data Link), CRSP's daily stock file
(WRDS, table dsf joined with dsenames for the ticker).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_value
from historical_etl.models import UNSTATED
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.column_spellings import plain

__all__ = ["LAYOUTS", "FilesLayout", "for_file", "laid_out", "layout_of", "split_basis"]

GENERIC: Final = "generic"


def _as_they_are(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@dataclass(frozen=True)
class FilesLayout:
    """One layout.

    Attributes:
        columns: ours → theirs; what the setting `columns` says goes before it.
        date_format: of dates in CSV files; None leaves the setting as it is.
        adjustment: the price basis, in words.
        split_adjusted: whether open, high, low, close and volume are adjusted for splits; None where it does not say.
        suffixed: whether its symbols end in a market, as in SAP.DE.
        bars: from bars as they are written there to ours.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    date_format: str | None = None
    adjustment: str = UNSTATED
    split_adjusted: bool | None = None
    suffixed: bool = False
    bars: Callable[[pl.LazyFrame], pl.LazyFrame] = _as_they_are


def _crsp_bars(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A negative price marks the midpoint of bid and ask, 0 a missing one; `adj_close` is read from CFACPR."""
    price = pl.col("close").abs()
    close = pl.when(price > 0).then(price)
    prices = [pl.when(pl.col(name).abs() > 0).then(pl.col(name).abs()).alias(name) for name in ("open", "high", "low")]
    factor = pl.when(pl.col("adj_close") > 0).then(pl.col("adj_close"))
    return rows.with_columns(*prices, close.alias("close"), (close / factor).alias("adj_close"))


LAYOUTS: Final[Mapping[str, FilesLayout]] = {
    GENERIC: FilesLayout(),
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
        suffixed=True,
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
        split_adjusted=False,
        bars=_crsp_bars,
    ),
}
#: Names that only one export has → its layout.
_SIGNATURES: Final[Mapping[str, frozenset[str]]] = {
    "stooq": frozenset({"<ticker>", "<per>", "<date>", "<close>"}),
    "sharadar": frozenset({"closeadj", "closeunadj"}),
    "crsp": frozenset({"prc", "cfacpr", "bidlo", "askhi"}),
}
#: Names that tell whether prices beside them are adjusted for splits: yfinance; Tiingo, Quandl WIKI, Alpha Vantage.
_ADJUSTED: Final = frozenset({"stocksplits"})
_RAW: Final = frozenset({"splitfactor", "splitratio", "splitcoefficient"})


def layout_of(settings: FilesSettings) -> FilesLayout:
    """The layout that the settings name.

    Raises:
        ConfigurationError: there is no such layout.
    """
    layout = LAYOUTS.get(settings.layout.strip().lower())
    if layout is None:
        raise ConfigurationError(
            f"Unknown layout {display_value(settings.layout, LAYOUTS)}",
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


def for_file(names: Sequence[str], settings: FilesSettings) -> tuple[FilesSettings, FilesLayout]:
    """The settings and the layout of one file: where none is named, its own names may tell which export it is."""
    layout = layout_of(settings)
    if settings.layout.strip().lower() != GENERIC:
        return settings, layout
    folded = {name.strip().casefold() for name in names}
    name = next((name for name, signature in _SIGNATURES.items() if signature <= folded), GENERIC)
    there = {ours: theirs for ours, theirs in LAYOUTS[name].columns.items() if theirs.casefold() in folded}
    return settings.model_copy(update={"columns": {**there, **settings.columns}}), LAYOUTS[name]


def split_basis(names: Sequence[str], layout: FilesLayout) -> bool | None:
    """Whether prices of a file are adjusted for splits; None where neither its layout nor its names tell."""
    known = {plain(name) for name in names}
    if layout.split_adjusted is not None:
        return layout.split_adjusted
    if known & _ADJUSTED:
        return True
    return False if known & _RAW else None
