"""Years through Dagster: what is committed, what is shown, and what a bad year does."""

import os
import signal
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from historical_etl import (
    DataQualityError,
    FetchRequest,
    FetchResult,
    Outcome,
    ProviderUnavailableError,
    RateLimitedError,
)
from historical_etl_tests.orchestration.harness import (
    CATALOG,
    PRICES,
    Failing,
    Project,
    facts,
    failure_text,
    range_tags,
    scripted,
    steps,
    stored_years,
)
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import adding, current_manifest, is_row

Make = Callable[..., Project]
#: Of the scripted market, by year: rows and symbols.
ROWS = {2010: (1260, 5), 2011: (1176, 5), 2012: (1155, 5), 2013: (205, 5)}


def test_one_year_is_committed_and_shown_with_what_is_known_of_it(project: Make, root: Path) -> None:
    scene = project()

    result = scene.run(2012)

    assert result.success
    (event,) = scene.events()
    known, path = facts(event), root / "historical" / "daily" / "2012.parquet"
    assert event.partition == "2012"
    assert known["checksum"] == sha256(path.read_bytes()).hexdigest()
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == known["checksum"]
    assert {name: known[name] for name in known if name not in {"checksum", "preview", "missing"}} == {
        "dagster/partition_row_count": 1155,
        "dagster/uri": path.as_uri(),
        "symbols": 5,
        "first_session": "2012-01-03",
        "last_session": "2012-12-31",
        "bytes": path.stat().st_size,
        "version": 1,
        "file": str(path),
        "changed": True,
        "refused_rows": 0,
        "corrections": 0,
        "symbols_missing": 0,
        "sessions_missing": 0,
    }
    assert str(known["preview"]).startswith("| date | symbol | open |")
    assert len(str(known["preview"]).splitlines()) == 7


def test_a_range_is_one_run_with_one_event_for_each_year(project: Make) -> None:
    scene = project()

    result = scene.run(2010, 2013)

    assert result.success
    assert scene.years() == ["2010", "2011", "2012", "2013"]
    assert {
        int(str(event.partition)): (facts(event)["dagster/partition_row_count"], facts(event)["symbols"])
        for event in scene.events()
    } == ROWS
    assert [facts(event)["version"] for event in scene.events()] == [1, 2, 3, 4]
    assert scene.instance.get_runs_count() == 1


def test_a_rerun_is_visibly_unchanged(project: Make) -> None:
    scene = project()
    scene.run(2010, 2011)
    scene.run(2010, 2011)
    scene.run(2011)
    scene.run(2011)

    first, again, alone, once_more = (scene.events()[at] for at in (1, 3, 4, 5))
    assert [facts(event)["changed"] for event in scene.events()] == [True, True, False, False, False, False]
    assert len({facts(event)["version"] for event in (first, again, alone, once_more)}) == 1

    def data_version(event: dg.AssetMaterialization) -> str:
        return (event.tags or {})["dagster/data_version"]

    assert data_version(first) == data_version(again)
    assert data_version(alone) == data_version(once_more) == facts(alone)["checksum"]


def test_a_bad_year_does_not_stop_the_others_and_is_named(project: Make) -> None:
    broken = ProviderUnavailableError("The vendor's file for 2011 is broken", where="vendor", todo="ask it again")
    scene = project(Failing(scripted(), {2011: broken}))

    result = scene.run(2010, 2013)

    assert not result.success
    assert steps(result) == {"daily_prices": "failure"}
    assert stored_years(scene.etl) == [2010, 2012, 2013]
    assert sorted(scene.years()) == ["2010", "2012", "2013"]
    said = failure_text(result, "daily_prices")
    assert "1 of 4 years failed" in said
    assert said == Saying("The vendor's file for 2011 is broken [vendor]", "Next: ask it again")
    assert "Committed and complete: 2010, 2012, 2013." in said
    assert "price_catalog does not show" in said
    assert facts(scene.events()[1])["checksum"], "the years of a failed run have all their metadata too"


def test_several_bad_years_are_all_named(project: Make) -> None:
    broken = ProviderUnavailableError("no answer")
    (failure,) = (
        e
        for e in project(Failing(scripted(), {2011: broken, 2012: broken})).run(2010, 2013).all_events
        if e.is_step_failure
    )
    described = failure.step_failure_data.user_failure_data

    assert described is not None
    assert described.metadata["years_failed"].value == ["2011", "2012"]
    assert described.metadata["years_committed"].value == ["2010", "2013"]


@pytest.mark.parametrize(
    ("errors", "retried"),
    [
        ({2011: ProviderUnavailableError("no answer"), 2012: RateLimitedError("slow down")}, True),
        ({2011: ProviderUnavailableError("no answer"), 2012: DataQualityError("rubbish")}, False),
    ],
)
def test_a_retry_policy_is_followed_only_if_every_error_may_pass(
    project: Make, errors: dict[int, Exception], retried: bool
) -> None:
    scene = project(Failing(scripted(), errors))
    patient = dg.define_asset_job("patient", [PRICES], op_retry_policy=dg.RetryPolicy(max_retries=1))
    job = dg.Definitions.merge(scene.defs, dg.Definitions(jobs=[patient])).resolve_job_def("patient")

    result = job.execute_in_process(instance=scene.instance, raise_on_error=False, tags=range_tags(2010, 2012))

    assert not result.success
    assert any(event.is_step_up_for_retry for event in result.all_events) is retried


def test_what_would_affect_every_year_ends_the_run(project: Make) -> None:
    scene = project(Failing(scripted(), {2011: RateLimitedError("slow down")}))

    said = failure_text(scene.run(2010, 2013), "daily_prices")

    assert "2011: slow down." in said
    assert "2012-2013: skipped" in said
    assert "3 of 4 years failed" in said
    assert stored_years(scene.etl) == [2010]


