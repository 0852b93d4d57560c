"""What Dagster shows of a committed year, and how failures reach it. Facts come from the manifest and the result."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import polars as pl

from historical_etl.assets.changes import Changes
from historical_etl.assets.tables import TABLE_ROWS, markdown_table
from historical_etl.errors import HistoricalETLError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import SCHEMA_VERSION, ETLResult, Outcome, Partition, SyncManifest
from historical_etl.schema import PRIMARY_KEYS, SCHEMA
from historical_etl.store.verified_files import collected, verified_path

__all__ = [
    "CODE_VERSION",
    "COLUMN_SCHEMA",
    "OWNERS",
    "Materialized",
    "Metadata",
    "YearReport",
    "as_failure",
    "named",
    "outcome_table",
    "plan_facts",
    "report_unseen_years",
    "reports_of",
    "unfetched",
    "version_tags",
]

OWNERS: Final = ("team:historical-etl",)
#: What decides the bytes of a year: equal rows are equal bytes for one schema and one version of Polars.
CODE_VERSION: Final = f"schema-{SCHEMA_VERSION}-polars-{pl.__version__}"
#: How Dagster marks versions on an event; it exports no names for them.
_DATA_VERSION_TAG: Final = "dagster/data_version"
_DATA_VERSION_IS_USER_PROVIDED_TAG: Final = "dagster/data_version_is_user_provided"
_CODE_VERSION_TAG: Final = "dagster/code_version"
#: Outcomes that are the source's trouble and not a fact about the symbol: asking again may help.
_TROUBLE: Final = (Outcome.NOT_PUBLISHED, Outcome.RATE_LIMITED, Outcome.ERROR)
#: What was said when a year itself was asked for; no later commit has a better word on it.
_OF_THE_ASKING: Final = (
    "changed",
    "refused_rows",
    "refused_by_reason",
    "flagged_by_reason",
    "symbols_missing",
    "missing",
    "corrections",
)
_PREVIEW_ROWS: Final = 5
_NAMED: Final = 10
_TYPES: Final = {"Date": "date", "String": "string", "Float64": "double"}
_MEANING: Final = {
    "date": "The exchange's local session",
    "symbol": "Upper case",
    "volume": "Shares; fractional ones are reported since 2026",
    "ret": "Total return since the symbol's previous stored session; 0.01 is 1 %",
    "adj_close": "Close adjusted for splits and dividends, as the source delivers it",
}

Metadata = Mapping[str, dg.MetadataValue]
if TYPE_CHECKING:
    Materialized = dg.MaterializeResult[Any]
else:
    # What Dagster reads at run time: it knows the bare class only.
    Materialized = dg.MaterializeResult

COLUMN_SCHEMA: Final = dg.TableSchema(
    columns=[
        dg.TableColumn(
            name,
            _TYPES[str(dtype)],
            description=_MEANING.get(name),
            constraints=dg.TableColumnConstraints(nullable=name not in {*PRIMARY_KEYS, "close"}),
        )
        for name, dtype in SCHEMA.items()
    ],
    constraints=dg.TableConstraints(other=[f"one row for each ({', '.join(PRIMARY_KEYS)})"]),
)


@dataclass(frozen=True)
class YearReport:
    """A committed year.

    Attributes:
        partition: as the manifest names it.
        metadata: what Dagster shows of it.
        summary: a line for the log.
        result: of the run that committed it, None where that is not known.
        change_summary: what changed of that which was stored before; empty if nothing did.
    """

    partition: Partition
    metadata: Metadata
    summary: str
    result: ETLResult | None = None
    change_summary: str = ""

    @property
    def key(self) -> str:
        """The partition key."""
        return str(self.partition.year)

    @property
    def metadata_with_changes(self) -> dict[str, dg.MetadataValue]:
        """For the event that Dagster writes by itself, which has no description: what changed is in the metadata."""
        changed = {"what_changed": dg.MetadataValue.text(self.change_summary)} if self.change_summary else {}
        return changed | dict(self.metadata)

    def materialization(self, key: dg.AssetKey, found: str = "") -> dg.AssetMaterialization:
        """The event that shows this year as materialized. Equal bytes, equal data version.

        Args:
            key: of the asset.
            found: why the year is reported, if it is not one that the run was for.
        """
        return dg.AssetMaterialization(
            key,
            description=": ".join(part for part in (found, self.change_summary) if part) or None,
            partition=self.key,
            metadata=self.metadata,
            # Without a result another process has written it, perhaps another release.
            tags=version_tags(self.partition.checksum, CODE_VERSION if self.result else None),
        )

    def followed_by(self, later: "YearReport") -> "YearReport":
        """This report, after another commit of the same run has changed the year once more."""
        asked = set(_OF_THE_ASKING) - ({"corrections"} if "corrected" in later.metadata else set())
        own = {name: self.metadata[name] for name in asked if name in self.metadata}
        metadata = {**self.metadata, **later.metadata, **own}
        change_summary = "; ".join(part for part in (self.change_summary, later.change_summary) if part)
        return replace(self, partition=later.partition, metadata=metadata, change_summary=change_summary)


def reports_of(etl: HistoricalETL, years: Collection[int], changes: Changes | None = None) -> list[YearReport]:
    """Reports on those of `years` that are stored, in their order; `changes` is what the run did to them."""
    manifest = etl.manifest()
    return [
        _report(etl, manifest, partition, changes.of_year(partition.year) if changes else None)
        for partition in (manifest.partitions if manifest else ())
        if manifest and partition.year in years
    ]


def version_tags(data_version: str, code_version: str | None) -> dict[str, str]:
    """The tags by which Dagster reads versions from an event that it does not write by itself."""
    tags = {_DATA_VERSION_TAG: data_version, _DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    return tags | ({_CODE_VERSION_TAG: code_version} if code_version else {})


def report_unseen_years(
    instance: dg.DagsterInstance, key: dg.AssetKey, etl: HistoricalETL, years: Iterable[str]
) -> list[str]:
    """Report committed years that Dagster's last event on them does not describe; returns their keys.

    They were committed by the command line, or by a run that was killed between its commit and its end: Dagster
    writes the events of a range when its step ends.

    Args:
        instance: where events are stored.
        key: of `daily_prices`.
        etl: the store.
        years: the keys that Dagster knows; others are left alone.
    """
    manifest, known = etl.manifest(), set(years)
    unseen = {
        partition.year
        for partition in (manifest.partitions if manifest else ())
        if str(partition.year) in known and _last_checksum(instance, key, str(partition.year)) != partition.checksum
    }
    found = reports_of(etl, unseen)
    for report in found:
        instance.report_runless_asset_event(report.materialization(key, "Found in the store"))
    return [report.key for report in found]


def unfetched(result: ETLResult) -> dict[str, Outcome]:
    """The symbols that the source did not deliver for its own reasons."""
    return {symbol: outcome for symbol, outcome in result.outcomes.items() if outcome in _TROUBLE}


def named(symbols: Mapping[str, str]) -> str:
    """The first few symbols with their outcomes, in one line."""
    few = list(symbols.items())[:_NAMED]
    return ", ".join(f"{symbol} ({outcome})" for symbol, outcome in few) + (", …" if len(symbols) > _NAMED else "")


def as_failure(error: HistoricalETLError, todo: str | None = None) -> dg.Failure:
    """How one of our errors ends a step; it is retried only where asking again may help.

    Args:
        error: what happened.
        todo: the next step, where Dagster has a better one.
    """
    if todo is not None:
        error = type(error)(error.what, where=error.where, todo=todo)
    facts = {"error": type(error).__name__, "where": error.where or "", "next": error.todo}
    return dg.Failure(
        str(error), {name: dg.MetadataValue.text(fact) for name, fact in facts.items()}, allow_retries=error.retryable
    )


def outcome_table(result: ETLResult, outcomes: Mapping[str, Outcome]) -> dg.TableMetadataValue:
    """Symbols, what became of them, and why."""
    records = [
        dg.TableRecord({"symbol": symbol, "outcome": outcome.value, "why": result.details.get(symbol, "")})
        for symbol, outcome in list(outcomes.items())[:TABLE_ROWS]
    ]
    columns = [dg.TableColumn(name, "string") for name in ("symbol", "outcome", "why")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def plan_facts(etl: HistoricalETL) -> dict[str, dg.MetadataValue]:
    """What the plan of the vendor's account does not give, if that is known."""
    plan = etl.source.info.plan
    return {"plan": dg.MetadataValue.text(plan)} if plan else {}


