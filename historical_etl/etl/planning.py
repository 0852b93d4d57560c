"""What a run will ask for: windows of years, batches of increments, and the hash that names a request."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from historical_etl.errors import ConfigurationError, CoverageError
from historical_etl.etl.fetching import in_batches
from historical_etl.models import SCHEMA_VERSION
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import Coverage, FetchRequest, SourceInfo

__all__ = ["Window", "increment_requests", "request_hash", "year_windows"]

#: Sessions fetched before a window, so that its first `ret` has a predecessor even after a short halt.
LEAD_IN_SESSIONS = 10


@dataclass(frozen=True)
class Window:
    """The part of one year to store: `start` to `end`; rows from `lead_in` on are fetched for `ret` only."""

    year: int
    lead_in: date
    start: date
    end: date


def year_windows(
    start: date, end: date, *, coverage: Coverage | None, last_closed: date, calendar: SessionCalendar
) -> list[Window]:
    """Cut a range into years, each no wider than what the source covers and the exchange has closed.

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
        lead_in = calendar.back(sessions[0], LEAD_IN_SESSIONS)
        windows.append(Window(year, max(lead_in, earliest) if coverage else lead_in, sessions[0], sessions[-1]))
    if outside:
        raise CoverageError(
            f"No session to fetch in {_ranges(outside)} between {start} and {end}: the source covers "
            f"{earliest if coverage else 'any date'} to {latest}",
            where=_ranges(outside),
            todo="ask for years inside it; nothing was fetched or stored",
        )
    if not windows:
        raise ConfigurationError(
            f"{calendar.name} has no session from {start} to {end}", where="dates", todo="widen the range"
        )
    return windows


def increment_requests(
    cursors: Mapping[str, date | None],
    *,
    first: date,
    end: date,
    overlap_sessions: int,
    batch: int,
    calendar: SessionCalendar,
) -> Iterator[FetchRequest]:
    """One request for each group of symbols that stand at the same cursor, at most `batch` symbols each.

    Each starts `overlap_sessions` stored sessions back, so that what came meets what is stored.

    Args:
        cursors: each symbol's last contiguous session; None for a symbol that is not stored yet.
        first: where the history of a symbol without a cursor begins.
        end: the last session to ask for.
        overlap_sessions: how many stored sessions to ask for again.
        batch: the most symbols for one request.
        calendar: the exchange's sessions.
    """
    groups: dict[date, list[str]] = {}
    for symbol, cursor in cursors.items():
        start = first if cursor is None else calendar.back(cursor, overlap_sessions - 1)
        groups.setdefault(min(max(start, first), end), []).append(symbol)
    for start, symbols in sorted(groups.items()):
        for part in in_batches(sorted(symbols), batch):
            yield FetchRequest(part, start, end)


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