def test_a_year_for_which_nothing_arrived_is_a_failed_year(project: Make) -> None:
    outcomes = dict.fromkeys(("BRK.B", "SPLT"), Outcome.EMPTY)
    scene = project(scripted(outcomes=outcomes))

    result = scene.run(2010, config={"ops": {"daily_prices": {"config": {"symbols": ["BRK.B", "SPLT"]}}}})

    failure = failure_text(result, "daily_prices")
    assert failure == Saying("delivered nothing for 2010", "2 symbol", "scripted: empty")
    assert scene.years() == []
    assert stored_years(scene.etl) == []


def test_symbols_that_the_vendor_did_not_deliver_fail_the_run_after_the_rest_is_committed(project: Make) -> None:
    scene = project(scripted(outcomes={"HALT": Outcome.RATE_LIMITED}))

    result = scene.run(2010, 2011)

    said = failure_text(result, "daily_prices")
    assert said == Saying("2010: committed", "1 symbol", "HALT (rate_limited)")
    assert stored_years(scene.etl) == [2010, 2011]
    assert scene.years() == ["2010", "2011"]
    assert facts(scene.events()[0])["symbols_missing"] == 1


def test_symbols_that_are_not_there_do_not(project: Make) -> None:
    scene = project(scripted(outcomes={"HALT": Outcome.NOT_FOUND}))

    assert scene.run(2010).success
    (event,) = scene.events()
    (missing,) = event.metadata["missing"].records  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
    assert dict(missing.data) == {"symbol": "HALT", "outcome": "not_found", "why": "scripted: not_found"}


def test_a_run_may_be_narrowed_to_some_symbols(project: Make) -> None:
    scene = project()
    scene.run(2010)

    assert scene.run(2010, config={"ops": {"daily_prices": {"config": {"symbols": ["brk.b"]}}}}).success
    assert facts(scene.events()[-1])["symbols"] == 5, "the others stay as they are"


def test_refused_rows_are_counted_and_found_again(project: Make) -> None:
    scene = project(scripted(alter=adding(date=date(2010, 5, 3), symbol="IPOX", close=-1.0)))

    assert scene.run(2010).success
    known = facts(scene.events()[0])
    assert known["refused_rows"] == 1
    assert known["refused_by_reason"]  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
    (entry,) = known["quarantine"]  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]
    assert (Path(entry) / "reason.json").is_file()


def test_a_year_that_failed_after_its_commit_is_shown(project: Make, root: Path) -> None:
    root.mkdir()
    (root / "sync_progress").write_bytes(b"a file is in the place of the folder")
    scene = project()

    result = scene.run(2010, 2011)

    said = failure_text(result, "daily_prices")
    assert "2 of 2 years failed" in said
    assert "2010: " in said
    assert "Committed and complete: none." in said
    assert stored_years(scene.etl) == [2010, 2011]
    assert scene.years() == ["2010", "2011"]


def test_a_year_that_another_years_commit_changes_is_shown_too(project: Make) -> None:
    scene = project()
    scene.run(2011)
    corrected = pl.when(is_row("BRK.B", date(2010, 12, 31))).then(1.003).otherwise(1.0) * pl.col("adj_close")
    scene.source = scripted(alter=lambda bars: bars.with_columns(adj_close=corrected))

    assert scene.run(2010).success
    assert [(event.partition, event.description) for event in scene.events()] == [
        ("2011", None),
        ("2011", "Changed by the commit of 2010"),
        ("2010", None),
    ]
    assert facts(scene.events()[1])["checksum"] == current_manifest(scene.etl).partitions[-1].checksum


def test_a_reversed_range_is_refused(project: Make) -> None:
    scene = project()

    failure = failure_text(scene.run(2012, 2010), "daily_prices")
    assert failure == Saying("no year", "Next: choose a partition", "the earlier year first")
    assert stored_years(scene.etl) == []


def test_the_years_that_a_terminated_run_had_committed_are_shown(project: Make) -> None:
    class Terminated(Failing):
        """Gets the run's SIGTERM while it fetches 2012, as the UI's Terminate sends it."""

        def fetch(self, request: FetchRequest) -> FetchResult:
            if request.end.year == 2012:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().fetch(request)

    scene = project(Terminated(scripted(), {}))

    assert not scene.run(2010, 2013).success
    assert stored_years(scene.etl) == [2010, 2011]
    assert scene.years() == ["2010", "2011"]


def test_a_failed_publication_is_the_catalogs_failure(project: Make, root: Path) -> None:
    scene = project()
    root.mkdir()
    (root / "duckdb").write_text("a file where the folder should be")

    result = scene.run(2010, 2011)

    assert not result.success
    assert steps(result) == {"daily_prices": "success", "price_catalog": "failure"}
    assert "The catalog could not be published" in failure_text(result, "price_catalog")
    assert scene.years() == ["2010", "2011"]
    assert scene.events(CATALOG) == []


def test_the_columns_are_described_on_the_asset(project: Make) -> None:
    spec = project().defs.resolve_asset_graph().get(PRICES)
    columns = spec.metadata["dagster/column_schema"].columns  # pyright: ignore[reportAttributeAccessIssue, reportGeneralTypeIssues]

    assert [(column.name, column.type, column.constraints.nullable) for column in columns] == [
        ("date", "date", False),
        ("symbol", "string", False),
        ("open", "double", True),
        ("high", "double", True),
        ("low", "double", True),
        ("close", "double", False),
        ("volume", "double", True),
        ("ret", "double", True),
        ("adj_close", "double", True),
    ]
