"""What runs by itself or by one click: the jobs, the daily sensor, and the catalog's follower.

When to ask and what to do after a failure is decided here. What a run then does is the library's.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster import PartitionsDefinition
from pydantic import BaseModel, Field

from historical_etl.assets.changes import Changes
from historical_etl.assets.checks import evaluate, evaluations
from historical_etl.assets.price_catalog import catalog_metadata
from historical_etl.assets.reporting import (
    CATALOG_KEY,
    PRICES_KEY,
    as_failure,
    named,
    report_unseen_years,
    reports_of,
    unfetched,
)
from historical_etl.errors import ConfigurationError, HistoricalETLError, NotPublishedError
from historical_etl.etl.fetch.requests import ended_calendar
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLResult, Outcome, SyncManifest
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource
from historical_etl.settings import Settings
from historical_etl.strict_json import object_of

__all__ = [
    "ATTEMPT_TAG",
    "SESSION_TAG",
    "backfill_job",
    "build_catalog_follower",
    "build_incremental_job",
    "build_incremental_sensor",
    "pause_after",
]

SESSION_TAG: Final = "historical_etl/session"
ATTEMPT_TAG: Final = "historical_etl/attempt"
_INCREMENTAL: Final = "daily_incremental_job"
_EVERY_SECONDS: Final = 300
_REPLAY_SECONDS: Final = 5
#: A session that is in the store is done. For symbols that the source failed to deliver, or a catalog that could not
#: be published, a run is repeated so often; then that is left to the next session's run, which asks for them too.
_ATTEMPTS_TO_COMPLETE: Final = 3
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=6)
_UNFINISHED: Final = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


class IncrementConfig(dg.Config):
    """What a run may narrow."""

    symbols: list[str] | None = Field(default=None, description="Only these. Default: all that the store knows.")


backfill_job = dg.define_asset_job(  # pyright: ignore[reportUnknownMemberType] - a bare PathLike in Dagster's signature
    "backfill_job",
    selection=dg.AssetSelection.assets(PRICES_KEY).downstream(),
    description="Fetch years and publish the catalog. For several years launch a backfill from the asset graph, "
    "with both assets selected: that is one run for all years and one for the catalog. A backfill of this job is a "
    "run for each year.",
)


@dg.op(description="Fetch from each symbol's cursor and commit, in one commit over all years.")
def update_prices(
    context: dg.OpExecutionContext, config: IncrementConfig, store: StoreResource, source: PriceSourceResource
) -> dict[str, str]:
    """Returns the symbols that the source did not deliver."""
    etl = store.open(source, context.run_id)
    missing: dict[str, str] = {}
    try:
        for result, since in _updates(etl, config.symbols, replaying=store.replays(source)):
            changes = Changes.of(etl, result, since)
            for report in reports_of(etl, result.years_written, changes):
                context.log_event(report.materialization())
            context.log.info(_update_summary(result, changes))
            missing |= {symbol: outcome.value for symbol, outcome in _lacking(etl, result).items()}
    except NotPublishedError as error:  # no failure: the sensor asks again, with growing pauses
        context.log.info("Nothing new yet: %s", error)
    except HistoricalETLError as error:
        raise as_failure(error) from error
    return missing


@dg.op(
    ins={"refreshed": dg.In(dg.Nothing)},
    description="Fail if the source did not deliver some symbols. By now what came is committed and published.",
)
def require_all_symbols(missing: dict[str, str]) -> None:
    """Raises `Failure` if any is missing."""
    if missing:
        raise dg.Failure(
            f"{len(missing)} symbol(s) did not come: {named(missing)}. The others are committed and in the catalog."
            " The next run asks for these from where they stand.",
            {"missing": dg.MetadataValue.json(missing)},
            allow_retries=False,
        )


def build_incremental_job(years: PartitionsDefinition[str]) -> dg.JobDefinition:
    """Every symbol up to the last closed session. It needs no partition: it finds the years it touches by itself."""

    @dg.op(
        ins={"updated": dg.In(dg.Nothing)},
        description="Make the catalog show what is committed, and report the checks on it.",
    )
    def refresh_catalog(
        context: dg.OpExecutionContext, store: StoreResource, source: PriceSourceResource, catalog: CatalogResource
    ) -> None:
        etl = store.open(source, context.run_id, looking=True)
        try:
            manifest = etl.publish_catalog()
            checks = evaluations(evaluate(context.instance, etl, manifest, catalog))
        except HistoricalETLError as error:
            raise as_failure(error) from error
        context.log_event(dg.AssetMaterialization(CATALOG_KEY, metadata=catalog_metadata(etl, manifest)))
        for found in checks:
            context.log_event(found)  # pyright: ignore[reportArgumentType] - taken, but not in the method's type
        report_unseen_years(context.instance, etl, years.get_partition_keys())
        for found in checks:
            if found.blocking and not found.passed:
                raise dg.Failure(f"{found.check_name}: {found.description}", found.metadata, allow_retries=False)

    @dg.job(  # pyright: ignore[reportUnknownMemberType] - likewise
        name=_INCREMENTAL, executor_def=dg.in_process_executor, description=build_incremental_job.__doc__
    )
    def daily_incremental_job() -> None:
        missing = update_prices()
        require_all_symbols(missing, refreshed=refresh_catalog(updated=missing))

    return daily_incremental_job


def build_incremental_sensor(settings: Settings, *, replaying: bool = False) -> dg.SensorDefinition:
    """Asks for a run once the exchange has closed and the vendor had time to settle; off unless a setting says on.

    In a replay it asks for one session after the other, as fast as they are stored, and first for the history.
    """

    @dg.sensor(  # pyright: ignore[reportUnknownMemberType] - likewise
        name="daily_incremental_sensor",
        job_name=_INCREMENTAL,
        minimum_interval_seconds=_REPLAY_SECONDS if replaying else _EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.sensor_on else dg.DefaultSensorStatus.STOPPED,
        description="Requests daily_incremental_job for each session, and again with growing pauses if that fails. "
        "Off until switched on here, or by HISTORICAL_ETL_SENSOR_ON=true.",
    )
    def daily_incremental_sensor(
        context: dg.SensorEvaluationContext, store: StoreResource, source: PriceSourceResource
    ) -> dg.SensorResult:
        # An error of ours ends the tick as failed, with its words: a broken store must not look like a quiet day.
        return _Tick(context, store, source).result()

    return daily_incremental_sensor


def build_catalog_follower() -> dg.AutomationConditionSensorDefinition:
    """Evaluates the catalog's automation condition. On from the start: it costs no vendor anything."""
    return dg.AutomationConditionSensorDefinition(
        # Dagster's own name for it: any other would leave a second, empty one beside it.
        "default_automation_condition_sensor",
        target=dg.AssetSelection.assets(CATALOG_KEY),
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


class SensorCursor(BaseModel):
    """What the sensor remembers: the last session confirmed in the store, and its attempts at the one after."""

    confirmed: date | None = None
    session: date | None = None
    attempt: int = 0


class _Tick:
    """One look at the clock, the store and the runs."""

    def __init__(self, context: dg.SensorEvaluationContext, store: StoreResource, source: PriceSourceResource) -> None:
        self._instance = context.instance
        self._etl = store.open(source)
        self._replaying = store.replays(source)
        self._now = store.now()
        self._session = self._etl.available_through()
        self._cursor = _read_cursor(context.cursor)

    def result(self) -> dg.SensorResult:
        """Skip, saying why, or request the next attempt."""
        manifest = self._etl.manifest()
        if manifest is None and not self._replaying:
            return self._skip(
                f"The store at {self._etl.layout.root} is empty. Backfill first: materialize daily_prices, or run "
                "`historical-etl backfill`"
            )
        if self._replaying and manifest is not None:
            _require_replayed(self._etl, manifest)
        if running := self._newest(_UNFINISHED):
            return self._skip(_in_progress(running))
        last = self._newest(None, {SESSION_TAG: str(self._session)})
        failed = last is not None and last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS
        attempt = self._attempts(last)
        reached = manifest is not None and manifest.reaches(self._session)
        if reached and self._etl.calendar_has_ended():
            raise ended_calendar(self._etl.calendar)  # a session that nobody asks for must not look like a quiet day
        if reached and (not failed or attempt >= _ATTEMPTS_TO_COMPLETE):
            # Read from the manifest: a request, or a run that says it went well, confirms nothing.
            self._cursor = SensorCursor(confirmed=self._session)
            lacking = f" {_left(last, attempt)}" if last and failed else ""
            return self._skip(f"Current through {self._session}.{lacking} {self._next_session()}")
        # A run that ended after now did so by a clock that has gone back since: its pause would not end for as long.
        if last is not None and _ended(last) <= self._now < (due := _ended(last) + pause_after(attempt)):
            through = manifest.end_date if manifest else None
            outcome = f"left the store at {through}" if through else "left the store empty"
            trouble = f"ended as {last.dagster_run.status.value}" if failed else outcome
            return self._skip(
                f"Attempt {attempt} for {self._session} {trouble} (run {last.dagster_run.run_id}); "
                f"attempt {attempt + 1} at {_at(due)}"
            )
        return self._request(attempt + 1)

    def _request(self, attempt: int) -> dg.SensorResult:
        self._cursor = self._cursor.model_copy(update={"session": self._session, "attempt": attempt})
        tags = {SESSION_TAG: str(self._session), ATTEMPT_TAG: str(attempt)}
        # Dagster remembers a key for ever: the session alone would never be tried again.
        request = dg.RunRequest(run_key=f"{self._session}:{attempt}", tags=tags)
        return dg.SensorResult(run_requests=[request], cursor=self._cursor.model_dump_json())

    def _skip(self, reason: str) -> dg.SensorResult:
        return dg.SensorResult(skip_reason=reason, cursor=self._cursor.model_dump_json())

    def _newest(
        self, statuses: Sequence[dg.DagsterRunStatus] | None, tags: dict[str, str] | None = None
    ) -> dg.RunRecord | None:
        runs = dg.RunsFilter(job_name=_INCREMENTAL, statuses=statuses, tags=tags)
        return next(iter(self._instance.get_run_records(runs, limit=1)), None)

    def _attempts(self, last: dg.RunRecord | None) -> int:
        """How often this session was asked for: the runs may have been deleted, or the cursor been reset."""
        requested = self._cursor.attempt if self._cursor.session == self._session else 0
        tagged = last.dagster_run.tags.get(ATTEMPT_TAG, "") if last else ""
        return max(requested, int(tagged) if tagged.isdigit() else 0)

    def _next_session(self) -> str:
        calendar, settle = self._etl.calendar, timedelta(minutes=self._etl.settings.settle_minutes)
        if self._replaying:
            return "The replay is at the end of the sample. To see it again, give it another HISTORICAL_ETL_DATA_DIR"
        if self._session < self._etl.last_closed_session():
            return f"The source ends on {self._session}; nothing more will come from it"
        following = calendar.after(self._session)
        if following is None:
            return f"The next session is not known: {calendar.end_in_words()}."
        closes = calendar.close_of(following)
        return f"The next session, {following}, closes at {_at(closes)}; it is asked for from {_at(closes + settle)}"


def _updates(etl: HistoricalETL, symbols: list[str] | None, *, replaying: bool) -> Iterator[tuple[ETLResult, int]]:
    """Each run that a session needs, with the version that stood before it; one, unless the sample is replayed."""
    manifest = etl.manifest()
    if replaying and manifest is None:
        yield _history(etl), 0
        return
    if replaying and manifest is not None and symbols is None and (listed := _listed(etl, manifest)):
        # First: interrupted between the two, what lags is made up for, and what is not known would be forgotten.
        yield etl.run_incremental_etl(listed, publish=False), manifest.version
        manifest = etl.manifest()
    # Past the end of the calendar the run still publishes what is known; the check on it fails, and the sensor's tick.
    result = etl.run_incremental_etl(symbols, publish=False, beyond_calendar=True)
    yield result, manifest.version if manifest else 0


def _lacking(etl: HistoricalETL, result: ETLResult) -> dict[str, Outcome]:
    """The symbols for which a run is to fail. Where nobody has the session yet, the sensor waits for it anyway."""
    manifest = etl.manifest()
    waits = manifest is None or not manifest.reaches(etl.available_through())
    return {s: o for s, o in unfetched(result).items() if not (waits and o is Outcome.NOT_PUBLISHED)}


def _history(etl: HistoricalETL) -> ETLResult:
    """What lies before a replay: somebody who wants to watch it need only switch the sensor on."""
    coverage, end = etl.source.info.coverage, etl.available_through()
    start = max(etl.settings.start, coverage.first) if coverage else etl.settings.start
    return etl.run_full_etl(etl.source.members(start, end), start, end)


def _listed(etl: HistoricalETL, manifest: SyncManifest) -> list[str]:
    """Symbols that came to trade after what is stored: an increment of that does not know them."""
    members = etl.source.members
    first = etl.calendar.after(manifest.end_date) if manifest.end_date else None
    if first is None:
        return []
    return sorted(set(members(first, etl.available_through())) - set(members(None, manifest.end_date)))


def _require_replayed(etl: HistoricalETL, manifest: SyncManifest) -> None:
    """Refuse a store on another price basis: every run would be refused, and none would say it."""
    if manifest.adjustment != etl.source.info.adjustment:
        raise ConfigurationError(
            f"What is stored has another price basis than a replay: {manifest.provider!r}, {manifest.adjustment!r}",
            where=etl.layout.root,
            todo="give the replay a folder of its own with HISTORICAL_ETL_DATA_DIR",
        )


def _update_summary(result: ETLResult, changes: Changes) -> str:
    years = ", ".join(map(str, result.years_written)) or "none"
    held = f"; held: {named(result.held)}" if result.held else ""
    changed = f"; {changes.change_summary()}" if changes.change_summary() else ""
    return (
        f"{result.total_rows} rows of {result.symbols_processed} symbols, {result.start_date} to {result.end_date}; "
        f"years changed: {years}; version {result.version}{changed}{held}; {result.sessions_missing} session(s) missing"
    )


def _left(run: dg.RunRecord, attempt: int) -> str:
    return (
        f"Attempt {attempt} for it ended as {run.dagster_run.status.value} (run {run.dagster_run.run_id}); what that "
        "run lacks is left to the next session's."
    )


def _in_progress(run: dg.RunRecord) -> str:
    session = run.dagster_run.tags.get(SESSION_TAG)
    about = f"for {session} " if session else ""
    return (
        f"Run {run.dagster_run.run_id} {about}is in progress ({run.dagster_run.status.value}, created "
        f"{_at(run.create_timestamp)}). If its process was killed, terminate it on the Runs page, with force"
    )


def _read_cursor(text: str | None) -> SensorCursor:
    try:
        return SensorCursor.model_validate(object_of(text)) if text else SensorCursor()
    except (ValueError, RecursionError):
        # It can be edited by hand in the UI. All it saves can be found again in the runs and the manifest.
        return SensorCursor()


def _ended(run: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(run.end_time, UTC) if run.end_time else run.update_timestamp.replace(tzinfo=UTC)


def pause_after(attempt: int) -> timedelta:
    """How long to wait after a failed attempt."""
    return min(_FIRST_PAUSE * 2 ** min(max(attempt - 1, 0), 16), _LONGEST_PAUSE)


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
