"""`daily_prices`: the bars of each year, fetched, validated and committed.

A run fills one year or a range of them, or it brings the store up to the last closed session: `increment` has that.

Every year that is filled is a commit of its own. Dagster writes the events of a range when its step ends well; a step
that ends badly reports the years that it had committed by itself, so that a year shows as materialized if and only if
it is in the store. What a `kill -9` leaves unreported is found by `report_unseen_years`.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final

import dagster as dg
from dagster import PartitionsDefinition
from pydantic import Field

from historical_etl.assets.changes import Changes
from historical_etl.assets.increment import Increment, Updates, update, years_asked_for
from historical_etl.assets.market import Market
from historical_etl.assets.price_catalog import is_in_run, show_from_another_step
from historical_etl.assets.reporting import (
    CODE_VERSION,
    COLUMN_SCHEMA,
    OWNERS,
    Materialized,
    YearReport,
    as_failure,
    named,
    outcome_table,
    plan_facts,
    reports_of,
    unfetched,
)
from historical_etl.errors import (
    ConfigurationError,
    CoverageError,
    DataQualityError,
    HistoricalETLError,
    LockNotHeldError,
    LockTimeoutError,
    ManifestCorruptError,
    ProviderUnavailableError,
    RateLimitedError,
    StorageError,
)
from historical_etl.etl.commit import what_frees
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLResult, Partition, combined_checksum

if TYPE_CHECKING:
    from historical_etl.etl.runs import PriceRuns

__all__ = ["MODE_TAG", "Mode", "PricesConfig", "build_daily_prices"]

#: Of a job whose runs have this mode, unless their configuration says otherwise. Dagster applies the configuration of
#: a job to runs of one partition only, and not to those of a range or of none.
MODE_TAG: Final = "historical_etl/mode"
#: What would fail the next year too: trying it would only cost time, or anger the source.
_ENDS_THE_RUN = (RateLimitedError, StorageError, LockTimeoutError, LockNotHeldError, ManifestCorruptError)


class Mode(Enum):
    """What a run of `daily_prices` does. Run configuration names the members."""

    year = "year"
    incremental = "incremental"


class PricesConfig(dg.Config):
    """What a run does, and for which symbols."""

    mode: Mode | None = Field(
        default=None,
        description="`year` fetches the years of the run as a whole. `incremental` fetches what is newer than each "
        "symbol's last stored session, whatever year it is of. Default: `incremental` in daily_incremental_job, "
        "`year` everywhere else.",
    )
    symbols: list[str] | None = Field(
        default=None,
        description="Only these; rows of others stay as they are. Default: the universe of each year, or for an "
        "increment all stored symbols.",
    )


def build_daily_prices(
    market: Market,
    years: PartitionsDefinition[str],
    freshness: dg.FreshnessPolicy | None = None,
    *,
    updates: Updates = update,
    tags: dict[str, str] | None = None,
) -> dg.AssetsDefinition:
    """The asset, over the years that the source covers; `updates` are the runs that an increment consists of."""

    @dg.asset(
        key=market.prices,
        partitions_def=years,
        # 27 runs are five minutes of overhead, and would ask a vendor 27 times for what one request gives.
        backfill_policy=dg.BackfillPolicy.single_run(),
        # An increment may have nothing to show for the year that it was asked for.
        output_required=False,
        freshness_policy=freshness,
        required_resource_keys=market.resource_names,
        group_name=market.named("prices"),
        owners=OWNERS,
        code_version=CODE_VERSION,
        kinds={"polars", "parquet"},
        tags=tags,
        metadata={"dagster/column_schema": COLUMN_SCHEMA},
        description="Daily bars of one calendar year: `historical/daily/<year>.parquet` in the data folder.",
    )
    def daily_prices(context: dg.AssetExecutionContext, config: PricesConfig) -> Iterator[Materialized]:
        etl = market.store(context.resources).open(market.source(context.resources), context.run.run_id)
        if not is_in_run(context, market):
            context.log.info(
                "%s is not part of this run: it shows what is committed here once it is materialized, which %s does",
                market.catalog.to_user_string(),
                market.follower,
            )
        if (config.mode or Mode(context.run.tags.get(MODE_TAG, Mode.year.value))) is Mode.incremental:
            increment = Increment(
                context,
                market,
                etl,
                updates=updates,
                show=lambda only_ledgers: show_from_another_step(context, market, years, only_ledgers=only_ledgers),
            )
            yield from increment.run(config.symbols)
            return
        run = _Years(context, market, etl)
        run.fill(config.symbols)
        yield run.finish()

    return daily_prices


class _YearsFailedError(Exception):
    """Leaves the block of what was prefetched, so that it stays staged for the next run of the same years."""


class _Years:
    """The years of one run: those committed, each with its report, and those that failed."""

    def __init__(self, context: dg.AssetExecutionContext, market: Market, etl: HistoricalETL) -> None:
        self._context = context
        self._market = market
        self._etl = etl
        self._runs: HistoricalETL | PriceRuns = etl
        self._keys = years_asked_for(context)
        self._committed: dict[str, YearReport] = {}
        self._failed: dict[str, HistoricalETLError] = {}
        self._untried: list[str] = []

    def fill(self, symbols: list[str] | None) -> None:
        """Fetch the years at once where that saves requests, and commit one after the other.

        A bad year does not stop the others. What was fetched stays staged until all are committed.
        """
        try:
            with (
                suppress(_YearsFailedError),
                self._etl.prefetched([int(key) for key in self._keys], symbols) as self._runs,
            ):
                self._fill_years(symbols)
        except HistoricalETLError as error:  # from the fetch: no year was tried
            self._failed[self._keys[0]] = error
            self._untried = self._keys[1:]
        except BaseException:
            # SIGTERM raises one that is no Exception.
            self._report_committed()
            raise

    def _fill_years(self, symbols: list[str] | None) -> None:
        for position, key in enumerate(self._keys, start=1):
            before = self._stored(key)
            try:
                self._fill_year(key, symbols)
            except HistoricalETLError as error:
                self._note(key, error, before)
                if isinstance(error, _ENDS_THE_RUN):
                    self._untried = self._keys[position:]
                    break
        # What the source turned out not to cover, the next run will not get either: nothing stays staged for that.
        if not all(isinstance(error, CoverageError) for error in self._failed.values()):
            raise _YearsFailedError

    def finish(self) -> Materialized:
        """Report everything; Dagster then writes one event for each year of the run.

        Raises:
            Failure: a year failed, or lacks symbols for reasons of the source.
        """
        if not self._keys:
            todo = "choose a partition, or a range of them with the earlier year first"
            raise as_failure(ConfigurationError("The run holds no year", todo=todo))
        incomplete = {key: lacking for key, report in self._committed.items() if (lacking := _lacking(report))}
        if self._failed or incomplete:
            self._report_committed()
            raise self._failure(incomplete)
        for key, report in self._committed.items():
            self._context.add_asset_metadata(report.metadata_with_changes, partition_key=key)
        checksums = [report.partition.checksum for report in self._committed.values()]
        # One run has one data version for all its years. Over a range it changes when any of them does.
        version = checksums[0] if len(checksums) == 1 else combined_checksum(checksums)
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    def _fill_year(self, key: str, symbols: list[str] | None) -> None:
        manifest = self._etl.manifest()
        result = self._runs.run_year(int(key), symbols, publish=False)
        if self._stored(key) is None or result.symbols_processed == 0:
            raise _nothing_fetched(key, result)
        changes = Changes.of(self._etl, result, manifest.version if manifest else 0)
        for report in reports_of(self._etl, {int(key), *result.years_written}, changes):
            if report.key == key:
                self._committed[key] = report
                self._context.log.info("%s: %s", key, report.summary)
            elif report.key in self._committed:
                self._committed[report.key] = self._committed[report.key].followed_by(report)
            elif report.key not in self._keys or report.change_summary:
                # The first `ret` of the year after it, or a history that was restated. A year of this run whose turn
                # is still to come is reported then; but a change that is not reported now is not reported again.
                self._context.log_event(report.materialization(self._market.prices, f"Changed by the commit of {key}"))

    def _note(self, key: str, error: HistoricalETLError, before: Partition | None) -> None:
        """Remember a failure. It may have happened after the commit, where progress is saved."""
        self._context.log.error("%s failed: %s", key, error)
        self._failed[key] = error
        if self._stored(key) != before:
            self._committed |= {report.key: report for report in reports_of(self._etl, {int(key)})}

    def _stored(self, key: str) -> Partition | None:
        manifest = self._etl.manifest()
        return manifest.partition(int(key)) if manifest else None

    def _report_committed(self) -> None:
        for report in self._committed.values():
            self._context.log_event(report.materialization(self._market.prices))

    def _failure(self, incomplete: Mapping[str, str]) -> dg.Failure:
        troubles = {key: str(error) for key, error in self._failed.items()} | dict(incomplete)
        if self._untried:
            troubles[_span(self._untried)] = "skipped: the same error would occur"
        good = [key for key in self._committed if key not in troubles]
        lines = [f"{key}: {trouble}" for key, trouble in sorted(troubles.items())]
        lines.append(f"Committed and complete: {', '.join(good) or 'none'}.")
        if self._committed:
            lines.append("price_catalog does not show these commits until it is materialized.")
        count = len(self._failed) + len(self._untried)
        title = f"{count} of {len(self._keys)} years failed" if count else "Symbols are missing"
        metadata: dict[str, dg.MetadataValue] = {
            "years_failed": dg.MetadataValue.json([*self._failed, *self._untried]),
            "years_incomplete": dg.MetadataValue.json(list(incomplete)),
            "years_committed": dg.MetadataValue.json(list(self._committed)),
            **plan_facts(self._etl),
        }
        for key in incomplete:
            result = self._committed[key].result
            if result is not None:
                metadata[f"missing_in_{key}"] = outcome_table(result, unfetched(result))
        return dg.Failure(
            f"{title}.\n" + "\n".join(lines),
            metadata,
            allow_retries=all(error.retryable for error in self._failed.values()),
        )


def _lacking(report: YearReport) -> str:
    """What a committed year lacks for reasons of the source; empty if nothing."""
    lacking = unfetched(report.result) if report.result else {}
    if not lacking:
        return ""
    return f"committed, but {len(lacking)} symbol(s) were not delivered: {named(lacking)}"


def _nothing_fetched(key: str, result: ETLResult) -> HistoricalETLError:
    kinds = sorted({outcome.value for outcome in result.outcomes.values()})
    symbol, why = next(iter(result.held.items()), ("", ""))
    words = f"{symbol}: {why}" if why else next(iter(result.details.values()), "")
    found = f"{len(result.outcomes)} symbol(s), {', '.join(kinds)}{words and f'; {words}'}"
    message = f"The source delivered nothing for {key}: {found}"
    if result.held:
        todo = f"{what_frees(why.partition(':')[0], symbol)}; `historical-etl holds` shows the evidence"
        return DataQualityError(message, where=key, todo=todo)
    todo = "check the symbols and what the source covers; what is stored is unchanged"
    if unfetched(result):
        return ProviderUnavailableError(message, where=key, todo=todo)
    return ConfigurationError(message, where=key, todo=todo)


def _span(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]}-{keys[-1]}"
