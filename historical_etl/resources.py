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

from historical_etl.catalog.views import quote_text
from historical_etl.clock import system_clock
from historical_etl.errors import CatalogError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.settings import Settings, load_settings
from historical_etl.sources.base import PriceSource
from historical_etl.sources.fetcher import UnifiedDataFetcher

__all__ = ["CatalogResource", "PriceSourceResource", "StoreResource"]


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
        """The time, by which sessions count as closed."""
        return system_clock()

    def open(self, source: PriceSource, run_id: str = "") -> HistoricalETL:
        """The library's object for this store; `run_id` tells others who holds the lock."""
        settings = self.settings()
        writer = f"dagster run {run_id}" if run_id else "dagster"
        return HistoricalETL.open(settings.data_dir, source, clock=self.now, settings=settings, writer_id=writer)


class PriceSourceResource(dg.ConfigurableResource["PriceSourceResource"]):
    """Where prices come from: the source that the settings name."""

    provider: str = Field(default="", description="Name of the source. Empty: the setting HISTORICAL_ETL_SOURCE.")

    def open(self) -> PriceSource:
        """The source.

        Raises:
            ConfigurationError: it is unknown, lacks a setting, or is the sample in production.
        """
        return UnifiedDataFetcher(load_settings(), self.provider or None)


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
