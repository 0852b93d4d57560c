"""The real graph on a real instance: only the source, the clock and the folder are the test's own."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from historical_etl import Coverage, FetchRequest, FetchResult, HistoricalETL, Settings
from historical_etl.clock import Clock, system_clock
from historical_etl.markets import assemble
from historical_etl.resources import PriceSourceResource, StoreResource
from historical_etl.sources.base import PriceSource
from historical_etl.sources.sample import SampleSource
from historical_etl_tests.scenario import INFO, LAST, SYMBOLS, Market, ScriptedSource, made_once, plain_settings, store

PRICES, CATALOG = dg.AssetKey("daily_prices"), dg.AssetKey("price_catalog")
CHECKS = {
    "shows_the_committed_version",
    "years_are_contiguous",
    "reaches_the_last_session",
    "calendar_is_current",
    "nothing_newly_quarantined",
    "sessions_complete",
    "no_open_holds",
    "corrections_within_bounds",
}
#: The market's own years, as a source states them that will never have more.
COVERED = replace(INFO, coverage=Coverage(date(2010, 1, 4), LAST))


class Store(StoreResource):
    """A store that no environment moves, and whose clock can stand still."""

    at: str = ""

    def settings(self) -> Settings:
        return plain_settings().changed({"data_dir": Path(self.data_dir)})

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at) if self.at else datetime.now(UTC)


def serving(source: PriceSource) -> PriceSourceResource:
    class Served(PriceSourceResource):
        def open(self, settings: Settings, clock: Clock = system_clock) -> PriceSource:
            return source

    return Served()


@dataclass
class Failing:
    """A source that raises for the requests of some years."""

    inner: PriceSource
    errors: dict[int, Exception]

    @property
    def info(self):
        return self.inner.info

    def fetch(self, request: FetchRequest) -> FetchResult:
        if request.end.year in self.errors:
            raise self.errors[request.end.year]
        return self.inner.fetch(request)

    def members(self, start: date | None, end: date | None) -> list[str]:
        return self.inner.members(start, end)


def scripted(**changes: Any) -> ScriptedSource:
    return ScriptedSource(Market(), info=changes.pop("info", COVERED), **changes)


@dataclass
class Project:
    """Definitions over one data folder, and an instance that outlives each run."""

    root: Path
    instance: dg.DagsterInstance
    source: PriceSource
    at: datetime | None = None
    _loaded: tuple[PriceSource, dg.Definitions] | None = None

    @property
    def resources(self) -> dict[str, object]:
        return {"store": self._store, "source": serving(self.source)}

    @property
    def _store(self) -> Store:
        return Store(data_dir=str(self.root), at=self.at.isoformat() if self.at else "")

    @property
    def defs(self) -> dg.Definitions:
        """Loaded once for each source and time, as a server of Dagster's loads them once."""
        if self._loaded is None or self._loaded[0] is not self.source:
            self._loaded = self.source, assemble(**self.resources)  # pyright: ignore[reportArgumentType]
        return self._loaded[1]

    def reload(self) -> None:
        """Let the definitions be loaded anew, as people reload a code location."""
        self._loaded = None

    @property
    def etl(self) -> HistoricalETL:
        return self._store.open(serving(self.source))

    def run(
        self,
        first: str | int,
        last: str | int | None = None,
        *,
        select: Sequence[str] = ("daily_prices", "price_catalog"),
        config=None,
    ):
        """One run over a year or a range, with a selection, as the command line and the UI launch it."""
        years = {"partition_key": str(first)} if last is None else {"tags": range_tags(first, last)}
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in select],
            run_config=config or {},
            **years,  # pyright: ignore[reportArgumentType]
        )

    def update(self, year: str | int | None = 2013, symbols: Sequence[str] = (), tags: Mapping[str, str] | None = None):
        """The increment, for one year as the sensor asks for it; None leaves the partition out."""
        job = self.defs.resolve_job_def("daily_incremental_job")
        named = {"ops": {"daily_prices": {"config": {"symbols": list(symbols)}}}} if symbols else None
        return job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            run_config=named,
            partition_key=str(year) if year is not None else None,
            tags=dict(tags or {}),
        )

    def run_request(self, asked: dg.RunRequest, defs: dg.Definitions | None = None) -> dg.ExecuteInProcessResult:
        """Run what the sensor asks for, as the daemon does; with other definitions if they were loaded earlier."""
        return (
            (defs or self.defs)
            .resolve_job_def("daily_incremental_job")
            .execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                run_config=asked.run_config,
                partition_key=asked.partition_key,
                tags=dict(asked.tags),
            )
        )

    def events(self, key: dg.AssetKey = PRICES) -> list[dg.AssetMaterialization]:
        """Everything that was ever reported of an asset, oldest first."""
        records = self.instance.fetch_materializations(key, limit=1000, ascending=True).records
        return [record.asset_materialization for record in records if record.asset_materialization]

    def events_of(self, result: dg.ExecuteInProcessResult, key: dg.AssetKey = PRICES) -> list[dg.AssetMaterialization]:
        """What one run reported of an asset, without the years that it only found in the store."""
        records = self.instance.fetch_materializations(key, limit=1000, ascending=True).records
        events = [r.asset_materialization for r in records if r.run_id == result.run_id]
        return [event for event in events if event]

    def logged(self, result: dg.ExecuteInProcessResult) -> list[str]:
        """The lines that steps of a run wrote into its log."""
        entries = self.instance.all_logs(result.run_id)
        return [entry.user_message for entry in entries if not entry.is_dagster_event]

    def years(self) -> list[str]:
        return [str(event.partition) for event in self.events()]

    def checks(self) -> list[tuple[str, str, str | None]]:
        """Every check row that the UI would show: name, status, partition."""
        records = [
            (record, key.name)
            for key in (dg.AssetCheckKey(CATALOG, name) for name in CHECKS)
            for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
        ]
        return [(name, record.status.value, record.partition) for record, name in records]


