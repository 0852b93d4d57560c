"""A person fills the store from Dagster's page, and reads what the pages then say."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from historical_etl.store.manifest import ManifestManager
from historical_etl_tests.orchestration.harness import CHECKS
from historical_etl_tests.ui.browser import Visitor
from historical_etl_tests.ui.webserver import Webserver

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(1800)]

YEARS = [str(year) for year in range(2000, 2014)]

_BACKFILL = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status numPartitions timestamp endTimestamp error { message } } } }"""
_RUNS = """{ runsOrError { ... on Runs { results {
  status startTime endTime assetSelection { path } tags { key value } } } } }"""
_EVENTS = """query ($name: String!) { assetNodeOrError(assetKey: {path: [$name]}) { ... on AssetNode {
  assetMaterializations { partition timestamp } } } }"""
_CHECK = """query ($name: String!) { assetCheckExecutions(
  assetKey: {path: ["price_catalog"]}, checkName: $name, limit: 100) { status evaluation { success } } }"""
_TICKS = """{ sensorOrError(sensorSelector: {repositoryName: "__repository__",
  repositoryLocationName: "historical_etl", sensorName: "default_automation_condition_sensor"}) {
  ... on Sensor { sensorState { ticks(limit: 1, statuses: [SKIPPED, SUCCESS, FAILURE]) {
    timestamp status error { message } } } } } }"""


def test_all_years_by_clicking(
    visitor: Visitor, webserver: Webserver, record_property: Callable[[str, object], None]
) -> None:
    with visitor.reporting():
        backfill, clicked = launch_all_years(visitor)
        ended = wait_for_backfill(webserver, backfill)["endTimestamp"]
        read_the_backfill(visitor)
        green = time.time()

        runs = [run for run in runs_of(webserver) if {"key": "dagster/backfill", "value": backfill} in run["tags"]]
        # Dagster never runs assets with different partitions together in a backfill. What counts is that the years
        # are one run, not fourteen.
        assert [(selected(run), run["status"]) for run in runs] == [
            (["daily_prices"], "SUCCESS"),
            (["price_catalog"], "SUCCESS"),
        ]
        record_property(
            "ui_seconds",
            f"years stored after {runs[0]['endTime'] - clicked:.0f} s, catalog after {runs[1]['endTime'] - clicked:.0f}"
            f" s, backfill done after {ended - clicked:.0f} s, page green after {green - clicked:.0f} s; the two runs "
            f"worked {sum(run['endTime'] - run['startTime'] for run in runs):.1f} s",
        )

        read_the_lineage(visitor)
        read_daily_prices(visitor, webserver.data)
        read_price_catalog(visitor, webserver.data)
        read_the_automation(visitor)

        assert sorted(event["partition"] for event in events(webserver, "daily_prices")) == YEARS
        assert [event["partition"] for event in events(webserver, "price_catalog")] == [None]
        assert check_rows(webserver) == {name: ["SUCCEEDED True"] for name in CHECKS}
        assert sorted(path.stem for path in (webserver.data / "historical" / "daily").glob("*.parquet")) == YEARS

        # The catalog's follower has looked at the filled store, and found nothing left to do.
        wait_for_tick_after(webserver, ended)
        assert len(runs_of(webserver)) == len(runs)


def launch_all_years(visitor: Visitor) -> tuple[str, float]:
    """Lineage, "Materialize all…", "All", "Launch backfill", "View"."""
    page = visitor.page
    visitor.open("/")
    visitor.link("Lineage").click()
    visitor.sees("Never materialized", "14 partitions")
    page.get_by_role("button", name="Materialize all…").click()
    dialog = page.get_by_role("dialog").filter(has_text="Launch runs to materialize 2 assets")
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog).to_contain_text("14 partitions")
    expect(dialog.get_by_role("textbox")).to_have_value("[2000...2013]")
    launch = dialog.get_by_role("button", name="Launch backfill")
    expect(launch).to_be_enabled()
    clicked = time.time()
    launch.click()
    visitor.sees("Created backfill")
    page.get_by_text("View", exact=True).click()
    visitor.looks_away()
    page.wait_for_url("**/runs/b/*")
    visitor.sees("2000...2013")
    return page.url.partition("/runs/b/")[2].partition("?")[0].strip("/"), clicked


def wait_for_backfill(server: Webserver, backfill: str) -> dict[str, Any]:
    deadline = time.monotonic() + 1200
    while True:
        state = server.ask(_BACKFILL, id=backfill)["partitionBackfillOrError"]
        if state["status"] == "COMPLETED_SUCCESS":
            assert state["numPartitions"] == len(YEARS)
            return state
        assert state["status"] == "REQUESTED", state
        assert time.monotonic() < deadline, state
        time.sleep(1)


