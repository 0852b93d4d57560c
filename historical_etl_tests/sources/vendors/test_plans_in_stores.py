"""What a plan withholds, in a whole store: by the library, by the command line, and by a real run of Dagster."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import CoverageError, Outcome, load_settings
from historical_etl.errors import NotPublishedError
from historical_etl.etl.health.doctor import CheckStatus, examine
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.orchestration.harness import Project, facts, failure_text, stored_years, tick
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket, with_returns
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import KEYS, at, plain_settings, store, stored
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, Loopback, fixed_clock
from historical_etl_tests.sources.vendors.massive_store import market_of, planned
from historical_etl_tests.sources.vendors.test_massive import EDGE, FIRST, LAST, NOON, PLANNED
from historical_etl_tests.sources.vendors.whole_store import truth_of

NAMES = ("OLD", "OLDER", "YOUNG")


@pytest.fixture
def held(serve, tmp_path) -> Iterator[Any]:
    """A server with a plan, and its source."""
    sources = []

    def make(plan: str = "basic", now: datetime = NOON, truth=PLANNED) -> tuple[Loopback, Any]:
        server = serve(truth, plan=plan, now=now)
        sources.append(server.source("massive", state_folder=tmp_path / "turns", pace=fixed_clock(now).pace))
        return server, sources[-1]

    yield make
    for source in sources:
        source.close()


def given(names=NAMES, start=EDGE, end=LAST):
    """What the store holds where the bars from the edge on were fetched, since some day."""
    rows = with_returns(PLANNED.expected("massive", names, EDGE, end).drop("ret")).sort(KEYS)
    return rows.filter(pl.col("date") >= start)


# ── years ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plan", ["basic", "basic strict"])
def test_years_that_are_not_given_fail_and_the_others_are_committed(plan, held, root):
    server, source = held(plan)
    etl = store(root, source, LAST)
    with pytest.raises(CoverageError) as caught:
        etl.run_full_etl(NAMES, FIRST, LAST)
    assert "".join(caught.value.__notes__) == Saying("failed: 2020, 2021", "committed: 2022, 2023, 2024")
    assert stored_years(etl) == [2022, 2023, 2024]
    assert_frame_equal(stored(etl), given())
    assert etl.gaps().is_empty()
    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_remaining) == ("completed", [])
    assert not any(etl.layout.staging.glob("*/*"))
    server.asked.clear()
    with pytest.raises(CoverageError, match="2020-2021"):
        store(root, source, LAST).run_full_etl(NAMES, FIRST, LAST)
    assert server.asked.total() == 0
    assert store(root, source, LAST).run_full_etl(NAMES, EDGE, LAST).complete


def test_no_gap_is_made_of_sessions_that_are_not_given(held, root, tmp_path):
    """Though the symbol was in the index then, and whether one year is asked for or all of them."""
    table = tmp_path / "index.csv"
    table.write_text("ticker,start_date,end_date\nOLD,2010-01-04,\nOLDER,2010-01-04,\n")
    _, source = held()
    settings = plain_settings().changed({"universe": str(table)})
    etl = store(root, Universal(source), LAST, settings=settings)
    result = etl.run_year(2022, ["OLD", "OLDER"])
    assert result.outcomes == {"OLD": Outcome.OK, "OLDER": Outcome.OK}
    assert etl.gaps().is_empty()
    assert any("from 2022-06-03 on" in note for note in result.notes)


class Universal:
    """A source whose symbols are in a table since 2010."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def fetch(self, request):
        return self.source.fetch(request)

    def members(self, start, end):
        return []

    def member_since(self, symbols):
        return dict.fromkeys(symbols, date(2010, 1, 4))


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch) -> CommandLine:
    line = command_line(tmp_path, capsys, monkeypatch)
    for name, value in ENVIRONMENT.items():
        line.patch.setenv(name, value)
    return line


