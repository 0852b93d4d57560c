"""`price_catalog`: the DuckDB file over the committed years, with the checks on what was committed.

The checks sit here and not on `daily_prices`: on a run over a range of years a check of a partitioned asset leaves
one row in the UI for each year that stays open for ever. This asset has no partitions, and nothing in it may ask for
a partition key: a run over years hands it theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import dagster as dg
import duckdb
from dagster import AutomationCondition, PartitionsDefinition

from historical_etl.assets.checks import check_specs, evaluate, evaluations
from historical_etl.assets.market import Market
from historical_etl.assets.reporting import (
    OWNERS,
    Materialized,
    Metadata,
    as_failure,
    report_unseen_years,
    version_tags,
)
from historical_etl.assets.tables import markdown_table
from historical_etl.errors import HistoricalETLError
from historical_etl.etl.context import Citation
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import SCHEMA_VERSION, SyncManifest

__all__ = ["FOLLOW_NEW_YEARS", "build_price_catalog", "publish_from_another_step"]

#: What decides what the file holds, beside the committed version.
_CODE_VERSION: Final = f"schema-{SCHEMA_VERSION}-duckdb-{duckdb.__version__}"
#: Whenever a year was committed, and no run is about to publish it. Not `eager()`: that is silent as long as any year
#: is missing, and overlooks the years that a failed run committed, because that run had planned the catalog too.
FOLLOW_NEW_YEARS: Final = (
    AutomationCondition.any_deps_match(  # pyright: ignore[reportUnknownMemberType] - unparametrized in Dagster
        AutomationCondition.newly_updated()
    ).since_last_handled()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
).with_label("follow_new_years")


def build_price_catalog(
    market: Market, years: PartitionsDefinition[str], tags: dict[str, str] | None = None
) -> dg.AssetsDefinition:
    """The asset; `years` are those of `daily_prices`."""

    @dg.asset(
        key=market.catalog,
        deps=[market.prices],
        check_specs=check_specs(market.catalog),
        # Without it, `--partition-range` refuses a selection with this asset in it.
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=FOLLOW_NEW_YEARS,
        required_resource_keys=market.resource_names,
        group_name=market.named("prices"),
        owners=OWNERS,
        code_version=_CODE_VERSION,
        kinds={"duckdb"},
        tags=tags,
        description="DuckDB file with the views `daily_prices`, `partitions` and one for each ledger, over exactly one "
        "committed version.",
    )
    def price_catalog(context: dg.AssetExecutionContext) -> Materialized:
        published = _publish(context, market, years.get_partition_keys())
        return dg.MaterializeResult(
            metadata=published.metadata,
            check_results=published.checks,
            data_version=dg.DataVersion(published.checksum),
        )

    return price_catalog


def publish_from_another_step(
    context: dg.AssetExecutionContext, market: Market, years: PartitionsDefinition[str]
) -> None:
    """Publish as `price_catalog` does, where Dagster will not run its step, and write its events.

    Raises:
        Failure: the catalog cannot be published, or a blocking check fails.
    """
    published = _publish(context, market, years.get_partition_keys())
    tags = version_tags(published.checksum, _CODE_VERSION)
    context.log_event(dg.AssetMaterialization(market.catalog, metadata=published.metadata, tags=tags))
    found = evaluations(market.catalog, published.checks)
    for evaluation in found:
        context.log_event(evaluation)  # pyright: ignore[reportArgumentType] - accepted, but not in the method's type
    for evaluation in found:
        if evaluation.blocking and not evaluation.passed:
            raise dg.Failure(
                f"{evaluation.check_name}: {evaluation.description}", evaluation.metadata, allow_retries=False
            )


@dataclass(frozen=True)
class _Publication:
    """A version that the catalog shows now: what is reported of it, the checks on it, its checksum."""

    metadata: Metadata
    checks: list[dg.AssetCheckResult]
    checksum: str


def _publish(context: dg.AssetExecutionContext, market: Market, years: Iterable[str]) -> _Publication:
    """Let the catalog show what is committed, check it, and report the years that no run has reported."""
    store, source = market.store(context.resources), market.source(context.resources)
    etl = store.open_reader(source, context.run.run_id)
    try:
        manifest = etl.publish_catalog()
        file = market.catalog_file(context.resources)
        checks = list(evaluate(context.instance, market.catalog, etl, manifest, file))
    except HistoricalETLError as error:
        raise as_failure(error) from error
    unseen = report_unseen_years(context.instance, market.prices, etl, years)
    if unseen:
        context.log.info("Reported years that no run had reported: %s", ", ".join(unseen))
    return _Publication(_metadata(etl, manifest), checks, manifest.checksum)


def _metadata(etl: HistoricalETL, manifest: SyncManifest) -> Metadata:
    """What is reported of a published version."""
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
