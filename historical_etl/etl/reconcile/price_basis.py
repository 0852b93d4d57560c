"""The price basis that a symbol is stored on, against the one that its source states now."""

from collections.abc import Collection, Mapping
from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.models import UNSTATED
from historical_etl.quality.suspicion import Suspicion
from historical_etl.sources.base import SourceInfo

__all__ = ["NO_BASIS", "on_another_basis", "refused_bases"]

#: A basis that fits any.
NO_BASIS: Final = frozenset({"", UNSTATED})


def on_another_basis(symbols: pl.DataFrame, now: str) -> pl.DataFrame:
    """Of the ledger `symbols` those that are stored on a basis that is not `now`."""
    return symbols.clear() if now in NO_BASIS else symbols.filter(~pl.col("adjustment").is_in([now, *NO_BASIS]))


def refused_bases(
    strange: pl.DataFrame, fetched: Collection[str], lives: Mapping[str, tuple[date, date]], info: SourceInfo
) -> dict[str, Suspicion]:
    """Those of the fetched rows that are stored on another basis than the source states.

    Raises:
        DataQualityError: all of them are.
    """
    other = strange.filter(pl.col("symbol").is_in(list(fetched))).select("symbol", "adjustment", "provider")
    found = {
        symbol: f"it is stored from {provider!r} with {stored_on!r}; {info.name!r} gives {info.adjustment!r}"
        for symbol, stored_on, provider in other.iter_rows()
    }
    if found and len(found) == len(fetched):
        first = next(iter(found))
        raise DataQualityError(
            f"Every symbol was fetched on another price basis than the one it is stored on: {first}: {found[first]}. "
            "Nothing was stored",
            where=info.name,
            todo="use the source that the store was filled from, another data folder, or rebuild the symbols: "
            # A rebuild that begins later than the stored histories would lose bars.
            f"`historical-etl backfill --rebuild --from {min(lives[symbol][0].year for symbol in found)}`",
        )
    return {symbol: Suspicion("other_basis", why) for symbol, why in found.items()}
