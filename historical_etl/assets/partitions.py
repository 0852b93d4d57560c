"""Which years there are. One partition is one calendar year of the exchange; nothing here knows what is stored."""

from datetime import date, datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import dagster as dg
from dagster import PartitionsDefinition

from historical_etl.clock import Clock
from historical_etl.errors import ConfigurationError, CoverageError
from historical_etl.sessions import calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.base import Coverage

__all__ = ["YearPartitions", "year_partitions"]

_YEARLY: Final = "0 0 1 1 *"


class _AtTime(Protocol):
    """What Dagster passes to say which time it is; it exports no name for the type."""

    @property
    def effective_dt(self) -> datetime: ...


class YearPartitions(dg.TimeWindowPartitionsDefinition):
    """Calendar years, which refuse a year outside themselves in our words.

    Dagster's own words are "All selected assets must have a PartitionsDefinition containing the passed partition
    key". Only what the command line and the launchpad call is changed; everywhere else this is its base class, and
    it travels to other processes as that.
    """

    def validate_partition_key(self, partition_key: str, context: _AtTime) -> None:
        """Refuse a key that is not one of the years.

        Raises:
            CoverageError: it is none.
        """
        with dg.partition_loading_context(effective_dt=context.effective_dt):
            if self.has_partition_key(partition_key):
                return
            first, last = self.get_first_partition_key(), self.get_last_partition_key()
        raise CoverageError(
            f"Year {partition_key!r} lies outside what can be had: {first} to {last}",
            where="daily_prices",
            todo="ask for a year inside it, or choose another source with HISTORICAL_ETL_SOURCE",
        )


def year_partitions(settings: Settings, coverage: Coverage | None, clock: Clock) -> PartitionsDefinition[str]:
    """The years that can be asked for.

    They begin with the setting `start`, the source's first day or the calendar's, whichever is latest. A source with an
    end bounds them for good; any other goes on to the running year, which the exchange's time zone decides.

    Raises:
        ConfigurationError: there is none, because `start` lies after all of them.
    """
    calendar = calendar_of(settings)
    timezone = calendar.timezone
    this_year = clock().astimezone(ZoneInfo(timezone)).year
    first = max(settings.start, coverage.first if coverage else date.min, calendar.known_from).year
    last = this_year if coverage is None or coverage.last is None else min(coverage.last.year, this_year)
    if first > last:
        raise ConfigurationError(
            f"No year to fetch: the setting start is {settings.start}, the source ends in {last}",
            where="HISTORICAL_ETL_START",
            todo=f"set it to {last}-01-01 or earlier",
        )
    if last < this_year:
        return YearPartitions(cron_schedule=_YEARLY, fmt="%Y", start=str(first), end=str(last + 1), timezone=timezone)
    return YearPartitions(cron_schedule=_YEARLY, fmt="%Y", start=str(first), end_offset=1, timezone=timezone)
