"""A person switches the sensor on, watches the sample's February 2005 pass, and looks at the split that was healed."""

import time
from datetime import date

import pytest
from playwright.sync_api import expect

from historical_etl import HistoricalETL
from historical_etl_tests.orchestration.harness import CHECKS, sample
from historical_etl_tests.scenario import store
from historical_etl_tests.ui.browser import Visitor
from historical_etl_tests.ui.webserver import Webserver

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(1800)]

SPLIT, FIRST, EVE = date(2005, 2, 28), date(2005, 2, 25), date(2005, 2, 24)
_TIMEOUT_SECONDS = 1200

_MODULE = "historical_etl.replay_definitions"
_TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__",
  repositoryLocationName: "historical_etl.replay_definitions", sensorName: "daily_incremental_sensor"}) {
  ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } } } }"""
_RUNS = """{ runsOrError { ... on Runs { results {
  runId status jobName tags { key value } runConfigYaml } } } }"""
_EVENTS = """query ($name: String!) { assetNodeOrError(assetKey: {path: [$name]}) { ... on AssetNode {
  assetMaterializations { runId partition stepKey description metadataEntries { label
    ... on TextMetadataEntry { text } ... on TableMetadataEntry { table { records } } } } } } }"""


@pytest.fixture
def server_settings() -> dict[str, str]:
    return {
        "HISTORICAL_ETL_START": "2004-01-01",
        "HISTORICAL_ETL_REPLAY_FROM": str(FIRST),
    }


@pytest.fixture
def server_module() -> str:
    return _MODULE


def test_the_split_of_february_2005(visitor: Visitor, webserver: Webserver) -> None:
    with visitor.reporting():
        switch_the_sensor(visitor)
        etl = store(webserver.data, sample())
        wait_for_the_split(webserver, etl)
        switch_the_sensor(visitor, on=False)
        wait_for_the_last_run(webserver)

        split = run_of(webserver, SPLIT)
        restated = [event for event in events(webserver, "daily_prices") if "AAPL restated ×0.5" in changed(event)]
        assert {event["runId"] for event in restated} == {split["runId"]}
        assert sorted(event["partition"] for event in restated) == ["2004", "2005"], "every year that it touched"
        assert all("AAPL" in str(tables(event)["restated"]) for event in restated)
        sessions = [session_of(run) for run in runs(webserver)]
        assert sessions == sorted(set(sessions), reverse=True), "one run a session"
        assert sessions[-3:] == [str(SPLIT), str(FIRST), str(EVE)]
        both_were_materialized(webserver, run_of(webserver, FIRST))

        read_the_run(visitor, split)
        read_the_lineage(visitor)
        read_the_healed_year(visitor)


def switch_the_sensor(visitor: Visitor, *, on: bool = True) -> None:
    visitor.open("/automation")
    visitor.link("daily_incremental_sensor").click()
    visitor.sees("Requests daily_incremental_job for each session")
    switch = visitor.page.get_by_role("checkbox").first
    expect(switch).to_be_checked(checked=not on)
    switch.locator("..").click()  # the box itself is not drawn
    expect(switch).to_be_checked(checked=on)


def wait_for_the_split(server: Webserver, etl: HistoricalETL) -> None:
    """Until the session is in the store and its run is over."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        manifest = etl.manifest()
        ended = [session_of(run) for run in runs(server) if run["status"] == "SUCCESS"]
        if manifest and manifest.end_date and manifest.end_date >= SPLIT and str(SPLIT) in ended:
            return
        failed = [run for run in runs(server) if run["status"] == "FAILURE"]
        assert not failed, failed
        ticks = server.ask(_TICKS)["sensorOrError"]["sensorState"]["ticks"]
        assert all(tick["error"] is None for tick in ticks), ticks
        assert time.monotonic() < deadline, (manifest and manifest.end_date, ticks)
        time.sleep(1)


def wait_for_the_last_run(server: Webserver) -> None:
    """The sensor may have asked for one more session before it was off."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while {run["status"] for run in runs(server)} != {"SUCCESS"}:
        assert time.monotonic() < deadline, runs(server)
        time.sleep(1)


def both_were_materialized(server: Webserver, run) -> None:
    """The increment is a run of both assets, each in a step of its own, for the year of its session."""
    assert run["jobName"] == "daily_incremental_job"
    assert "mode: incremental" in run["runConfigYaml"]
    assert {"key": "dagster/partition", "value": "2005"} in run["tags"]
    for asset, partition in (("daily_prices", "2005"), ("price_catalog", None)):
        (event,) = (event for event in events(server, asset) if event["runId"] == run["runId"])
        assert (event["partition"], event["stepKey"]) == (partition, asset)


def read_the_run(visitor: Visitor, run) -> None:
    visitor.open(f"/runs/{run['runId']}")
    visitor.sees("daily_prices", "price_catalog", "Success", "2 assets", f"{len(CHECKS)} checks")
    visitor.picture("increment-run")


def read_the_lineage(visitor: Visitor) -> None:
    """Both assets show what the last increment made of them."""
    visitor.open("/")
    visitor.link("Lineage").click()
    visitor.sees("daily_prices", "price_catalog", "Materialized", "20% filled", f"{len(CHECKS)} / {len(CHECKS)} Passed")
    visitor.picture("increment")


def read_the_healed_year(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/assets/daily_prices?view=events")
    page.get_by_text("2004", exact=True).filter(visible=True).first.click()
    visitor.sees("AAPL restated ×0.5")
    cell = page.get_by_role("cell", name="restated", exact=True)
    expect(cell).to_be_visible()
    visitor.sees("the level is 0.5 times the stored one")
    visitor.picture("replay-split", wide=True)


def runs(server: Webserver):
    """Newest first."""
    return server.ask(_RUNS)["runsOrError"]["results"]


def session_of(run) -> str:
    return next(tag["value"] for tag in run["tags"] if tag["key"] == "historical_etl/session")


def run_of(server: Webserver, session: date):
    (run,) = (run for run in runs(server) if session_of(run) == str(session))
    return run


def events(server: Webserver, asset: str):
    return server.ask(_EVENTS, name=asset)["assetNodeOrError"]["assetMaterializations"]


def changed(event) -> str:
    """What an event says of stored values that changed: Dagster's own events have no description."""
    said = {entry["label"]: entry["text"] for entry in event["metadataEntries"] if "text" in entry}
    return said.get("what_changed", event["description"] or "")


def tables(event) -> dict[str, list[str]]:
    return {entry["label"]: entry["table"]["records"] for entry in event["metadataEntries"] if "table" in entry}