def facts(event: dg.AssetMaterialization) -> dict[str, object]:
    return {name: value.value for name, value in event.metadata.items()}


def changed(event: dg.AssetMaterialization) -> str:
    """What a year's event says of stored values that changed: Dagster's own events have no description."""
    return str(facts(event).get("what_changed", event.description or ""))


def failure_text(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What the failed step says to whoever opens the run."""
    errors = [
        event.step_failure_data for event in result.all_events if event.is_step_failure and event.step_key == step
    ]
    assert len(errors) == 1
    data = errors[0]
    described = data.user_failure_data.description if data.user_failure_data else None
    return described or str(data.error)


def steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """How each step ended."""
    ends = {"STEP_SUCCESS": "success", "STEP_FAILURE": "failure", "STEP_SKIPPED": "skipped"}
    return {str(e.step_key): ends[e.event_type_value] for e in result.all_events if e.event_type_value in ends}


def sample() -> SampleSource:
    return SampleSource()


def stored_years(etl: HistoricalETL) -> list[int]:
    manifest = etl.manifest()
    return [partition.year for partition in manifest.partitions] if manifest else []


def range_tags(first: str | int, last: str | int) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}


def filled(project: Callable[..., Project], until: date = date(2013, 2, 27), **options) -> Project:
    """A store that ends some sessions before the source does."""
    scene = project(**options)

    def make(folder: Path) -> None:
        store(folder, scripted(), until).run_full_etl(SYMBOLS, "2010-01-01", until)

    made_once(scene.root, ("orchestration", until), make)
    scene.etl.publish_catalog()
    return scene


# ── the sensor ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ticked:
    """What one evaluation of a sensor decides."""

    run_requests: Sequence[dg.RunRequest]
    skip_message: str | None
    cursor: str | None


def evaluated(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    cursor: str | None = None,
    name: str = "daily_incremental_sensor",
    resources: Mapping[str, object] | None = None,
) -> Ticked:
    """Evaluate a sensor as the daemon does; `resources` default to those of the definitions."""
    repository = defs.get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        sensor_name=name,
        resources=dict(resources or defs.resources or {}),
    ) as context:
        data = repository.get_sensor_def(name).evaluate_tick(context)
    return Ticked(data.run_requests or [], data.skip_message, data.cursor)


def tick(
    scene: Project, cursor: str | None = None, defs: dg.Definitions | None = None
) -> tuple[Ticked, dict[str, object]]:
    """What one evaluation decides, and the cursor it leaves."""
    result = evaluated(scene.instance, defs or scene.defs, cursor, resources=scene.resources)
    return result, json.loads(result.cursor or "{}")


def why(result: Ticked) -> str:
    assert not result.run_requests
    assert result.skip_message
    return result.skip_message


def request(result: Ticked) -> dg.RunRequest:
    assert result.skip_message is None
    (asked,) = result.run_requests
    return asked


def launched(scene: Project, result: Ticked) -> dg.DagsterRun:
    """A run as the daemon makes it for a request; nothing executes it."""
    asked = request(result)
    job = scene.defs.resolve_job_def("daily_incremental_job")
    tags = {**asked.tags, "dagster/run_key": str(asked.run_key)}
    return scene.instance.create_run_for_job(job, tags=tags, run_config=asked.run_config)


def later(scene: Project, minutes: float) -> Project:
    return Project(scene.root, scene.instance, scene.source, datetime.now(UTC) + timedelta(minutes=minutes))
