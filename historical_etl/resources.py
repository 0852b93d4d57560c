"""What assets, jobs and sensors are handed: the store, the source of prices, the catalog file.

Put here how Dagster reaches the library, and nothing that fills or judges data. Each resource is flat and opens
nothing before it is asked: a lock or a connection is never held while a step fetches. Tests replace a resource by a
subclass that overrides one method, and hand it to `build_defs`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import Field

from historical_etl.catalog.quoting import quote_text
from historical_etl.clock import Clock, system_clock
from historical_etl.errors import CatalogError
from historical_etl.etl.pipeline import HistoricalETL, stored_through
from historical_etl.sessions import calendar_of
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import PriceSource
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.replay import ReplayClock, clock_for, is_replay
from historical_etl.store.layout import Layout

__all__ = ["CatalogResource", "PriceSourceResource", "StoreResource"]


class PriceSourceResource(dg.ConfigurableResource["PriceSourceResource"]):
    """Where prices come from: the source that the settings name."""

    provider: str = Field(default="", description="Name of the source. Empty: the setting HISTORICAL_ETL_SOURCE.")

    def chosen(self, settings: Settings) -> Settings:
        """These settings, with the source that this resource names."""
        return settings.changed({"source": self.provider} if self.provider else {})

    def open(self, clock: Clock = system_clock) -> PriceSource:
        """The source, as it is at the time of a run's clock.

        Raises:
            ConfigurationError: it is unknown, lacks a setting, or is the sample in production.
        """
        return UnifiedDataFetcher(load_settings(), self.provider or None, clock=clock)


class StoreResource(dg.ConfigurableResource["StoreResource"]):
    """The store of prices: partitions, manifests, and the writer lock that every commit takes by itself."""

    data_dir: str = Field(default="", description="Root of the store. Empty: the setting HISTORICAL_ETL_DATA_DIR.")

    def settings(self) -> Settings:
        """The settings, from the environment and `.env`.

        Raises:
            ConfigurationError: one of them is wrong.
        """
        changes = {"data_dir": Path(self.data_dir)} if self.data_dir else {}
        return load_settings().changed(changes)

    def now(self) -> datetime:
        """The time, by which sessions count as closed, and attempts as past; in a replay the attempts only."""
        return system_clock()

    def replays(self, source: PriceSourceResource) -> bool:
        """Whether this is a replay of the sample, whose time is that of what is stored."""
        return is_replay(source.chosen(self.settings()))

    def open(self, source: PriceSourceResource, run_id: str = "", *, looking: bool = False) -> HistoricalETL:
        """The library's object for this store, for one run or one look: one clock for it and for the source.

        Args:
            source: where prices come from.
            run_id: tells others who holds the lock.
            looking: nothing is to be fetched. In a replay it is the evening of what is stored, not the next one.

        Raises:
            ConfigurationError: a setting is wrong, or the source.
            ManifestCorruptError: in a replay, there is data, but no usable manifest.
        """
        settings = source.chosen(self.settings())
        clock = self._clock(settings, looking=looking)
        writer = f"dagster run {run_id}" if run_id else "dagster"
        return HistoricalETL.open(
            settings.data_dir, source.open(clock), clock=clock, settings=settings, writer_id=writer
        )

    def _clock(self, settings: Settings, *, looking: bool) -> Clock:
        if settings.replay_from is None or not is_replay(settings):
            return self.now
        through = stored_through(Layout(settings.data_dir))
        clock = clock_for(settings, lambda: through)  # refuses a replay that begins after the sample
        if not isinstance(clock, ReplayClock):
            return clock
        # The history of a replay ends on the evening before it, by whatever run it is fetched.
        replayed_through = through or calendar_of(settings).back(settings.replay_from, 1)
        return (
            clock_for(settings.changed({"replay_from": replayed_through}), lambda: None)
            if looking or not through
            else clock
        )


class CatalogResource(DuckDBResource):
    """The published DuckDB file, for reading.

    The base class opens it for writing, which shuts out every other reader, and leaves it open after an exception.
    Here it is attached read-only to a connection in memory: a plain `duckdb.connect(path)` returns the instance that
    this process has open already, and that still shows the file as it was before the last swap.
    """

    @contextmanager
    def get_connection(self) -> Generator[duckdb.DuckDBPyConnection]:
        """A connection whose default database is the catalog file, as it is now.

        Raises:
            CatalogError: there is no such file, or DuckDB cannot read it.
        """
        with duckdb.connect(":memory:", config=dict(self.connection_config)) as connection:
            try:
                connection.execute(f"ATTACH {quote_text(self.database)} AS published (READ_ONLY)")
                connection.execute("USE published")
            except duckdb.Error as error:
                raise CatalogError(
                    f"The catalog cannot be read: {error}", where=self.database, todo="materialize price_catalog"
                ) from error
            yield connection
