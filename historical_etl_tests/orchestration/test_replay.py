"""The sample, one session a run: all that somebody does who wants to watch it is to switch the sensor on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl.automation import SESSION_TAG
from historical_etl.markets import build_market
from historical_etl.replay_definitions import ReplayStoreResource, build_replay
from historical_etl.resources import PriceSourceResource
from historical_etl_tests.orchestration.harness import (
    CATALOG,
    PRICES,
    Ticked,
    evaluated,
    facts,
    range_tags,
    request,
    sample,
    why,
)
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, sessions, store

FIRST, SPLIT, EVE = date(2005, 2, 24), date(2005, 2, 28), date(2005, 2, 23)
STORE, SOURCE = ReplayStoreResource(), PriceSourceResource()


@dataclass
class Replay:
    """The configured definitions, and an instance."""

    instance: dg.DagsterInstance
    root: Path

    @property
    def etl(self) -> HistoricalETL:
        return STORE.open_reader(SOURCE)

    def tick(self, cursor: str | None = None) -> tuple[Ticked, str | None]:
        result = evaluated(self.instance, build_replay(), cursor)
        return result, result.cursor

    def run(self, result: Ticked) -> str:
        """Run what a tick asks for; returns the session."""
        asked = request(result)
        job = build_replay().resolve_job_def("daily_incremental_job")
        ran = job.execute_in_process(
            instance=self.instance,
            tags=dict(asked.tags),
            run_config=asked.run_config,
            partition_key=asked.partition_key,
        )
        assert ran.success
        return asked.tags[SESSION_TAG]

    def walk(self, count: int) -> list[str]:
        cursor, walked = None, list[str]()
        for _ in range(count):
            result, cursor = self.tick(cursor)
            walked.append(self.run(result))
        return walked

    def events(self, key: dg.AssetKey = PRICES) -> list[dg.AssetMaterialization]:
        records = self.instance.fetch_materializations(key, limit=1000, ascending=True).records
        return [record.asset_materialization for record in records if record.asset_materialization]

    def check(self, name: str) -> bool:
        key = dg.AssetCheckKey(CATALOG, name)
        (record,) = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return record.status.value == "SUCCEEDED"


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    settings = {"SOURCE": "sample", "REPLAY_FROM": FIRST, "START": "2004-12-01", "DATA_DIR": tmp_path / "data"}
    for name, value in settings.items():
        monkeypatch.setenv(f"HISTORICAL_ETL_{name}", str(value))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Replay(instance, tmp_path / "data")


def test_the_sensor_fills_the_history_and_then_walks_one_session_a_run(replay: Replay) -> None:
    walked = replay.walk(4)

    assert walked == [str(day) for day in sessions(EVE, SPLIT)]
    assert current_manifest(replay.etl).end_date == SPLIT
    assert replay.etl.ledger("restatements").rows(named=True)[0]["symbol"] == "AAPL"
    # Of the year of the run Dagster writes the event, which has no description.
    changed = {str(e.partition): str(facts(e).get("what_changed", e.description)) for e in replay.events()[-2:]}
    assert {year: words[:20] for year, words in changed.items()} == dict.fromkeys(
        ("2004", "2005"), "AAPL restated ×0.5: "
    )
    assert replay.check("reaches_the_last_session"), "the evening is that of what is stored"
    assert facts(replay.events(CATALOG)[-1])["version"] == current_manifest(replay.etl).version


def test_the_history_ends_on_the_evening_before_and_on_its_price_basis(replay: Replay) -> None:
    replay.walk(1)

    apple = replay.etl.scan("AAPL").sort("date").collect()
    assert (apple["date"][0], apple["date"][-1]) == (date(2004, 12, 1), EVE)
    assert apple["adj_close"][-1] == apple["close"][-1], "the split is still to come"


def test_years_materialized_by_hand_end_there_too(replay: Replay) -> None:
    job = build_replay().resolve_implicit_global_asset_job_def()

    result = job.execute_in_process(instance=replay.instance, partition_key="2005")

    assert result.success
    assert current_manifest(replay.etl).end_date == EVE
    assert replay.check("reaches_the_last_session")


def test_a_failed_run_sees_the_same_evening_again(replay: Replay) -> None:
    replay.walk(1)
    first, cursor = replay.tick()
    job = build_replay().resolve_job_def("daily_incremental_job")
    run = replay.instance.create_run_for_job(job, tags=dict(request(first).tags))
    replay.instance.report_run_failed(run)

    waiting, _ = replay.tick(cursor)

    failed = Saying("Attempt 1", f"for {FIRST}", "FAILURE")
    assert why(waiting) == failed, "its pause is measured by the machine's time"


def test_a_symbol_that_comes_to_trade_is_taken_up(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORICAL_ETL_START", "2004-08-02")
    monkeypatch.setenv("HISTORICAL_ETL_REPLAY_FROM", "2004-08-19")

    replay.walk(2)

    assert replay.etl.cursors()["GOOG"] == replay.etl.cursors()["MSFT"] == date(2004, 8, 19)


def test_it_stops_at_the_end_of_the_sample(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORICAL_ETL_START", "2013-02-01")
    monkeypatch.setenv("HISTORICAL_ETL_REPLAY_FROM", "2013-02-28")
    assert replay.walk(3) == ["2013-02-27", "2013-02-28", "2013-03-01"]

    done, cursor = replay.tick()

    assert why(done) == Saying("Current through 2013-03-01", "end of the sample", "HISTORICAL_ETL_DATA_DIR")
    assert json.loads(cursor or "{}")["confirmed"] == "2013-03-01"


def test_a_store_on_another_price_basis_ends_the_tick_with_words(replay: Replay) -> None:
    store(replay.root, sample()).run_year(2005)

    with pytest.raises(ConfigurationError, match=r"another price basis than a replay.*HISTORICAL_ETL_DATA_DIR"):
        replay.tick()


def test_the_definitions_have_all_years_and_a_quick_sensor(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    defs = build_replay()
    years = defs.resolve_asset_graph().get(PRICES).partitions_def

    assert years is not None
    assert list(years.get_partition_keys()) == [str(year) for year in range(2004, 2014)]
    assert defs.resolve_sensor_def("daily_incremental_sensor").minimum_interval_seconds == 5
    monkeypatch.delenv("HISTORICAL_ETL_REPLAY_FROM")
    assert build_market().resolve_sensor_def("daily_incremental_sensor").minimum_interval_seconds == 300


def test_the_history_is_asked_for_with_all_its_years(replay: Replay) -> None:
    asked = request(replay.tick()[0])

    assert asked.partition_key is None
    assert range_tags(2004, 2005).items() <= asked.tags.items()


def test_without_a_first_session_it_begins_with_the_month_that_has_a_split(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HISTORICAL_ETL_REPLAY_FROM")

    assert request(replay.tick()[0]).tags[SESSION_TAG] == "2005-01-31"


@pytest.mark.usefixtures("replay")
def test_the_definitions_of_a_market_refuse_to_replay() -> None:
    with pytest.raises(ConfigurationError, match=r"REPLAY_FROM is set.*Next: load historical_etl.replay_definitions"):
        build_market()
