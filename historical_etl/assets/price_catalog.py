"""`price_catalog`: the DuckDB file over the committed years, with the checks on what was committed.

The checks sit here and not on `daily_prices`: on a run over a range of years a check of a partitioned asset leaves
one row in the UI for each year that stays open for ever. This asset has no partitions, and nothing in it may ask for
a partition key: a run over years hands it theirs.
"""

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

__all__ = ["FOLLOW_NEW_YEARS", "build_price_catalog", "is_in_run", "show_from_another_step"]

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
        store = _Shown(context, market, years)
        manifest = store.publish()
        return dg.MaterializeResult(
            metadata=_metadata(store.etl, manifest),
            check_results=store.checks(manifest),
            data_version=dg.DataVersion(manifest.checksum),
        )

    return price_catalog


def is_in_run(context: dg.AssetExecutionContext, market: Market) -> bool:
    """Whether the run has a step of `price_catalog`."""
    steps = context.run.step_keys_to_execute  # of a run that was launched as a whole it may be None
    return context.job_def.has_node_named(market.catalog_op) and (steps is None or market.catalog_op in steps)


def show_from_another_step(
    context: dg.AssetExecutionContext, market: Market, years: PartitionsDefinition[str], *, only_ledgers: bool
) -> None:
    """Do what `price_catalog` does, where Dagster will not run its step, as far as it is needed.

    A file that shows the current version is left as it is: then there is nothing to claim but the checks. A run
    without `price_catalog` leaves it to `FOLLOW_NEW_YEARS`, which sees each year that is reported. Only of a version in
    which no year changed, such as one with a new hold, it would not know.

    Args:
        context: of the other step.
        market: whose catalog it is.
        years: those of `daily_prices`.
        only_ledgers: whether the other step has committed a version in which no year changed.

    Raises:
        Failure: the catalog cannot be published, or a blocking check fails.
    """
    store, in_run = _Shown(context, market, years), is_in_run(context, market)
    current = store.current()
    if not in_run and (current or not only_ledgers):
        return
    manifest = current or store.publish()
    checks = store.checks(manifest)
    if current:
        context.log.info("The catalog shows version %d already: it was checked, and not written", manifest.version)
    else:
        why = (
            f"Dagster skips {market.catalog.to_user_string()} after this step"
            if in_run
            else f"No year changed, so nothing else would materialize {market.catalog.to_user_string()}"
        )
        context.log.warning("%s: this step has published version %d in its place", why, manifest.version)
        tags = version_tags(manifest.checksum, _CODE_VERSION)
        metadata = _metadata(store.etl, manifest)
        context.log_event(dg.AssetMaterialization(market.catalog, metadata=metadata, tags=tags))
    found = evaluations(market.catalog, checks)
    for evaluation in found:
        context.log_event(evaluation)  # pyright: ignore[reportArgumentType] - accepted, but not in the method's type
    for evaluation in found:
        if evaluation.blocking and not evaluation.passed:
            raise dg.Failure(
                f"{evaluation.check_name}: {evaluation.description}", evaluation.metadata, allow_retries=False
            )


class _Shown:
    """The store, and the catalog file that shows it."""

    def __init__(self, context: dg.AssetExecutionContext, market: Market, years: PartitionsDefinition[str]) -> None:
        self._context = context
        self._market = market
        self._years = years
        source = market.source(context.resources)
        self.etl = market.store(context.resources).open_reader(source, context.run.run_id)

    def current(self) -> SyncManifest | None:
        """The current version, if the catalog file shows it."""
        manifest = self.etl.manifest()
        return manifest if manifest and self.etl.catalog.shown_version() == manifest.version else None

    def publish(self) -> SyncManifest:
        """Let the catalog show the current version."""
        try:
            return self.etl.publish_catalog()
        except HistoricalETLError as error:
            empty = self.etl.manifest() is None
            raise as_failure(error, self._market.how_to_fill if empty else None) from error

    def checks(self, manifest: SyncManifest) -> list[dg.AssetCheckResult]:
        """Check the version that is shown, and report the years that no run has reported."""
        context, market = self._context, self._market
        try:
            file = market.catalog_file(context.resources)
            checks = list(evaluate(context.instance, market.catalog, self.etl, manifest, file))
        except HistoricalETLError as error:
            raise as_failure(error) from error
        unseen = report_unseen_years(context.instance, market.prices, self.etl, self._years.get_partition_keys())
        if unseen:
            context.log.info("Reported years that no run had reported: %s", ", ".join(unseen))
        return checks


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
