"""How old the newest year may look before Dagster says so: as long as the exchange may rest, and a little more.

A policy of Dagster's is about the asset, not about a partition: any year that is materialized counts, also one of
2003. So it shows that nothing runs any more; the check `reaches_the_last_session` says whether the last one is there.
"""

from datetime import timedelta
from itertools import pairwise
from typing import Final

import dagster as dg

from historical_etl.clock import Clock
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.base import Coverage

__all__ = ["freshness_policy", "longest_rest"]

#: For runs that fail and are tried again: an attempt after the longest pause, and one more.
_WARN_AFTER: Final = timedelta(hours=12)
_FAIL_AFTER: Final = timedelta(hours=36)
_AROUND: Final = 2


def freshness_policy(settings: Settings, coverage: Coverage | None, clock: Clock) -> dg.FreshnessPolicy | None:
    """The policy of `daily_prices`; None for a source whose coverage has ended, which can deliver nothing more."""
    year = clock().year
    if coverage is not None and coverage.last is not None and coverage.last.year < year:
        return None
    rest = longest_rest(calendar_of(settings), year) + timedelta(minutes=settings.settle_minutes)
    return dg.FreshnessPolicy.time_window(fail_window=rest + _FAIL_AFTER, warn_window=rest + _WARN_AFTER)


def longest_rest(calendar: SessionCalendar, year: int) -> timedelta:
    """The longest time between two closes in the years around this one: a long weekend, or a golden week."""
    first, last = calendar.sessions[0].year, calendar.sessions[-1].year
    low, high = max(first, min(year - _AROUND, last)), min(last, year + _AROUND)
    sessions = calendar.sessions.filter(calendar.sessions.dt.year().is_between(low, high))
    closes = [calendar.close_of(day) for day in sessions]
    return max((after - before for before, after in pairwise(closes)), default=timedelta(days=1))
