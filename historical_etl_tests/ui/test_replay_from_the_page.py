"""A person switches the sensor on, watches the sample's February 2005 pass, and looks at the split that was healed."""

import time
from datetime import date

import pytest
from playwright.sync_api import expect

from historical_etl import HistoricalETL
from historical_etl_tests.orchestration.harness import sample
from historical_etl_tests.scenario import store
from historical_etl_tests.ui.browser import Visitor
from historical_etl_tests.ui.webserver import Webserver

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(1800)]

SPLIT, FIRST, EVE = date(2005, 2, 28), date(2005, 2, 25), date(2005, 2, 24)
_PATIENCE_SECONDS = 1200

_TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__",
  repositoryLocationName: "historical_etl", sensorName: "daily_incremental_sensor"}) {
  ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } } } }"""
_RUNS = """{ runsOrError { ... on Runs { results { status jobName tags { key value } } } } }"""
_EVENTS = """{ assetNodeOrError(assetKey: {path: ["daily_prices"]}) { ... on AssetNode {
  assetMaterializations { partition description metadataEntries { label ... on TableMetadataEntry {
    table { records } } } } } } }"""


@pytest.fixture
def server_settings() -> dict[str, str]:
    return {
        "HISTORICAL_ETL_SOURCE": "sample",
        "HISTORICAL_ETL_START": "2004-01-01",
        "HISTORICAL_ETL_REPLAY_FROM": str(FIRST),
    }


def test_the_split_of_february_2005(visitor: Visitor, webserver: Webserver) -> None:
    with visitor.telling():
        switch_the_sensor(visitor)
        etl = store(webserver.data, sample())
        wait_for_the_split(webserver, etl)
        switch_the_sensor(visitor, on=False)

        told = [event for event in events(webserver) if "AAPL restated ×0.5" in (event["description"] or "")]
        assert sorted(event["partition"] for event in told) == ["2004", "2005"], "every year that it touched"
        assert all("AAPL" in str(tables(event)["restated"]) for event in told)
        sessions = [session_of(run) for run in runs(webserver)]
        assert sessions == sorted(set(sessions), reverse=True), "one run a session"
        assert sessions[-3:] == [str(SPLIT), str(FIRST), str(EVE)]

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
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        stands = etl.manifest()
        ended = [session_of(run) for run in runs(server) if run["status"] == "SUCCESS"]
        if stands and stands.end_date and stands.end_date >= SPLIT and str(SPLIT) in ended:
            return
        failed = [run for run in runs(server) if run["status"] == "FAILURE"]
        assert not failed, failed
        ticks = server.ask(_TICKS)["sensorOrError"]["sensorState"]["ticks"]
        assert all(tick["error"] is None for tick in ticks), ticks
        assert time.monotonic() < deadline, (stands and stands.end_date, ticks)
        time.sleep(1)


def read_the_healed_year(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/assets/daily_prices?view=events")
    visitor.sees("AAPL restated ×0.5")
    page.get_by_text("2004", exact=True).filter(visible=True).first.click()
    cell = page.get_by_role("cell", name="restated", exact=True)
    expect(cell).to_be_visible()
    visitor.sees("the level is 0.5 times the stored one")
    visitor.picture("replay-split", wide=True)


def runs(server: Webserver):
    """Newest first."""
    return server.ask(_RUNS)["runsOrError"]["results"]


def session_of(run) -> str:
    return next(tag["value"] for tag in run["tags"] if tag["key"] == "historical_etl/session")


def events(server: Webserver):
    return server.ask(_EVENTS)["assetNodeOrError"]["assetMaterializations"]


def tables(event) -> dict[str, list[str]]:
    return {entry["label"]: entry["table"]["records"] for entry in event["metadataEntries"] if "table" in entry}
