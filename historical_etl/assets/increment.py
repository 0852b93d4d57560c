"""The increment: `daily_prices` brought up to the last closed session, whatever years that touches.

An increment finds its years by itself, and the run that it belongs to was asked for some. Dagster writes the event of
each year that a step was asked for; that is right where the increment changed them all. Otherwise this step writes the
events of the years that it did change, and none for the others. Dagster then skips `price_catalog`, and does not run it
after a failure either. So that the catalog shows every commit, this step sees to it in these two cases.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from historical_etl.assets.changes import Changes
from historical_etl.assets.market import Market
from historical_etl.assets.reporting import Materialized, YearReport, as_failure, named, reports_of, unfetched
from historical_etl.errors import HistoricalETLError, NotPublishedError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLResult, Outcome, combined_checksum

__all__ = ["Increment", "Updates", "update", "years_asked_for"]

#: Makes each run of the library that an increment needs; yields its result with the version that it was based on.
Updates = Callable[[HistoricalETL, Sequence[str] | None], Iterator[tuple[ETLResult, int]]]


def update(etl: HistoricalETL, symbols: Sequence[str] | None) -> Iterator[tuple[ETLResult, int]]:
    """One run over every stored symbol, or over those that are named."""
    manifest = etl.manifest()
    # Past the end of the calendar the run still publishes what is known; the check on it fails, and the sensor's tick.
    result = etl.run_incremental_etl(symbols, publish=False, beyond_calendar=True)
    yield result, manifest.version if manifest else 0


def years_asked_for(context: dg.AssetExecutionContext) -> list[str]:
    """The partition keys of the run; none if it was launched without any."""
    partitioned = context.has_partition_key or context.has_partition_key_range
    return list(context.partition_keys) if partitioned else []


class Increment:
    """One increment, in the step of `daily_prices`.

    Args:
        context: of the step.
        market: whose prices they are.
        etl: the store.
        updates: the runs that it consists of.
        show: lets the catalog show what is committed, from this step; is given whether that is ledgers only.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        market: Market,
        etl: HistoricalETL,
        *,
        updates: Updates,
        show: Callable[[bool], None],
    ) -> None:
        self._context = context
        self._market = market
        self._etl = etl
        self._updates = updates
        self._show = show
        self._asked_for = years_asked_for(context)
        self._reports: dict[str, YearReport] = {}
        self._missing: dict[str, str] = {}

    def run(self, symbols: Sequence[str] | None) -> Iterator[Materialized]:
        """Update, report, and fail if the source did not deliver some symbols.

        Yields the result of the step if Dagster is to write the events and to go on with `price_catalog`.

        Raises:
            Failure: the update failed, the catalog cannot be published, or symbols are missing.
        """
        before = self._etl.manifest()
        try:
            for result, since in self._updates(self._etl, symbols):
                self._note(result, since)
        except NotPublishedError as error:  # no failure: the sensor asks again, with growing pauses
            self._context.log.info("Nothing new yet: %s", error)
        except HistoricalETLError as error:
            self._log_events(self._reports)
            nothing_to_update = symbols is None and self._etl.manifest() is None
            raise as_failure(error, self._market.how_to_fill if nothing_to_update else None) from error
        self._warn_of_other_years()
        if self._asked_for and set(self._asked_for) <= set(self._reports) and not self._missing:
            yield self._result()
            return
        self._log_events(self._reports)
        self._show(not self._reports and self._etl.manifest() != before)
        if self._missing:
            raise dg.Failure(
                f"{len(self._missing)} symbol(s) were not delivered: {named(self._missing)}. The others are committed "
                "and in the catalog. The next run asks for these again.",
                {"missing": dg.MetadataValue.json(self._missing)},
                allow_retries=False,
            )

    def _note(self, result: ETLResult, since: int) -> None:
        changes = Changes.of(self._etl, result, since)
        for report in reports_of(self._etl, result.years_written, changes):
            before = self._reports.get(report.key)
            self._reports[report.key] = before.followed_by(report) if before else report
        self._context.log.info(_summary(result, changes))
        self._missing |= {symbol: outcome.value for symbol, outcome in _missing(self._etl, result).items()}

    def _warn_of_other_years(self) -> None:
        """Of years before the newest one, nothing new is to be expected: whoever chose one may want it as a whole."""
        newest = str(self._etl.available_through().year)
        if passed_over := [key for key in self._asked_for if key not in self._reports and key < newest]:
            self._context.log.warning(
                "%s: not fetched as a whole, and nothing of it changed. An increment brings every symbol up to the "
                "last session, whatever partition it is launched for. To fetch a year, materialize %s for it in the "
                "asset graph, or run %s",
                ", ".join(passed_over),
                self._market.prices.to_user_string(),
                self._market.named("backfill_job"),
            )

    def _result(self) -> Materialized:
        self._log_events(set(self._reports) - set(self._asked_for))
        for key in self._asked_for:
            report = self._reports[key]
            self._context.add_asset_metadata(report.metadata_with_changes, partition_key=key)
        checksums = [self._reports[key].partition.checksum for key in self._asked_for]
        version = checksums[0] if len(checksums) == 1 else combined_checksum(checksums)
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    def _log_events(self, keys: "set[str] | dict[str, YearReport]") -> None:
        for key in sorted(keys):
            self._context.log_event(self._reports[key].materialization(self._market.prices))


def _missing(etl: HistoricalETL, result: ETLResult) -> dict[str, Outcome]:
    """The symbols for which a run is to fail. Where nobody has the session yet, the sensor asks again anyway."""
    manifest = etl.manifest()
    behind = manifest is None or not manifest.reaches(etl.available_through())
    return {s: o for s, o in unfetched(result).items() if not (behind and o is Outcome.NOT_PUBLISHED)}


def _summary(result: ETLResult, changes: Changes) -> str:
    years = ", ".join(map(str, result.years_written)) or "none"
    held = f"; held: {named(result.held)}" if result.held else ""
    changed = f"; {changes.change_summary()}" if changes.change_summary() else ""
    return (
        f"{result.total_rows} rows of {result.symbols_processed} symbols, {result.start_date} to {result.end_date}; "
        f"years changed: {years}; version {result.version}{changed}{held}; {result.sessions_missing} session(s) missing"
    )