def test_the_command_line_says_what_is_not_given_and_does_not_end_well(serve, cli):
    """By the clock of this machine: the edge of two years is the one of today."""
    today = datetime.now(UTC)
    edge = (today - timedelta(days=731)).date()
    server = serve(recent(edge), plan="basic", now=today)
    cli.set(SOURCE="massive", SYMBOLS="OLD", MASSIVE_BASE_URL=server.url, MASSIVE_RATE="100000/second")
    ran = cli("backfill", "--from", str(edge.year - 1), "--to", str(edge.year))
    assert ran.code == 1
    assert f"{edge.year - 1} was not committed" in ran.err
    assert ran.err == Saying(f"massive does not give {edge.year - 1}", "the plan of this account", f"from {edge.year}-")
    assert f"ask from {edge.year} on" in ran.err
    assert cli("status", "--json").document["plan"] == Saying("the plan of this account", f"from {edge.year}-")
    assert " ".join(cli("status").out.split()) == Saying("the plan of this account", f"from {edge.year}-")
    found = next(check for check in cli("doctor", "--json").document["checks"] if check["check"] == "plan")
    assert found["facts"]["first"].startswith(str(edge.year))
    server.asked.clear()
    again = cli("backfill", "--from", str(edge.year), "--to", str(edge.year), "--json")
    assert (again.code, again.document["outcomes"]) == (0, {"OLD": "ok"})


def recent(edge: date):
    """A symbol that has traded since long before a day, until some weeks after it."""
    first, last = edge - timedelta(days=500), edge + timedelta(days=60)
    return truth_of(SimMarket(seed=3, symbols=(SimListing("OLD"),), first=first, last=last))


def test_a_store_without_a_vendor_has_no_plan(cli):
    cli.set(SOURCE="sample")
    cli("backfill", "--from", "2012", "--to", "2012")
    assert cli("status", "--json").document["plan"] == ""


# ── Dagster ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def scene(held, root, tmp_path) -> Iterator[Any]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:

        def make(source, at=NOON) -> Project:
            return Project(root, instance, source, at)

        yield make


@pytest.mark.parametrize("plan", ["basic", "basic strict"])
def test_the_partition_of_a_year_that_is_not_given_is_not_green(plan, held, scene):
    _, source = held(plan)
    project = scene(source)
    run = project.run(2020, 2024, config={"ops": {"daily_prices": {"config": {"symbols": list(NAMES)}}}})
    assert not run.success
    assert project.years() == ["2022", "2023", "2024"]
    assert stored_years(project.etl) == [2022, 2023, 2024]
    message = failure_text(run, "daily_prices")
    assert "2 of 5 years failed" in message
    assert "2020: " in message
    assert "the source covers 2022-06-03" in message
    assert all("from 2022-06-03 on" in str(facts(event)["plan"]) for event in project.events())
    assert_frame_equal(stored(project.etl), given())
    assert not any(project.etl.layout.staging.glob("*/*"))


@pytest.mark.parametrize("year", [2020, 2021])
def test_a_single_year_that_is_not_given_is_not_green(year, held, scene):
    _, source = held()
    project = scene(source)
    run = project.run(year, config={"ops": {"daily_prices": {"config": {"symbols": list(NAMES)}}}})
    assert not run.success
    assert project.years() == []
    assert "does not give this" in failure_text(run, "daily_prices")


def test_the_year_of_the_edge_says_where_it_begins(held, scene):
    _, source = held()
    project = scene(source)
    assert project.run(2022, config={"ops": {"daily_prices": {"config": {"symbols": ["OLD"]}}}}).success
    (event,) = project.events()
    assert (facts(event)["first_session"], "from 2022-06-03 on" in str(facts(event)["plan"])) == ("2022-06-03", True)
    project.reload()
    years = project.defs.resolve_asset_graph().get(event.asset_key).partitions_def
    assert years.get_first_partition_key() == "2022"  # what is known of the plan bounds what can be asked for


# ── a session that is not over ─────────────────────────────────────────────────────────────────────────────────────

#: At 19:00 in New York the session has long closed, and is refused still.
EVENING = datetime(2024, 5, 31, 23, tzinfo=UTC)
BEFORE = date(2024, 5, 30)


def filled(root: Path, source: Any, until: date) -> HistoricalETL:
    etl = store(root, source, until)
    etl.run_full_etl(NAMES, date(2024, 1, 2), until)
    return etl


def test_an_update_in_the_evening_stays_at_the_day_before_and_says_so(held, root):
    _, source = held(now=EVENING)
    filled(root, source, date(2024, 5, 28))
    result = store(root, source, LAST).run_incremental_etl()
    assert result.complete
    assert any("has not published 2024-05-31 yet" in note for note in result.notes)
    etl = store(root, source, LAST)
    assert_frame_equal(stored(etl), given(start=date(2024, 1, 2), end=BEFORE))
    assert etl.gaps().is_empty()
    again = store(root, source, LAST).run_incremental_etl()
    assert (again.complete, again.changed) == (True, False)


