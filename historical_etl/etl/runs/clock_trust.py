"""What a run may believe of its clock: sessions that only the clock vouches for are no gaps yet, and end no symbol.

A clock that is ahead says that sessions have closed which are still to come. Nobody has a bar of them, which looks like
a market that fell silent. Once the clock is right, what was noted of days to come is forgotten.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from historical_etl.etl.completeness import LIVE, Completeness
from historical_etl.etl.context import VersionState
from historical_etl.models import SyncManifest
from historical_etl.schema import latest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.commit_times import clock_trouble

__all__ = ["Silence", "clock_notes", "silence", "trusted_completeness"]

_OFF: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Silence:
    """Sessions up to `end` of which no symbol has a bar, though some were live; `believed` is how far that is believed.

    Beyond that, the clock alone says that these sessions were.
    """

    first: date
    end: date
    sessions: int
    trusted_through: date

    def in_words(self, now: datetime) -> str:
        """What to tell of it."""
        return (
            f"no symbol has a bar of the {self.sessions} sessions from {self.first} to {self.end}. If the clock is "
            f"ahead (it says {now:%Y-%m-%d %H:%M} UTC), set it; else the source is out, or has ended. None of the "
            f"sessions after {self.trusted_through} counts as missing until a symbol has one"
        )


def silence(
    completeness: Completeness, newest: date | None, end: date, calendar: SessionCalendar, most: int
) -> Silence | None:
    """The silence of a whole market of which some symbols were live, if it is longer than `most` sessions.

    Args:
        completeness: before the commit.
        newest: the newest session that was fetched.
        end: the last session that was asked for.
        calendar: the exchange's sessions.
        most: how long a market may be silent.
    """
    lives = completeness.symbols.filter(pl.col("status") == LIVE)
    known = max(filter(None, (newest, latest(completeness.symbols.get_column("last_session")))), default=None)
    if lives.is_empty() or known is None:
        return None
    silent = calendar.between(known + timedelta(days=1), end)
    return Silence(silent[0], silent[-1], silent.len(), silent[most - 1]) if silent.len() > most else None


def trusted_completeness(state: VersionState, manifest: SyncManifest | None) -> Completeness:
    """The account of a version for a run: without gaps, attempts and pauses of days that are still to come."""
    completeness, today, calendar = (
        state.completeness_of(manifest),
        state.context.last_closed_session(),
        state.context.calendar,
    )
    symbols, gaps = completeness.symbols, completeness.gaps
    horizon = max(filter(None, (today, latest(symbols.get_column("last_session")))))
    later = [gaps.get_column("last_session"), *(frame.get_column("asked") for frame in (symbols, gaps))]
    if not any((days > horizon).any() for days in (*later, symbols.get_column("asked_through"))):
        return completeness
    end = calendar.dates(calendar.positions_before(pl.lit(horizon)))
    is_wrong = pl.col("asked") > horizon
    forgotten = [pl.when(is_wrong).then(None).otherwise(pl.col(name)).alias(name) for name in ("asked", "due")]
    cut = pl.min_horizontal("last_session", end)
    lasting = calendar.positions(cut) - calendar.positions(pl.col("first_session")) + 1
    return Completeness(
        symbols.with_columns(*forgotten, pl.min_horizontal("asked_through", end).alias("asked_through")),
        gaps.filter(pl.col("first_session") <= horizon).with_columns(
            *forgotten,
            cut.alias("last_session"),
            lasting.cast(gaps.schema["sessions"]).alias("sessions"),
        ),
    )


def clock_notes(newest: datetime | None, now: datetime, offset: timedelta | None = None) -> list[str]:
    """What to report of the clock, by the newest stamp of a version, and by the vendor's clock, if that is known."""
    notes = [trouble] if (trouble := clock_trouble(newest, now)) else []
    if offset is not None and abs(offset) >= _OFF:
        way = "behind" if offset > timedelta() else "ahead of"
        notes.append(
            f"the clock is {abs(offset).total_seconds():,.0f} s {way} the vendor's, and it decides which sessions have "
            "closed: set it, and let the machine keep it (NTP)"
        )
    return notes
