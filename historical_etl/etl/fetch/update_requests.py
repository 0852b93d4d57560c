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
    today = pl.lit(end)
    due = pl.lit(value=insist) | pl.col("due").is_null() | (pl.col("due") <= today)
    hopeful = (pl.col("status") == GAP_OPEN) | ((pl.col("status") == CONFIRMED) & (pl.col("attempts") < LAST_ATTEMPT))
    wanted = completeness.gaps.filter(hopeful, due).group_by("symbol").agg(pl.col("first_session").min())
    earliest_gap: dict[str, date] = dict(wanted.iter_rows())
    known = {
        symbol: (last, asked)
        for symbol, last, asked in completeness.symbols.select(
            "symbol", _last_overlap_session(calendar), (pl.col("status") != ENDED) | due
        ).iter_rows()
    }
    begins = _first_sessions(completeness)
    groups: dict[tuple[date, bool], list[str]] = {}
    back = {day: calendar.back(day, overlap_sessions - 1) for day in {last for last, _ in known.values()}}
    for symbol in symbols:
        last, asked = known.get(symbol, (None, True))
        if not asked and symbol not in earliest_gap:
            continue
        start = first if last is None else back[last]
        if symbol in earliest_gap:
            start = min(start, calendar.back(earliest_gap[symbol], overlap_sessions))
        earliest = min(first, begins.get(symbol, first), kept_from.get(symbol, first))
        earliest = max(earliest, since.get(symbol, earliest)) if since else earliest
        start = max(min(start, kept_from.get(symbol, start)), earliest, covered or earliest)
        start = min(start, end)
        groups.setdefault((start, begins.get(symbol, start) >= start), []).append(symbol)  # not all with a lead-in
    return [
        FetchRequest(part, start, end)
        for (start, _), group in sorted(groups.items())
        for part in in_batches(sorted(group), batch)
    ]


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