def _report(etl: HistoricalETL, manifest: SyncManifest, partition: Partition, changes: Changes | None) -> YearReport:
    facts = _stored_facts(etl, manifest, partition) | plan_facts(etl)
    if changes is None:
        return YearReport(partition, facts, _summary(partition, manifest.version, None))
    result = changes.result
    # What changed is first: it is what somebody opens the event for.
    metadata = changes.metadata() | facts | _run_facts(changes, partition.year)
    return YearReport(
        partition, metadata, _summary(partition, manifest.version, result), result, changes.change_summary()
    )


def _summary(partition: Partition, version: int, result: ETLResult | None) -> str:
    unchanged = result is not None and not result.changed
    return (
        f"{partition.rows} rows of {partition.symbols} symbols, {partition.first_session} to {partition.last_session},"
        f" version {version}{', unchanged' if unchanged else ''}"
    )


def _stored_facts(etl: HistoricalETL, manifest: SyncManifest, partition: Partition) -> dict[str, dg.MetadataValue]:
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(partition.rows),
        "dagster/uri": dg.MetadataValue.url(etl.layout.daily_file(partition.year).as_uri()),
        "symbols": dg.MetadataValue.int(partition.symbols),
        "first_session": dg.MetadataValue.text(str(partition.first_session)),
        "last_session": dg.MetadataValue.text(str(partition.last_session)),
        "bytes": dg.MetadataValue.int(partition.size_bytes),
        "checksum": dg.MetadataValue.text(partition.checksum),
        "version": dg.MetadataValue.int(manifest.version),
        "file": dg.PathMetadataValue(str(etl.layout.daily_file(partition.year))),
        "preview": _preview(verified_path(etl.layout, partition)),
    }


