"""`price_catalog`: the DuckDB file over the committed years, with the checks on what was committed.

The checks sit here and not on `daily_prices`: on a run over a range of years a check of a partitioned asset leaves
one row in the UI for each year that stays open for ever. This asset has no partitions, and nothing in it may ask for
a partition key: a run over years hands it theirs.
"""

from typing import Final

import dagster as dg
from dagster import AutomationCondition, PartitionsDefinition

from historical_etl.assets.checks import CHECKS, evaluate
from historical_etl.assets.reporting import (
    CATALOG_KEY,
    PRICES_KEY,
    Materialized,
    Metadata,
    as_failure,
    report_unseen_years,
)
from historical_etl.assets.tables import markdown_table
from historical_etl.errors import HistoricalETLError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.reader.citation import Citation
from historical_etl.models import SyncManifest
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource

__all__ = ["FOLLOW_NEW_YEARS", "build_price_catalog", "catalog_metadata"]

#: Whenever a year was committed, and no run is about to publish it. Not `eager()`: that is silent as long as any year
#: is missing, and overlooks the years that a failed run committed, because that run had planned the catalog too.
FOLLOW_NEW_YEARS: Final = (
    AutomationCondition.any_deps_match(  # pyright: ignore[reportUnknownMemberType] - unparametrized in Dagster
        AutomationCondition.newly_updated()
    ).since_last_handled()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
).with_label("follow_new_years")


def build_price_catalog(years: PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The asset; `years` are those of `daily_prices`."""

    @dg.asset(
        key=CATALOG_KEY,
        deps=[PRICES_KEY],
        check_specs=CHECKS,
        # Without it, `--partition-range` refuses a selection with this asset in it.
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=FOLLOW_NEW_YEARS,
        group_name="prices",
        kinds={"duckdb"},
        description="DuckDB file with the views `daily_prices`, `partitions` and one for each ledger, over exactly one "
        "committed version.",
    )
    def price_catalog(
        context: dg.AssetExecutionContext, store: StoreResource, source: PriceSourceResource, catalog: CatalogResource
    ) -> Materialized:
        etl = store.open(source, context.run.run_id, looking=True)
        try:
            manifest = etl.publish_catalog()
            checks = list(evaluate(context.instance, etl, manifest, catalog))
        except HistoricalETLError as error:
            raise as_failure(error) from error
        unseen = report_unseen_years(context.instance, etl, years.get_partition_keys())
        if unseen:
            context.log.info("Told Dagster of years that no run had reported: %s", ", ".join(unseen))
        return dg.MaterializeResult(
            metadata=catalog_metadata(etl, manifest),
            check_results=checks,
            data_version=dg.DataVersion(manifest.checksum),
        )

    return price_catalog


def catalog_metadata(etl: HistoricalETL, manifest: SyncManifest) -> Metadata:
    """What Dagster is told of a published version."""
    years = [(p.year, p.rows, p.symbols, p.first_session, p.last_session) for p in manifest.partitions]
    return {
        "dagster/row_count": dg.MetadataValue.int(manifest.row_count),
        "dagster/uri": dg.MetadataValue.url(etl.catalog.path.as_uri()),
        "version": dg.MetadataValue.int(manifest.version),
        "checksum": dg.MetadataValue.text(manifest.checksum),
        "citation": dg.MetadataValue.text(str(Citation.of(manifest))),
        "years": dg.MetadataValue.int(len(years)),
        "symbols": dg.MetadataValue.int(len(etl.cursors())),
        "sessions_missing": dg.MetadataValue.int(etl.completeness().missing()),
        "file": dg.PathMetadataValue(str(etl.catalog.path)),
        "rows_by_year": markdown_table(("year", "rows", "symbols", "first session", "last session"), years),
    }
