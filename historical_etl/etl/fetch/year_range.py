"""The windows of a run of years: what of each year is to be fetched and stored, and what a request is called."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from historical_etl.errors import ConfigurationError, CoverageError
from historical_etl.models import SCHEMA_VERSION
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import Coverage, SourceInfo

__all__ = ["Window", "ended_calendar", "lead_in", "request_hash", "year_windows"]

#: Sessions fetched before a window, so that its first `ret` has a predecessor even after a short halt.
LEAD_IN_SESSIONS: Final = 10


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
