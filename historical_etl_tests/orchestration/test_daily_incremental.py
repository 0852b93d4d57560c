"""The daily increment: what the job does, and when the sensor asks for it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from historical_etl import Coverage, ManifestCorruptError, Outcome, ProviderUnavailableError
from historical_etl.automation import ATTEMPT_TAG, SESSION_TAG, pause_after
from historical_etl_tests.orchestration.harness import (
    CATALOG,
    CHECKS,
    COVERED,
    Failing,
    Project,
    Ticked,
    facts,
    failure_text,
    filled,
    later,
    launched,
    range_tags,
    request,
    scripted,
    steps,
    stored_years,
    tick,
    why,
)
from historical_etl_tests.orchestration.test_changes import jumping
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import INFO, LAST, SYMBOLS, current_manifest, in_turn, losing

Make = Callable[..., Project]
_NOTHING_OF_THE_LAST_SESSION = in_turn(*(losing(symbol, LAST) for symbol in SYMBOLS))


def written(scene: Project) -> tuple[int, int]:
    """Which file the catalog is, and when it was written."""
    found = scene.etl.catalog.path.stat()
    return found.st_ino, found.st_mtime_ns


# ── the job ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_increment_materializes_the_running_year_and_then_the_catalog(project: Make) -> None:
    scene = filled(project)

    result = scene.update()

    assert result.success
    assert steps(result) == {"daily_prices": "success", "price_catalog": "success"}
    (event,) = scene.events_of(result)
    assert event.partition == "2013"
    assert facts(event)["last_session"] == "2013-03-01"
    assert facts(event)["checksum"] == current_manifest(scene.etl).partitions[-1].checksum
    (published,) = scene.events_of(result, CATALOG)
    assert facts(published)["version"] == current_manifest(scene.etl).version


def test_an_increment_over_new_year_materializes_both_years(project: Make) -> None:
    scene = filled(project, until=date(2012, 12, 28))

    result = scene.run_request(request(tick(scene)[0]))

    assert steps(result) == {"daily_prices": "success", "price_catalog": "success"}
    assert [event.partition for event in scene.events_of(result)] == ["2012", "2013"]
    assert [facts(event)["last_session"] for event in scene.events_of(result)] == ["2012-12-31", "2013-03-01"]


@pytest.mark.parametrize("year", [2013, 2012, None])
def test_an_increment_that_finds_nothing_new_claims_nothing_writes_nothing_and_is_judged(
    project: Make, year: int | None
) -> None:
    scene = filled(project, until=LAST)
    scene.etl.run_incremental_etl()
    before = written(scene)

    result = scene.update(year)

    assert result.success
    assert (scene.events_of(result), scene.events_of(result, CATALOG)) == ([], [])
    assert written(scene) == before, "it shows the current version"
    assert sorted(scene.checks()) == sorted((name, "SUCCEEDED", None) for name in CHECKS)
    assert Saying("version 5", "checked", "not written") in scene.logged(result)


@pytest.mark.parametrize("year", [2010, None])
def test_an_increment_shows_the_years_that_it_changed_and_not_the_one_it_was_asked_for(
    project: Make, year: int | None
) -> None:
    """A person may choose any partition for the job, and on the command line none."""
    scene = filled(project)

    result = scene.update(year)

    assert result.success
    assert [event.partition for event in scene.events_of(result)] == ["2013"]
    (published,) = scene.events_of(result, CATALOG)
    assert facts(published)["version"] == current_manifest(scene.etl).version
    assert sorted(scene.checks()) == sorted((name, "SUCCEEDED", None) for name in CHECKS)
    said = "\n".join(scene.logged(result))
    assert said == Saying("Dagster skips price_catalog", "published version 5")
    assert (said == Saying("2010", "not fetched as a whole", "An increment")) == (year == 2010)
    assert "is not part of this run" not in said


def incremental(scene: Project, year: int, *symbols: str) -> dg.ExecuteInProcessResult:
    """An increment in a run without `price_catalog`."""
    config = {"mode": "incremental"} | ({"symbols": list(symbols)} if symbols else {})
    return scene.run(year, select=["daily_prices"], config={"ops": {"daily_prices": {"config": config}}})


@pytest.mark.parametrize("year", [2013, 2010])
def test_a_run_without_the_catalog_leaves_it_to_who_follows_the_years(project: Make, year: int) -> None:
    scene = filled(project)
    before = written(scene)

    result = incremental(scene, year)

    assert result.success
    assert [event.partition for event in scene.events_of(result)] == ["2013"], "which the follower sees"
    assert scene.events_of(result, CATALOG) == scene.checks() == []
    assert written(scene) == before
    (line,) = (line for line in scene.logged(result) if line.startswith("price_catalog is not part of this run"))
    assert line == Saying("default_automation_condition_sensor", "materialized")
    again = incremental(scene, year)
    assert scene.events_of(again) == scene.events_of(again, CATALOG) == []
    assert written(scene) == before


def test_a_version_in_which_no_year_changed_is_published_by_the_run_that_made_it(project: Make) -> None:
    """A new hold: the ledgers of the catalog must show it, and nobody follows a year that did not change."""
    scene = filled(project, until=date(2013, 2, 28), source=scripted(alter=jumping("BRK.B", LAST, 100)))
    version = current_manifest(scene.etl).version

    result = incremental(scene, 2013, "BRK.B")

    assert result.success
    assert scene.events_of(result) == []
    (published,) = scene.events_of(result, CATALOG)
    assert facts(published)["version"] == scene.etl.catalog.shown_version() == version + 1
    said = "\n".join(scene.logged(result))
    assert said == Saying("No year changed", "price_catalog", "published version", version + 1)


def test_the_first_increment_of_a_year_that_nobody_has_a_session_of_claims_nothing(project: Make) -> None:

    def unpublished(bars: pl.DataFrame) -> pl.DataFrame:
        return bars.filter(pl.col("date").dt.year() < 2013)

    scene = filled(project, until=date(2012, 12, 31), source=scripted(alter=unpublished))

    asked = request(tick(scene)[0])
    result = scene.run_request(asked)

    assert asked.partition_key == "2013"
    assert scene.events_of(result) == []
    assert stored_years(scene.etl) == [2010, 2011, 2012]


def test_a_year_that_dagster_does_not_know_is_stored_and_shown(project: Make) -> None:
    """The source had ended when the definitions were loaded, and has gone on since."""
    source = scripted(info=replace(COVERED, coverage=Coverage(date(2010, 1, 4), date(2012, 12, 31))))
    scene = filled(project, until=date(2012, 12, 31), source=source)
    defs = scene.defs
    source.info = COVERED

    asked = request(tick(scene, defs=defs)[0])
    assert asked.partition_key is None
    assert not [name for name in asked.tags if "partition" in name]
    result = scene.run_request(asked, defs=defs)

    assert result.success
    assert [event.partition for event in scene.events_of(result)] == ["2013"]
    assert facts(scene.events_of(result, CATALOG)[0])["version"] == current_manifest(scene.etl).version


def test_the_job_is_incremental_however_it_is_launched(project: Make) -> None:
    """Dagster applies the configuration of a job only to runs of one partition."""
    scene = filled(project)
    tags = range_tags(2012, 2013)

    result = scene.update(None, tags=tags)

    assert result.success
    assert scene.etl.ledger("runs")["command"].to_list()[-1] == "increment"


def test_a_run_of_another_job_may_ask_for_an_increment(project: Make) -> None:
    scene = filled(project)

    result = scene.run(2013, config={"ops": {"daily_prices": {"config": {"mode": "incremental"}}}})

    assert result.success
    assert scene.etl.ledger("runs")["command"].to_list()[-1] == "increment"
    assert [event.partition for event in scene.events_of(result)] == ["2013"]


def test_the_increment_of_an_empty_store_says_what_to_do(project: Make) -> None:
    message = failure_text(project().update(), "daily_prices")

    assert message.startswith("Nothing was committed yet")
    assert message == Saying("Next", "materialize daily_prices", "`historical-etl backfill`")


@pytest.mark.parametrize(
    ("outcome", "until", "years"),
    [
        (Outcome.RATE_LIMITED, date(2013, 2, 27), ["2013"]),
        (Outcome.ERROR, date(2012, 12, 28), ["2012", "2013"]),
    ],
)
def test_missing_symbols_fail_the_run_after_the_others_are_committed_and_published(
    project: Make, outcome: Outcome, until: date, years: list[str]
) -> None:
    scene = filled(project, until=until, source=scripted(outcomes={"HALT": outcome}))

    result = scene.run_request(request(tick(scene)[0]))

    assert steps(result) == {"daily_prices": "failure"}
    assert failure_text(result, "daily_prices") == Saying("1 symbol", f"HALT ({outcome.value})")
    manifest = current_manifest(scene.etl)
    assert manifest.end_date == LAST
    assert [event.partition for event in scene.events_of(result)] == years
    (published,) = scene.events_of(result, CATALOG)
    assert facts(published)["version"] == manifest.version
    checked = scene.checks()
    assert sorted((name, partition) for name, _, partition in checked) == sorted((name, None) for name in CHECKS)
    assert "PLANNED" not in {status for _, status, _ in checked}


def test_a_catalog_that_cannot_be_published_fails_its_own_step(project: Make, root: Path) -> None:
    scene = filled(project)
    (root / "duckdb").rename(root / "aside")
    (root / "duckdb").write_text("a file where the folder should be")

    result = scene.update()

    assert steps(result) == {"daily_prices": "success", "price_catalog": "failure"}
    assert "The catalog could not be published" in failure_text(result, "price_catalog")
    assert current_manifest(scene.etl).end_date == LAST


def test_a_catalog_that_could_not_be_published_is_published_by_the_next_run(project: Make, root: Path) -> None:
    scene = filled(project)
    (root / "duckdb").rename(root / "aside")
    (root / "duckdb").write_text("a file where the folder should be")
    scene.update()
    (root / "duckdb").unlink()

    result = scene.update()

    assert result.success
    assert scene.events_of(result) == []
    (published,) = scene.events_of(result, CATALOG)
    assert facts(published)["version"] == scene.etl.catalog.shown_version() == current_manifest(scene.etl).version


def test_an_increment_may_be_narrowed_to_some_symbols(project: Make) -> None:
    scene = filled(project)

    assert scene.update(symbols=["halt"]).success
    assert scene.etl.cursors()["HALT"] == LAST
    assert scene.etl.cursors()["SPLT"] == date(2013, 2, 27)


# ── the sensor ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_store_is_not_asked_for(project: Make) -> None:
    result, _ = tick(project())

    assert "is empty. Backfill first: materialize daily_prices" in why(result)


def test_a_store_that_is_behind_gets_its_first_attempt(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)

    assert request(result).run_key == "2013-03-01:1"
    assert {SESSION_TAG: "2013-03-01", ATTEMPT_TAG: "1"}.items() <= request(result).tags.items()
    assert request(result).partition_key == "2013"
    assert scene.defs.resolve_sensor_def("daily_incremental_sensor").job_name == "daily_incremental_job"
    assert request(result).run_config["ops"] == {"daily_prices": {"config": {"mode": "incremental"}}}
    assert cursor == {"confirmed": None, "session": "2013-03-01", "attempt": 1}, "a request confirms nothing"


def test_it_waits_for_the_close_and_then_for_the_vendor_to_settle(project: Make) -> None:
    def seen(hour: int, minute: int) -> Ticked:
        now = datetime(2013, 2, 27, hour, minute, tzinfo=UTC)
        return tick(Project(scene.root, scene.instance, scripted(info=INFO), now))[0]

    scene = filled(project, until=date(2013, 2, 26))
    expected = (
        "Current through 2013-02-26. The next session, 2013-02-27, closes at 2013-02-27 21:00 UTC; "
        "it is asked for from 2013-02-27 22:00 UTC"
    )

    assert why(seen(20, 59)) == expected
    assert why(seen(21, 59)) == expected
    assert request(seen(22, 0)).run_key == "2013-02-27:1"


def test_half_days_close_early_and_holidays_do_not_count(project: Make) -> None:
    scene = filled(project, until=date(2011, 11, 23))

    def seen(*moment: int) -> Ticked:
        return tick(Project(scene.root, scene.instance, scripted(info=INFO), datetime(*moment, tzinfo=UTC)))[0]

    assert why(seen(2011, 11, 24, 23, 0)) == Saying("2011-11-25", "closes at 2011-11-25 18:00 UTC")
    assert request(seen(2011, 11, 25, 19, 0)).run_key == "2011-11-25:1"


def test_a_run_in_progress_is_waited_for_and_named(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)
    run = launched(scene, result)

    result, cursor = tick(later(scene, 600), json.dumps(cursor))

    assert why(result) == Saying(f"Run {run.run_id}", "2013-03-01", "in progress (NOT_STARTED")
    assert "terminate it on the Runs page" in why(result)
    assert cursor["confirmed"] is None


def test_a_run_started_by_hand_is_waited_for_too(project: Make) -> None:
    scene = filled(project)
    run = scene.instance.create_run_for_job(scene.defs.resolve_job_def("daily_incremental_job"))

    assert f"Run {run.run_id} is in progress" in why(tick(scene)[0])


def test_a_failed_attempt_is_followed_by_the_next_after_a_pause(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)
    for attempt, minutes in ((1, 5), (2, 10), (3, 20)):
        run = launched(scene, result)
        scene.instance.report_run_failed(run)

        waiting, cursor = tick(later(scene, minutes - 0.5), json.dumps(cursor))
        failed = Saying(f"Attempt {attempt}", "2013-03-01", f"FAILURE (run {run.run_id})", f"attempt {attempt + 1} at")
        assert why(waiting) == failed
        result, cursor = tick(later(scene, minutes + 0.5), json.dumps(cursor))
        assert request(result).run_key == f"2013-03-01:{attempt + 1}"
        assert cursor == {"confirmed": None, "session": "2013-03-01", "attempt": attempt + 1}


def test_an_attempt_that_failed_with_the_clock_ahead_is_not_waited_for_until_that_time(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)
    scene.instance.report_run_failed(launched(scene, result))

    result, _ = tick(later(scene, -30 * 24 * 60), json.dumps(cursor))
    assert request(result).run_key == "2013-03-01:2"


def test_the_pauses_grow_to_six_hours() -> None:
    minutes = [pause_after(attempt).total_seconds() / 60 for attempt in (1, 2, 3, 4, 5, 6, 7, 8, 1000)]

    assert minutes == [5, 10, 20, 40, 80, 160, 320, 360, 360]


def test_the_cursor_moves_when_the_store_has_the_session(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)
    assert scene.run_request(request(result)).success

    result, cursor = tick(scene, json.dumps(cursor))

    assert why(result) == Saying("Current through 2013-03-01", "The source ends on 2013-03-01")
    assert cursor == {"confirmed": "2013-03-01", "session": None, "attempt": 0}


def test_a_run_that_went_well_but_brought_nothing_confirms_nothing(project: Make) -> None:
    scene = filled(project, source=scripted(alter=_NOTHING_OF_THE_LAST_SESSION))
    result, cursor = tick(scene)
    assert scene.run_request(request(result)).success

    waiting, cursor = tick(scene, json.dumps(cursor))
    assert why(waiting) == Saying("Attempt 1", "for 2013-03-01", "left the store at 2013-02-28")
    assert cursor["confirmed"] is None
    result, _ = tick(later(scene, 6), json.dumps(cursor))
    assert request(result).run_key == "2013-03-01:2"


def test_a_session_without_all_its_symbols_is_asked_for_again(project: Make) -> None:
    scene = filled(project, source=scripted(outcomes={"HALT": Outcome.RATE_LIMITED}))
    result, cursor = tick(scene)
    assert not scene.run_request(request(result)).success
    assert current_manifest(scene.etl).end_date == LAST

    result, _ = tick(later(scene, 6), json.dumps(cursor))
    assert request(result).run_key == "2013-03-01:2"
    scene.source = scripted()
    assert scene.run_request(request(result)).success
    assert "Current through 2013-03-01" in why(tick(scene)[0])


def test_a_store_brought_up_to_date_by_other_means_is_not_asked_for(project: Make) -> None:
    scene = filled(project)
    _, cursor = tick(scene)
    scene.etl.run_incremental_etl()

    result, cursor = tick(scene, json.dumps(cursor))

    assert "Current through 2013-03-01" in why(result)
    assert cursor["confirmed"] == "2013-03-01"


@pytest.mark.parametrize("cursor", ["", "nonsense", '{"attempt": "many"}'])
def test_a_lost_or_spoilt_cursor_is_found_again_in_the_runs(project: Make, cursor: str) -> None:
    scene = filled(project)
    scene.instance.report_run_failed(launched(scene, tick(scene)[0]))

    result, _ = tick(later(scene, 6), cursor)

    assert request(result).run_key == "2013-03-01:2", "a key that was used before would be dropped silently"


def test_deleted_runs_do_not_bring_back_a_used_key(project: Make) -> None:
    scene = filled(project)
    result, cursor = tick(scene)
    run = launched(scene, result)
    scene.instance.report_run_failed(run)
    scene.instance.delete_run(run.run_id)

    result, _ = tick(scene, json.dumps(cursor))

    assert request(result).run_key == "2013-03-01:2"


def test_a_broken_store_ends_the_tick_with_its_error(project: Make, root: Path) -> None:
    scene = filled(project)
    for path in (root / "manifests").rglob("*.json"):
        path.write_text("{}")

    with pytest.raises(ManifestCorruptError):
        tick(scene)


def test_a_pause_over_years_asks_for_all_of_them(project: Make) -> None:
    scene = filled(project, until=date(2011, 6, 1))

    asked = request(tick(scene)[0])

    assert asked.partition_key is None
    assert range_tags(2011, 2013).items() <= asked.tags.items()
    result = scene.run_request(asked)
    assert [event.partition for event in scene.events_of(result)] == ["2011", "2012", "2013"]


def test_a_vendor_that_fails_as_a_whole_fails_the_run_and_may_be_asked_again(project: Make) -> None:
    scene = filled(project, source=Failing(scripted(), {2013: ProviderUnavailableError("no answer")}))

    result = scene.update()

    assert "no answer" in failure_text(result, "daily_prices")
    assert current_manifest(scene.etl).end_date == date(2013, 2, 27)
