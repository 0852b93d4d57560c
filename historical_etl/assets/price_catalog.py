"""`price_catalog`: the DuckDB file over the committed years, and the checks on what was committed.

The checks sit here and not on `daily_prices`: on a run over a range of years a check of a partitioned asset leaves
one row in the UI for each year that stays open for ever. This asset has no partitions, and nothing in it may ask for
a partition key: a run over years hands it theirs.
"""

from datetime import UTC, datetime

import dagster as dg
from dagster import AutomationCondition, PartitionsDefinition

from historical_etl.assets.reporting import CATALOG_KEY, PRICES_KEY, as_failure, markdown_table, report_unseen_years
from historical_etl.errors import CatalogError, HistoricalETLError
from historical_etl.etl.fetching import source_info
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import SyncManifest
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource

__all__ = ["FOLLOW_NEW_YEARS", "build_price_catalog", "publish", "refresh_catalog", "target_session"]

#: Whenever a year was committed and no run is about to publish it. Not `eager()`: that stays silent as long as any year
#: is missing, overlooks the years that a failed run had committed (because that run had planned the catalog too), and
#: would publish an empty store.
FOLLOW_NEW_YEARS = (
    AutomationCondition.any_deps_match(AutomationCondition.newly_updated()).since_last_handled()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
).with_label("follow_new_years")
