"""What a run will ask for: windows of years, batches of increments, and the hash that names a request."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError, CoverageError
from historical_etl.etl.completeness import CONFIRMED, ENDED, GAP_OPEN, Completeness
from historical_etl.etl.fetch.fetch import in_batches
from historical_etl.models import SCHEMA_VERSION
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import Coverage, FetchRequest, SourceInfo

__all__ = [
    "LAST_ATTEMPT",
    "Window",
    "ended_calendar",
    "increment_requests",
    "lead_in",
    "request_hash",
    "symbols_without_history",
    "year_windows",
]

#: Sessions fetched before a window, so that its first `ret` has a predecessor even after a short halt.
LEAD_IN_SESSIONS: Final = 10
#: A confirmed gap is still asked for, at growing pauses, since some sources fill theirs late; but not for ever.
LAST_ATTEMPT: Final = 8
#: As long as no more sessions than this were fetched without `adj_close`, the overlap reaches the last that had one.
_SILENCE: Final = 20


@dataclass(frozen=True)
class Window:
    """The part of one year to store: `start` to `end`; rows from `lead_in` on are fetched to meet what is stored."""

    year: int
    lead_in: date
    start: date
    end: date


def lead_in(start: date, calendar: SessionCalendar, coverage: Coverage | None) -> date:
    """From when on to ask, so that the row on `start` has a predecessor, as far as the source goes back."""
    earlier = min(start, calendar.back(start, LEAD_IN_SESSIONS))  # a calendar may begin later
    return max(earlier, coverage.first) if coverage else earlier


def year_windows(
    start: date, end: date, *, coverage: Coverage | None, last_closed: date, calendar: SessionCalendar, plan: str = ""
) -> list[Window]:
    """Cut a range into years, each no wider than what the source covers and the exchange has closed.

    `plan` tells in words what bounds the coverage, if that is the account's plan.

    Raises:
        CoverageError: a year of the range has sessions, but none that the source covers and that has closed.
        ConfigurationError: the exchange has no session in the whole range.
    """
    latest = min(last_closed, coverage.last) if coverage and coverage.last else last_closed
    earliest = coverage.first if coverage else start
    windows: list[Window] = []
    outside: list[int] = []
    for year in range(start.year, end.year + 1):
        first, last = max(start, date(year, 1, 1)), min(end, date(year, 12, 31))
        if calendar.between(first, last).is_empty():
            continue
        sessions = calendar.between(max(first, earliest), min(last, latest))
        if sessions.is_empty():
            outside.append(year)
            continue
        windows.append(Window(year, lead_in(sessions[0], calendar, coverage), sessions[0], sessions[-1]))
    if outside:
        raise CoverageError(
            f"No session to fetch in {_ranges(outside)} between {start} and {end}: the source covers "
            f"{earliest if coverage else 'any date'} to {latest}{f'; {plan}' if plan else ''}",
            where=_ranges(outside),
            todo="ask for years inside it; nothing was fetched or stored",
        )
    if not windows:
        _require_known(start, end, calendar)
        raise ConfigurationError(
            f"{calendar.name} has no session from {start} to {end}", where="dates", todo="widen the range"
        )
    asked = max(start, earliest)
    if asked < calendar.known_from:  # rows of those days are quarantined, and reported
        windows[0] = replace(windows[0], lead_in=min(asked, windows[0].lead_in))
    return windows


def _require_known(start: date, end: date, calendar: SessionCalendar) -> None:
    """Raises ConfigurationError for a range that lies before or after all that the calendar knows."""
    if end < calendar.known_from:
        raise ConfigurationError(
            f"{start} to {end} lies before the calendar of {calendar.name}, which begins on {calendar.known_from}",
            where="dates",
            todo="ask for later years, or name the sessions of these in the file of "
            "HISTORICAL_ETL_CALENDAR_CORRECTIONS",
        )
    if start > calendar.known_through:
        raise ended_calendar(calendar)


def ended_calendar(calendar: SessionCalendar) -> ConfigurationError:
    """The error of whoever needs sessions after the last that the calendar knows."""
    end, _, todo = calendar.end_in_words().partition("; ")
    return ConfigurationError(
        f"{end[0].upper()}{end[1:]}, and nothing was asked for after {calendar.sessions[-1]}",
        where="exchange_calendars",
        todo=todo,
    )


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


def request_hash(symbols: Sequence[str], start: date, end: date, source: SourceInfo) -> str:
    """A hash of what a run was asked for: symbols in any order, range, source, schema."""
    facts = [sorted(symbols), start.isoformat(), end.isoformat(), source.fingerprint(), SCHEMA_VERSION]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _ranges(years: Sequence[int]) -> str:
    parts: list[str] = []
    run: list[int] = []
    for year in [*years, None]:
        if run and year != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if year is not None:
            run.append(year)
    return ", ".join(parts)
