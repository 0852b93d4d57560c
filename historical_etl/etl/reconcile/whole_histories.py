"""Whole histories, fetched where the level of a symbol moved: what they lack, and what they contradict."""

from collections.abc import Callable
from datetime import date
from typing import Final

import polars as pl

from historical_etl.quality.overlap import compare_overlap
from historical_etl.quality.price_levels import LEVEL_TOLERANCE, LEVELS
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER

__all__ = ["beyond_plan", "contradicted", "lacking_columns", "lacks_sessions", "lacks_values"]

#: A volume may be corrected on a session: its factor is what so many of them have in common.
_FIRST: Final = 5
#: Small volumes are rounded.
_ROUNDED: Final = 0.01


def beyond_plan(
    histories: pl.DataFrame, stored_of: Callable[[str], pl.DataFrame], first: date
) -> tuple[pl.DataFrame, list[str]]:
    """Stored bars that the plan of the account no longer gives, on the basis of the fetched histories; and in words.

    Args:
        histories: as fetched.
        stored_of: all stored rows of a symbol.
        first: the oldest day that the plan gives.
    """
    found, notes = [histories.clear()], list[str]()
    for history in histories.sort(ORDER).partition_by("symbol"):
        symbol: str = history.item(0, "symbol")
        older = _on_basis_of(history, stored_of(symbol), first)
        if older.height:
            found.append(older)
            days = older.get_column("date")
            notes.append(
                f"{symbol}: {older.height} stored session(s), {days.min()} to {days.max()}, lie before what the plan of"
                " the account gives now; adj_close and volume are restated by the factor of the first one fetched"
            )
    return pl.concat(found), notes


def _on_basis_of(history: pl.DataFrame, stored: pl.DataFrame, first: date) -> pl.DataFrame:
    """The stored bars of a symbol before a day, on the basis of its history.

    What is adjusted for an event is so by one factor on all bars before it: that of the earliest fetched session
    holds for those before it too. None where the fetched closes are others.
    """
    older = stored.filter(pl.col("date") < first).join(history, on=ORDER, how="anti")
    both = history.join(stored, on=ORDER, suffix="_0").sort("date").head(_FIRST)
    ratios = both.select((pl.col(name) / pl.col(f"{name}_0")).alias(name) for name in ("close", "adj_close", "volume"))
    if older.is_empty() or both.is_empty() or ratios.select((pl.col("close") - 1).abs().max() > LEVEL_TOLERANCE).item():
        return older.clear()
    factor = ratios.get_column("adj_close")[0]
    return older.with_columns(
        pl.col("adj_close") * (1.0 if factor is None else factor),
        pl.col("volume") * _of_all(ratios.filter(both.get_column("volume_0") > 0).get_column("volume")),
    ).select(history.columns)


def _of_all(ratios: pl.Series) -> float:
    """The one factor of all sessions; 1 where they have none in common: those are corrections."""
    known = ratios.drop_nulls().sort()
    is_one = known.len() > 0 and known[-1] <= known[0] * (1 + _ROUNDED)
    return known[known.len() // 2] if is_one else 1.0


def contradicted(first: pl.DataFrame, history: pl.DataFrame) -> dict[str, Suspicion]:
    """Symbols of which two answers of one run disagree: one of them is from a cache, and nobody knows which."""
    found = compare_overlap(first.select(LEVELS), history.select(LEVELS))
    words = "its history contradicts the sessions that were fetched first in the same run"
    return {symbol: Suspicion("other_history", words) for symbol in {*found.moved, *found.suspects}}


def lacking_columns(histories: pl.DataFrame) -> list[str]:
    """The columns other than `adj_close` that some bars lack."""
    return [name for name in ("open", "high", "low", "volume") if histories.get_column(name).null_count()]


def lacks_values(histories: pl.DataFrame, stored: pl.DataFrame) -> dict[str, Suspicion]:
    """Of restated histories: stored values that they lack, on bars with another close; by symbol.

    Args:
        histories: of some symbols.
        stored: what is stored of them, with the `lacking_columns` of the histories.
    """
    names = lacking_columns(histories)
    if not names:
        return {}
    lost = (
        histories.lazy()
        .join(stored.lazy(), on=ORDER, suffix="_0")
        .filter((pl.col("close") / pl.col("close_0") - 1).abs() > LEVEL_TOLERANCE)
        .group_by("symbol")
        .agg((pl.col(name).is_null() & pl.col(f"{name}_0").is_not_null()).sum() for name in names)
    )
    found: dict[str, Suspicion] = {}
    for symbol, *counts in lost.collect().iter_rows():
        words = ", ".join(f"{name} on {count} session(s)" for name, count in zip(names, counts, strict=True) if count)
        if words:
            found[symbol] = Suspicion("incomplete_history", f"but stored values did not come: {words}")
    return found


def lacks_sessions(lost: pl.DataFrame) -> Suspicion:
    """Of a history that is to replace the stored one whatever it was: stored sessions that it lacks, one or more."""
    days = lost.get_column("date").sort()
    words = f"{len(days)} stored session(s) did not come, {days[0]} to {days[-1]}"
    return Suspicion("incomplete_history", words)
