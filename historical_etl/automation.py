"""What runs by itself or by one click: the jobs, the daily sensor, and the catalog's follower.

When to ask and what to do after a failure is decided here. What a run then does is the library's.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster import PartitionsDefinition
from pydantic import BaseModel

from historical_etl.assets.daily_prices import MODE_TAG, Mode, PricesConfig
from historical_etl.assets.market import Market
from historical_etl.etl.fetch import ended_calendar
from historical_etl.models import SyncManifest
from historical_etl.settings import Settings
from historical_etl.strict_json import object_of

__all__ = [
    "ATTEMPT_TAG",
    "SESSION_TAG",
    "Tick",
    "build_catalog_follower",
    "build_incremental_sensor",
    "build_jobs",
    "pause_after",
]

SESSION_TAG: Final = "historical_etl/session"
ATTEMPT_TAG: Final = "historical_etl/attempt"
#: By which Dagster knows a run over a range of partitions; it exports no names for them.
_RANGE_START_TAG: Final = "dagster/asset_partition_range_start"
_RANGE_END_TAG: Final = "dagster/asset_partition_range_end"
_INCREMENTAL: Final = "daily_incremental_job"
_EVERY_SECONDS: Final = 300
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


def build_jobs(market: Market) -> dg.Definitions:
    """The two jobs: whole years, and the increment; each with the catalog after it."""
    both = dg.AssetSelection.assets(market.prices, market.catalog)
    backfill = dg.define_asset_job(  # pyright: ignore[reportUnknownMemberType] - a bare PathLike in Dagster's signature
        market.named("backfill_job"),
        selection=both,
        description="Fetch years and publish the catalog. For several years launch a backfill from the asset graph, "
        "with both assets selected: that is one run for all years and one for the catalog. A backfill of this job is "
        "a run for each year.",
    )
    increment = dg.define_asset_job(  # pyright: ignore[reportUnknownMemberType] - likewise
        market.named(_INCREMENTAL),
        selection=both,
        config=_incremental(market),
        tags={MODE_TAG: Mode.incremental.value},
        description="Every symbol up to the last closed session, in one commit over all years. It finds the years "
        "that it changes by itself, whatever partition it is launched for: choose one, the running year. The log warns "
        "of an earlier one that was passed over. A run without a partition does the same. Of several partitions "
        "Dagster makes a backfill of the assets, which fetches whole years.",
    )
    return dg.Definitions(jobs=[backfill, increment])


def build_incremental_sensor(
    market: Market,
    settings: Settings,
    years: PartitionsDefinition[str],
    *,
    tick: "type[Tick] | None" = None,
    every_seconds: int = _EVERY_SECONDS,
) -> dg.SensorDefinition:
    """Asks for a run once the exchange has closed and the vendor had time to settle; off unless a setting says on.

    Args:
        market: whose sensor it is.
        settings: say whether it starts switched on.
        years: those of `daily_prices`.
        tick: what decides; default: `Tick`.
        every_seconds: the least time between two ticks.
    """
    decides = tick or Tick

    @dg.sensor(  # pyright: ignore[reportUnknownMemberType] - likewise
        name=market.named("daily_incremental_sensor"),
        job_name=market.named(_INCREMENTAL),
        minimum_interval_seconds=every_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.sensor_on else dg.DefaultSensorStatus.STOPPED,
        required_resource_keys={market.named("store"), market.named("source")},
        description=f"Requests {market.named(_INCREMENTAL)} for each session, and again with growing pauses if that "
        "fails. Off until switched on here, or by HISTORICAL_ETL_SENSOR_ON=true.",
    )
    def daily_incremental_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # An error of ours ends the tick as failed, with its words: a broken store must not look like a quiet day.
        return decides(context, market, years).result()

    return daily_incremental_sensor


def build_catalog_follower(market: Market) -> dg.AutomationConditionSensorDefinition:
    """Evaluates the catalog's automation condition. On from the start: it costs no vendor anything."""
    return dg.AutomationConditionSensorDefinition(
        market.follower,
        target=dg.AssetSelection.assets(market.catalog),
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


class SensorCursor(BaseModel):
    """What the sensor remembers: the last session confirmed in the store, and its attempts at the one after."""

    confirmed: date | None = None
    session: date | None = None
    attempt: int = 0


class Tick:
    """One look at the clock, the store and the runs.

    Args:
        context: of the sensor.
        market: whose sensor it is.
        years: those of `daily_prices`.
    """

    def __init__(self, context: dg.SensorEvaluationContext, market: Market, years: PartitionsDefinition[str]) -> None:
        store = market.store(context.resources)
        self.market = market
        self.etl = store.open(market.source(context.resources))
        self.session = self.etl.available_through()
        self._years = years
        self._instance = context.instance
        self._now = store.now()
        self._cursor = _read_cursor(context.cursor)

    def result(self) -> dg.SensorResult:
        """Skip, saying why, or request the next attempt."""
        manifest = self.etl.manifest()
        if obstacle := self.obstacle(manifest):
            return self._skip(obstacle)
        if running := self._newest(_UNFINISHED):
            return self._skip(_in_progress(running))
        last = self._newest(None, {SESSION_TAG: str(self.session)})
        failed = last is not None and last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS
        attempt = self._attempts(last)
        reached = manifest is not None and manifest.reaches(self.session)
        if reached and self.etl.calendar_has_ended():
            raise ended_calendar(self.etl.calendar)  # a session that nobody asks for must not look like a quiet day
        if reached and (not failed or attempt >= _ATTEMPTS_TO_COMPLETE):
            # Read from the manifest: a request, or a run that says it went well, confirms nothing.
            self._cursor = SensorCursor(confirmed=self.session)
            lacking = f" {_left(last, attempt)}" if last and failed else ""
            return self._skip(f"Current through {self.session}.{lacking} {self.next_session()}")
        # A run that ended after now did so by a clock that has gone back since: its pause would not end for as long.
        if last is not None and _ended(last) <= self._now < (due := _ended(last) + pause_after(attempt)):
            through = manifest.end_date if manifest else None
            left = f"left the store at {through}" if through else "left the store empty"
            trouble = f"ended as {last.dagster_run.status.value}" if failed else left
            return self._skip(
                f"Attempt {attempt} for {self.session} {trouble} (run {last.dagster_run.run_id}); "
                f"attempt {attempt + 1} at {_at(due)}"
            )
        return self._request(attempt + 1, manifest)

    def obstacle(self, manifest: SyncManifest | None) -> str:
        """Why no run can be requested as long as the store is what it is; empty if one can."""
        if manifest is not None:
            return ""
        return f"The store at {self.etl.layout.root} is empty. Backfill first: {self.market.how_to_fill}"

    def first_session(self, manifest: SyncManifest | None) -> date:
        """The first session that a run would add."""
        through = manifest.end_date if manifest else None
        following = self.etl.calendar.after(through) if through else None
        return min(following or self.session, self.session)

    def next_session(self) -> str:
        """What to expect after a session that is stored, in words."""
        calendar, settle = self.etl.calendar, timedelta(minutes=self.etl.settings.settle_minutes)
        if self.session < self.etl.last_closed_session():
            return f"The source ends on {self.session}; it delivers nothing more"
        following = calendar.after(self.session)
        if following is None:
            return f"The next session is not known: {calendar.end_in_words()}."
        closes = calendar.close_of(following)
        return f"The next session, {following}, closes at {_at(closes)}; it is asked for from {_at(closes + settle)}"

    def _request(self, attempt: int, manifest: SyncManifest | None) -> dg.SensorResult:
        self._cursor = self._cursor.model_copy(update={"session": self.session, "attempt": attempt})
        first, last = self._asked_for(manifest)
        tags = {SESSION_TAG: str(self.session), ATTEMPT_TAG: str(attempt)}
        if first != last:
            tags |= {_RANGE_START_TAG: first, _RANGE_END_TAG: last}
        request = dg.RunRequest(
            # Dagster remembers a key for ever: the session alone would never be tried again.
            run_key=f"{self.session}:{attempt}",
            tags=tags,
            partition_key=first if first and first == last else None,
            run_config=_incremental(self.market),
        )
        return dg.SensorResult(run_requests=[request], cursor=self._cursor.model_dump_json())

    def _asked_for(self, manifest: SyncManifest | None) -> tuple[str, str]:
        """The first and last year of the sessions to come, as partition keys.

        Both are empty if Dagster knows none of them: a source that had ended when the definitions were loaded may have
        gone on since. The run then has no partition.
        """
        wanted = range(self.first_session(manifest).year, self.session.year + 1)
        known = [str(year) for year in wanted if self._years.has_partition_key(str(year))]
        return (known[0], known[-1]) if known else ("", "")

    def _skip(self, reason: str) -> dg.SensorResult:
        return dg.SensorResult(skip_reason=reason, cursor=self._cursor.model_dump_json())

    def _newest(
        self, statuses: Sequence[dg.DagsterRunStatus] | None, tags: dict[str, str] | None = None
    ) -> dg.RunRecord | None:
        runs = dg.RunsFilter(job_name=self.market.named(_INCREMENTAL), statuses=statuses, tags=tags)
        return next(iter(self._instance.get_run_records(runs, limit=1)), None)

    def _attempts(self, last: dg.RunRecord | None) -> int:
        """How often this session was asked for: the runs may have been deleted, or the cursor been reset."""
        requested = self._cursor.attempt if self._cursor.session == self.session else 0
        tagged = last.dagster_run.tags.get(ATTEMPT_TAG, "") if last else ""
        return max(requested, int(tagged) if tagged.isdigit() else 0)


def _incremental(market: Market) -> dg.RunConfig:
    return dg.RunConfig(ops={market.prices_op: PricesConfig(mode=Mode.incremental)})


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