def read_the_backfill(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("100% completed")).to_have_count(2)
    visitor.sees("Duration", "Succeeded", "14", "daily_prices", "price_catalog")
    visitor.picture("backfill")
    visitor.tab("Runs")
    expect(visitor.page.get_by_text("Success", exact=True)).to_have_count(2)
    visitor.sees(f"{len(CHECKS)} checks")


def read_the_lineage(visitor: Visitor) -> None:
    visitor.link("Lineage").click()
    visitor.sees(
        "100% filled",
        "14 partitions",
        f"{len(CHECKS)} / {len(CHECKS)} Passed",
        "Materialized",
        "Polars",
        "Parquet",
        "DuckDB",
    )
    visitor.picture("lineage")


def read_daily_prices(visitor: Visitor, data: Path) -> None:
    manifest = ManifestManager(data).load_manifest()
    assert manifest is not None
    stored = manifest.partition(2012)
    assert stored is not None
    page = visitor.page

    visitor.link("Catalog").click()
    visitor.link("daily_prices").click()
    visitor.sees("Daily bars of one calendar year", "The exchange's local session", "non-nullable", "backfill_job")

    visitor.tab("Partitions")
    visitor.sees("14 Partitions Selected", "Failed (0)", "Materialized (14)", "Materializing (0)", "Missing (0)")
    page.get_by_text("2012", exact=True).filter(visible=True).first.click()
    expect(page).to_have_url(f"{visitor.server.url}/assets/daily_prices?view=partitions&partition=2012")
    for key, value in {
        "dagster/partition_row_count": str(stored.rows),
        "symbols": str(stored.symbols),
        "first_session": "2012-01-03",
        "last_session": "2012-12-31",
        "checksum": stored.checksum,
        "file": str(data / "historical" / "daily" / "2012.parquet"),
        "preview": "AAPL",
        "refused_rows": "0",
        "symbols_missing": "0",
    }.items():
        cell = page.get_by_role("cell", name=key, exact=True)
        expect(page.get_by_role("row").filter(has=cell)).to_contain_text(value)
    visitor.sees_no_trouble()
    visitor.picture("daily_prices", wide=True)


def read_price_catalog(visitor: Visitor, data: Path) -> None:
    manifest = ManifestManager(data).load_manifest()
    assert manifest is not None
    page = visitor.page

    visitor.link("Catalog").click()
    visitor.link("price_catalog").click()
    visitor.sees(
        "DuckDB file with the views",
        f"{manifest.row_count:,}",
        "rows_by_year",
        "follow_new_years",
        str(data / "duckdb" / "historical_catalog.duckdb"),
    )
    visitor.picture("price_catalog", wide=True)

    visitor.tab("Checks")
    visitor.sees(f"Checks ({len(CHECKS)})", *CHECKS)
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(CHECKS))
    for name in sorted(CHECKS):
        page.get_by_text(name, exact=True).filter(visible=True).first.click()
        visitor.sees("Passed", "Latest execution")


def read_the_automation(visitor: Visitor) -> None:
    visitor.link("Automation").click()
    visitor.sees("default_automation_condition_sensor", "daily_incremental_sensor")
    visitor.link("daily_incremental_sensor").click()
    visitor.sees("Requests daily_incremental_job for each session", "~5 min", "Sensor has never run")
    expect(visitor.page.get_by_role("checkbox")).not_to_be_checked()
    visitor.link("Jobs").click()
    visitor.link("daily_incremental_job").click()
    visitor.sees("Every symbol up to the last closed session")


def runs_of(server: Webserver) -> list[dict[str, Any]]:
    """All runs of the instance, by the assets they are for."""
    return sorted(server.ask(_RUNS)["runsOrError"]["results"], key=selected)


def selected(run: dict[str, Any]) -> list[str]:
    return ["/".join(key["path"]) for key in run["assetSelection"]]


def events(server: Webserver, asset: str) -> list[dict[str, Any]]:
    return server.ask(_EVENTS, name=asset)["assetNodeOrError"]["assetMaterializations"]


def check_rows(server: Webserver) -> dict[str, list[str]]:
    """Every row of each check, ended or not."""
    return {
        name: [
            f"{row['status']} {row['evaluation'] and row['evaluation']['success']}"
            for row in server.ask(_CHECK, name=name)["assetCheckExecutions"]
        ]
        for name in CHECKS
    }


def wait_for_tick_after(server: Webserver, moment: float) -> None:
    deadline = time.monotonic() + 1200
    while True:
        ticks = server.ask(_TICKS)["sensorOrError"]["sensorState"]["ticks"]
        assert all(tick["error"] is None for tick in ticks), ticks
        if any(tick["timestamp"] > moment for tick in ticks):
            return
        assert time.monotonic() < deadline, ticks
        time.sleep(1)
