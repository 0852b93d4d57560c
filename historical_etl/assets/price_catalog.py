"""`price_catalog`: the DuckDB file over the committed years, and the checks on what was committed.

The checks sit here and not on `daily_prices`: on a run over a range of years a check of a partitioned asset leaves
one row in the UI for each year that stays open for ever. This asset has no partitions, and nothing in it may ask for
a partition key: a run over years hands it theirs.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from dagster import AutomationCondition, PartitionsDefinition

from historical_etl.assets.reporting import (
    CATALOG_KEY,
    PRICES_KEY,
    Materialized,
    Metadata,
    as_failure,
    markdown_table,
    report_unseen_years,
)
from historical_etl.errors import HistoricalETLError
from historical_etl.etl.pipeline import HistoricalETL
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

_CHECKS: Final = (
    dg.AssetCheckSpec(
        name="shows_the_committed_version",
        asset=CATALOG_KEY,
        description="The file, as another client opens it, has the version and rows that the manifest names.",
        blocking=True,
    ),
    dg.AssetCheckSpec(
        name="years_are_contiguous", asset=CATALOG_KEY, description="No year is missing between the first and last."
    ),
    dg.AssetCheckSpec(
        name="reaches_the_last_session",
        asset=CATALOG_KEY,
        description="The store has the last session that has closed and that the source covers.",
    ),
    dg.AssetCheckSpec(
        name="nothing_newly_quarantined",
        asset=CATALOG_KEY,
        description="No row, file or manifest went to quarantine since this asset was last materialized.",
    ),
)


def build_price_catalog(years: PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The asset; `years` are those of `daily_prices`."""

    @dg.asset(
        key=CATALOG_KEY,
        deps=[PRICES_KEY],
        check_specs=_CHECKS,
        # Without it, `--partition-range` refuses a selection with this asset in it.
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=FOLLOW_NEW_YEARS,
        group_name="prices",
        kinds={"duckdb"},
        description="DuckDB file with the views `daily_prices` and `partitions` over exactly one committed version.",
    )
    def price_catalog(
        context: dg.AssetExecutionContext, store: StoreResource, source: PriceSourceResource, catalog: CatalogResource
    ) -> Materialized:
        etl = store.open(source.open(), context.run.run_id)
        try:
            manifest = etl.publish_catalog()
            checks = list(_check(context.instance, etl, manifest, catalog))
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
        "years": dg.MetadataValue.int(len(years)),
        "symbols": dg.MetadataValue.int(len(etl.cursors())),
        "file": dg.PathMetadataValue(str(etl.catalog.path)),
        "rows_by_year": markdown_table(("year", "rows", "symbols", "first session", "last session"), years),
    }


def _check(
    instance: dg.DagsterInstance, etl: HistoricalETL, manifest: SyncManifest, catalog: CatalogResource
) -> Iterator[dg.AssetCheckResult]:
    """One result for each of `_CHECKS`, in their order."""
    expected = {p.year: (manifest.version, p.rows) for p in manifest.partitions}
    shown = _shown(catalog)
    yield dg.AssetCheckResult(
        passed=shown == expected,
        check_name="shows_the_committed_version",
        description=None if shown == expected else "The file differs from the manifest; see (version, rows) by year.",
        metadata={
            "committed": dg.MetadataValue.json(_by_year(expected)),
            "shown": dg.MetadataValue.json(_by_year(shown)),
        },
    )
    gaps = sorted(set(range(min(expected), max(expected) + 1)) - set(expected))
    yield dg.AssetCheckResult(
        passed=not gaps,
        check_name="years_are_contiguous",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not stored: {', '.join(map(str, gaps))}. Materialize them in daily_prices." if gaps else None,
    )
    target = etl.available_through()
    yield dg.AssetCheckResult(
        passed=manifest.end_date >= target,
        check_name="reaches_the_last_session",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The store ends on {manifest.end_date}; the last session that can be had is {target}.",
    )
    entries = _newly_quarantined(instance, etl)
    yield dg.AssetCheckResult(
        passed=not entries,
        check_name="nothing_newly_quarantined",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(entries)} new; each holds a reason.json." if entries else None,
        metadata={"entries": dg.MetadataValue.json(entries)},
    )


def _shown(catalog: CatalogResource) -> dict[int, tuple[int, int]]:
    with catalog.get_connection() as connection:
        rows = connection.execute(
            "SELECT p.year, p.version, count(d.date) FROM partitions p LEFT JOIN daily_prices d"
            " ON year(d.date) = p.year GROUP BY ALL"
        ).fetchall()
    return {int(year): (int(version), int(count)) for year, version, count in rows}


def _by_year(facts: dict[int, tuple[int, int]]) -> dict[str, list[int]]:
    return {str(year): list(fact) for year, fact in sorted(facts.items())}


def _newly_quarantined(instance: dg.DagsterInstance, etl: HistoricalETL) -> list[str]:
    last = instance.get_latest_materialization_event(CATALOG_KEY)
    since = f"{datetime.fromtimestamp(last.timestamp, UTC):%Y%m%dT%H%M%S.%f}" if last else ""
    return [str(entry) for entry in etl.manifests.quarantine.entries() if entry.name >= since]