def test_the_sensor_waits_for_a_session_that_is_not_over_and_gets_it(held, scene, root):
    server, source = held(now=EVENING)
    filled(root, source, date(2024, 5, 29))
    project = scene(source, EVENING)
    asked, cursor = tick(project)
    (request,) = list(asked.run_requests or ())
    assert request.run_key == "2024-05-31:1"
    assert project.update(tags=dict(request.tags)).success
    assert project.etl.manifest().end_date == BEFORE
    again, _ = tick(project, json.dumps(cursor))
    assert [asked.run_key for asked in again.run_requests or ()] == ["2024-05-31:2"], "the session stays wanted"
    server.now = datetime(2024, 6, 1, 5, tzinfo=UTC)
    project.source = server.source("massive", state_folder=root.parent / "turns", pace=fixed_clock(server.now).pace)
    project.at = server.now
    assert project.update().success
    assert project.etl.manifest().end_date == LAST


def test_a_run_that_gets_nothing_but_the_running_session_is_no_failure(held, scene, root):
    _, source = held(now=EVENING)
    filled(root, source, BEFORE)
    project = scene(Refusing(source), EVENING)
    assert project.update().success
    assert project.etl.manifest().end_date == BEFORE


# ── splits and dividends that the account gets later ───────────────────────────────────────────────────────────────


def test_events_that_the_account_gets_later_are_asked_for_of_all_that_is_stored(held, root, tmp_path):
    """Neither symbol has a new event: nothing else would bring those of the past."""
    server, source = held("eventless", now=datetime(2024, 5, 24, 16, tzinfo=UTC))
    until = date(2024, 5, 23)
    store(root, source, until).run_full_etl(NAMES, EDGE, until)
    server.plan, server.now = "", NOON  # what was found out of the plan is forgotten by then
    later = server.source("massive", state_folder=tmp_path / "turns", pace=fixed_clock(NOON).pace)
    result = store(root, later, LAST).run_incremental_etl()
    etl = store(root, later, LAST)
    assert etl.ledger("actions").sort("date").select("symbol", "date", "inferred").rows() == [
        ("OLD", date(2022, 9, 1), False),
        ("OLDER", date(2023, 6, 1), False),
    ]
    assert Saying("massive", "splits and dividends", "3 stored symbol", "whole") in result.warnings
    assert_frame_equal(stored(etl), given())
    server.asked.clear()
    again = store(root, later, LAST).run_incremental_etl()
    later.close()
    assert (again.warnings, [unit for unit in server.asked if str(EDGE) in unit]) == ((), [])


class Refusing(Universal):
    """A source that has nothing yet, and says so."""

    def fetch(self, request):
        raise NotPublishedError("not yet", where="massive", todo="ask again later")


def test_the_doctor_does_not_blame_the_key_for_a_session_that_is_not_over(serve, cli):
    server = serve(PLANNED, plan="basic", now=EVENING)
    cli.set(SOURCE="massive", SYMBOLS="OLD", MASSIVE_BASE_URL=server.url)
    vendor = examine(load_settings(), clock=at(LAST)).check("vendor")
    assert (vendor.verdict, "will come later" in vendor.what) == (CheckStatus.OK, True)
    assert "key" not in vendor.todo


def test_an_account_without_events_is_served_and_the_doctor_says_so(serve, cli):
    """Alpaca says `forbidden.` of them, as it does of a wrong key."""
    today = datetime.now(UTC)
    server = serve(recent((today - timedelta(days=60)).date()), plan="no events", now=today)
    cli.set(SOURCE="alpaca", SYMBOLS="OLD", ALPACA_BASE_URL=server.url, ALPACA_RATE="100000/second")
    result = cli("backfill", "--from", str(today.year - 1))
    assert "HISTORICAL_ETL_ALPACA_ACTIONS=false" in result.err
    assert "key" not in result.err
    assert examine(load_settings()).check("plan").what == Saying("the plan of this account", "without splits")


# ── whole stores ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plan", ["basic", "basic strict"])
def test_a_store_of_the_free_plan_ends_as_the_truth_of_its_two_years(plan, root, tmp_path):
    """`python -m historical_etl_tests.sources.vendors.massive_store` runs it at full size."""
    market = market_of(6, date(2021, 11, 1), date(2024, 5, 31), 32)
    found = planned(market, plan, root, tmp_path, evenings=32)
    assert found.repeated == {}
    assert "Years that failed: 2021" in found.years_withheld
    # Bars, splits and dividends of each symbol; and what it takes to find the edge.
    assert found.backfill_asked <= 3 * 6 + 4 + 4
    # Six sessions, the running day, splits and dividends; and the histories of those with a new event.
    assert max(found.updates_asked) <= 9 + 3 + 2 + 1
