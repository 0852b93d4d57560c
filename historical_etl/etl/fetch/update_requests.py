"""What an update asks for: from which day on each symbol, in one request for those that need the same."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.completeness import CONFIRMED, ENDED, GAP_OPEN, Completeness
from historical_etl.etl.fetch.fetch import in_batches
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import FetchRequest

__all__ = ["LAST_ATTEMPT", "increment_requests", "symbols_without_history"]

#: A confirmed gap is still asked for, at growing pauses, since some sources fill theirs late; but not for ever.
LAST_ATTEMPT: Final = 8
#: As long as no more sessions than this were fetched without `adj_close`, the overlap reaches the last that had one.
_SILENCE: Final = 20


def increment_requests(
    symbols: Sequence[str],
    completeness: Completeness,
    *,
    first: date,
    covered: date | None,
    end: date,
    overlap_sessions: int,
    batch: int,
    calendar: SessionCalendar,
    insist: bool,
    kept_from: Mapping[str, date],
    since: Mapping[str, date] | None = None,
) -> list[FetchRequest]:
    """One request for each group of symbols that need the same range, at most `batch` symbols each.

    A symbol is asked for from `overlap_sessions` stored sessions back, so that fetched sessions overlap stored ones,
    with an `adj_close` if the series has it; from before its earliest gap that is due; and not at all if it has
    ended and its pause is not over. Symbols without history, which need a lead-in, are asked for apart from the others.

    Args:
        symbols: what to bring up to `end`.
        completeness: what is stored of them.
        first: where the history of a symbol that is not stored begins.
        covered: the first date that the source has, if it says so.
        end: the last session to ask for.
        overlap_sessions: how many stored sessions to ask for again.
        batch: the most symbols for one request.
        calendar: the exchange's sessions.
        insist: ask for every open gap and ended symbol, whatever their pauses.
        kept_from: symbol → the first session of held bars that lie before all that is stored.
        since: when the histories begin of symbols that were another security's before.
    """
    due = pl.lit(value=insist) | pl.col("due").is_null() | (pl.col("due") <= end)
    hopeful = (pl.col("status") == GAP_OPEN) | ((pl.col("status") == CONFIRMED) & (pl.col("attempts") < LAST_ATTEMPT))
    gaps = completeness.gaps.filter(hopeful, due).group_by("symbol").agg(gap=pl.col("first_session").min())
    known = completeness.symbols.select(
        "symbol", _last_overlap_session(calendar), begins="first_session", asked=(pl.col("status") != ENDED) | due
    )
    of_symbols = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    for facts in (known, gaps, _days("kept", kept_from), _days("since", since or {})):
        of_symbols = of_symbols.join(facts, on="symbol", how="left")
    of_symbols = of_symbols.filter(pl.col("asked").fill_null(value=True) | pl.col("gap").is_not_null()).with_columns(
        _back(calendar, of_symbols, "last", overlap_sessions - 1).fill_null(first),
        _back(calendar, of_symbols, "gap", overlap_sessions),
    )
    overlap = pl.min_horizontal("last", "gap", "kept")
    earliest = pl.max_horizontal(pl.min_horizontal(pl.lit(first), "begins", "kept"), "since", pl.lit(covered, pl.Date))
    of_symbols = of_symbols.select(
        "symbol", "begins", start=pl.min_horizontal(pl.max_horizontal(overlap, earliest), pl.lit(end))
    ).with_columns(without_history=(pl.col("begins") >= pl.col("start")).fill_null(value=True))
    groups = of_symbols.sort("start", "without_history", "symbol")
    return [
        FetchRequest(part, start, end)
        for (start, _), group in groups.group_by("start", "without_history", maintain_order=True)
        for part in in_batches(group.get_column("symbol").to_list(), batch)
    ]


def _days(name: str, days: Mapping[str, date]) -> pl.DataFrame:
    return pl.DataFrame({"symbol": list(days), name: list(days.values())}, schema={"symbol": pl.String, name: pl.Date})


def _back(calendar: SessionCalendar, of_symbols: pl.DataFrame, column: str, sessions: int) -> pl.Expr:
    """So many sessions before the days of a column, which has few different ones."""
    days: list[date] = of_symbols.get_column(column).unique().drop_nulls().to_list()
    before = [calendar.back(day, sessions) for day in days]
    return pl.col(column).replace_strict(days, before, default=None, return_dtype=pl.Date)


def _last_overlap_session(calendar: SessionCalendar) -> pl.Expr:
    """The last session to meet again: while no `adj_close` comes, the last that had one.

    After a silence that is longer than the overlap, nothing in it tells what `adj_close` was adjusted for meanwhile.
    """
    silent = calendar.positions(pl.col("last_session")) - calendar.positions(pl.col("adjusted_through"))
    return pl.when(silent.is_between(1, _SILENCE)).then("adjusted_through").otherwise("last_session").alias("last")


def symbols_without_history(requests: Sequence[FetchRequest], completeness: Completeness) -> set[str]:
    """Symbols of which nothing is stored before their request begins."""
    begins = _first_sessions(completeness)
    return {
        symbol
        for request in requests
        for symbol in request.symbols
        if begins.get(symbol, request.start) >= request.start
    }


def _first_sessions(completeness: Completeness) -> dict[str, date]:
    return {symbol: day for symbol, day in completeness.symbols[["symbol", "first_session"]].iter_rows() if day}
