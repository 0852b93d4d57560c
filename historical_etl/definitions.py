"""What Dagster loads. Assembly only: every part is made elsewhere, and all are named here."""

import logging

import dagster as dg

from historical_etl.assets.daily_prices import build_daily_prices
from historical_etl.assets.freshness import freshness_policy
from historical_etl.assets.partitions import year_partitions
from historical_etl.assets.price_catalog import build_price_catalog
from historical_etl.automation import (
    backfill_job,
    build_catalog_follower,
    build_incremental_job,
    build_incremental_sensor,
)
from historical_etl.errors import DataQualityError
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource
from historical_etl.sources.base import Coverage
from historical_etl.store.layout import Layout

__all__ = ["build_defs", "defs"]

_log = logging.getLogger(__name__)


def build_defs(*, store: StoreResource | None = None, source: PriceSourceResource | None = None) -> dg.Definitions:
    """All definitions, for the configured store and source or for others.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    source = source or PriceSourceResource()
    store = store or StoreResource()
    settings = store.settings()
    coverage = _coverage(source)
    years = year_partitions(settings, coverage, store.now)
    freshness = freshness_policy(settings, coverage, store.now)
    return dg.Definitions(
        assets=[build_daily_prices(years, freshness), build_price_catalog(years)],
        jobs=[backfill_job, build_incremental_job(years)],
        sensors=[build_incremental_sensor(settings, replaying=store.replays(source)), build_catalog_follower()],
        resources={
            "store": store,
            "source": source,
            "catalog": CatalogResource(database=str(Layout(settings.data_dir).catalog)),
        },
        # One process writes. It saves two seconds a run, and a killed run leaves no child that goes on writing.
        executor=dg.in_process_executor,
    )


def _coverage(source: PriceSourceResource) -> Coverage | None:
    try:
        return source.open().info.coverage
    except DataQualityError as error:
        # A broken file must not hide the page that tells of it: the run fails with this very error.
        _log.error("The source cannot say what it covers: %s", error)
        return None


defs = build_defs()
