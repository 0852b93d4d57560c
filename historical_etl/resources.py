"""What assets, jobs and sensors use: the store, the source of prices, the catalog file.

Put here how Dagster reaches the library, and nothing that fills or judges data. Each resource is flat and opens
nothing before it is asked: a lock or a connection is never held while a step fetches. Tests replace a resource by a
subclass that overrides one method, and pass it to `assemble`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import Field

from historical_etl.catalog.quoting import quote_text
from historical_etl.clock import Clock, system_clock
from historical_etl.errors import CatalogError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import PriceSource
from historical_etl.sources.fetcher import UnifiedDataFetcher

__all__ = ["CatalogResource", "PriceSourceResource", "StoreResource"]


class PriceSourceResource(dg.ConfigurableResource["PriceSourceResource"]):
    """The source of prices: the one that the settings name."""

    provider: str = Field(default="", description="Name of the source. Empty: the setting HISTORICAL_ETL_SOURCE.")

    def chosen(self, settings: Settings) -> Settings:
        """These settings, with the source that this resource names."""
        return settings.changed({"source": self.provider} if self.provider else {})

    def open(self, settings: Settings, clock: Clock = system_clock) -> PriceSource:
        """The source, as it is at the time of a run's clock.

        Raises:
            ConfigurationError: it is unknown, lacks a setting, or is the sample in production.
        """
        return UnifiedDataFetcher(self.chosen(settings), clock=clock)


class StoreResource(dg.ConfigurableResource["StoreResource"]):
    """The store of prices: partitions, manifests, and the writer lock that every commit takes by itself."""

    data_dir: str = Field(default="", description="Root of the store. Empty: the setting HISTORICAL_ETL_DATA_DIR.")
    overrides: dict[str, str] = Field(
        default={},
        description="Settings of this store alone, which go before the environment and `.env`, by their names in "
        "Python: `exchange`, or `files.path` for one of a group.",
    )

    def settings(self) -> Settings:
        """The settings, from the environment and `.env`, with those of this store alone.

        Raises:
            ConfigurationError: one of them is wrong.
        """
        changes: dict[str, object] = {}
        groups: dict[str, dict[str, str]] = {}
        for name, value in self.overrides.items():
            group, dot, field = name.partition(".")
            if dot:
                groups.setdefault(group, {})[field] = value
            else:
                changes[name] = value
        if self.data_dir:
            changes["data_dir"] = self.data_dir
        return load_settings().changed(changes | groups)

    def now(self) -> datetime:
        """The time, by which sessions count as closed and pauses between attempts are measured."""
        return system_clock()

    def open(self, source: PriceSourceResource, run_id: str = "") -> HistoricalETL:
        """The library's object for this store, for one run or one tick: one clock for it and for the source.

        Args:
            source: of the prices.
            run_id: names the holder of the lock to others.

        Raises:
            ConfigurationError: a setting is wrong, or the source.
        """
        return self.opened(source, run_id, self.now)

    def open_reader(self, source: PriceSourceResource, run_id: str = "") -> HistoricalETL:
        """The same for what fetches nothing: the catalog and the checks on it.

        Raises:
            ConfigurationError: a setting is wrong, or the source.
        """
        return self.open(source, run_id)

    def opened(self, source: PriceSourceResource, run_id: str, clock: Clock) -> HistoricalETL:
        """The same by another clock."""
        settings = source.chosen(self.settings())
        writer = f"dagster run {run_id}" if run_id else "dagster"
        return HistoricalETL.open(
            settings.data_dir, source.open(settings, clock), clock=clock, settings=settings, writer_id=writer
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