def _run_facts(changes: Changes, year: int) -> dict[str, dg.MetadataValue]:
    result = changes.result
    missing = {symbol: outcome for symbol, outcome in result.outcomes.items() if outcome is not Outcome.OK}
    facts: dict[str, dg.MetadataValue] = {
        "changed": dg.MetadataValue.bool(year in result.years_written),
        "refused_rows": dg.MetadataValue.int(result.rows_rejected),
        "corrections": dg.MetadataValue.int(changes.corrected.height),
        "sessions_missing": dg.MetadataValue.int(result.sessions_missing),
        "symbols_missing": dg.MetadataValue.int(len(missing)),
    }
    if result.rejected_by_reason:
        facts["refused_by_reason"] = dg.MetadataValue.json(result.rejected_by_reason)
    if result.flagged_by_reason:
        facts["flagged_by_reason"] = dg.MetadataValue.json(result.flagged_by_reason)
    if result.quarantine_paths:
        facts["quarantine"] = dg.MetadataValue.json(list(result.quarantine_paths))
    if missing:
        facts["missing"] = outcome_table(result, missing)
    if result.disk_warnings:
        facts["disk_warnings"] = dg.MetadataValue.text("\n".join(result.disk_warnings))
    return facts


def _preview(path: Path) -> dg.MarkdownMetadataValue:
    rows = collected(pl.scan_parquet(path, n_rows=_PREVIEW_ROWS), path)
    return markdown_table(rows.columns, rows.with_columns(pl.col(pl.Float64).round(6)).iter_rows())


def _last_checksum(instance: dg.DagsterInstance, key: dg.AssetKey, year: str) -> object:
    records = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[year]), limit=1)
    event = records.records[0].asset_materialization if records.records else None
    return event.metadata["checksum"].value if event and "checksum" in event.metadata else None
