"""The catalog: what it shows, what its checks find, how it follows the years, and what it tells Dagster."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from historical_etl import CatalogError, ProviderUnavailableError
from historical_etl.resources import CatalogResource
from historical_etl_tests.orchestration.harness import (
    CATALOG,
    CHECKS,
    PRICES,
    Failing,
    Project,
    facts,
    failure_text,
    sample,
    scripted,
)
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import Market, adding, current_manifest, store

Make = Callable[..., Project]


def outcomes(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def said(result: dg.ExecuteInProcessResult, check: str) -> str:
    (found,) = (found for found in result.get_asset_check_evaluations() if found.check_name == check)
    assert found.severity is dg.AssetCheckSeverity.WARN
    return str(found.description)


def refresh(scene: Project) -> dg.ExecuteInProcessResult:
    job = scene.defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=scene.instance, raise_on_error=False, asset_selection=[CATALOG])


# ── what it shows ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalog_is_published_and_described(project: Make, root: Path) -> None:
    scene = project()
    scene.run(2010, 2011)

    (event,) = scene.events(CATALOG)
    known, manifest = facts(event), current_manifest(scene.etl)
    assert known["dagster/row_count"] == 2436
    assert (known["version"], known["checksum"], known["years"], known["symbols"]) == (2, manifest.checksum, 2, 5)
    assert known["citation"] == f"historical_daily@v2:{manifest.checksum}"
    assert known["file"] == str(root / "duckdb" / "historical_catalog.duckdb")
    assert str(known["rows_by_year"]).splitlines()[-1] == "| 2011 | 1176 | 5 | 2011-01-03 | 2011-12-30 |"
    with duckdb.connect(str(known["file"]), read_only=True) as client:
        assert client.execute("SELECT count(*) FROM daily_prices").fetchall() == [(2436,)]


def test_the_catalog_of_an_empty_store_fails_saying_what_to_do(project: Make) -> None:
    message = failure_text(refresh(project()), "price_catalog")
    assert message.startswith("Nothing was committed yet")
    assert message == Saying("Next", "materialize daily_prices", "`historical-etl backfill`")


def test_the_resource_reads_what_is_there_now_and_writes_nothing(project: Make, root: Path) -> None:
    scene = project()
    scene.run(2010)
    resource = CatalogResource(database=str(root / "duckdb" / "historical_catalog.duckdb"))

    def count() -> int:
        with resource.get_connection() as connection:
            rows = connection.execute("SELECT count(*) FROM daily_prices").fetchall()
            return int(rows[0][0])

    with resource.get_connection() as stays_open:
        assert count() == 1260
        scene.run(2011)
        assert count() == 2436, "a connection that is open must not make new ones see the old file"
        with pytest.raises(duckdb.Error, match="read-only"):
            stays_open.execute("CREATE TABLE t (i INTEGER)")


def test_the_resource_closes_after_an_exception_and_names_a_missing_file(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "it's here.duckdb")) as client:
        client.execute("CREATE VIEW v AS SELECT 1")
    resource = CatalogResource(database=str(tmp_path / "it's here.duckdb"))
    kept: list[duckdb.DuckDBPyConnection] = []

    def interrupted() -> None:
        with resource.get_connection() as connection:
            kept.append(connection)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    with pytest.raises(duckdb.Error, match="closed"):
        kept[0].execute("SELECT 1")
    with (
        pytest.raises(CatalogError, match=r"cannot be read.*nowhere.*materialize price_catalog"),
        CatalogResource(database=str(tmp_path / "nowhere.duckdb")).get_connection(),
    ):
        pass


# ── its checks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_checks_pass_and_none_stays_open(project: Make) -> None:
    scene = project()

    first, again = scene.run(2010, 2013), scene.run(2013)

    assert outcomes(first) == outcomes(again) == dict.fromkeys(CHECKS, True)
    assert sorted(scene.checks()) == sorted([(name, "SUCCEEDED", None) for name in CHECKS] * 2)


def test_missing_years_and_missing_sessions_are_pointed_out(project: Make) -> None:
    scene = project()
    scene.run(2010)

    result = scene.run(2012)

    assert result.success, "they are warnings"
    assert "Not stored: 2011." in said(result, "years_are_contiguous")
    behind = said(result, "reaches_the_last_session")
    assert behind == Saying("ends on 2012-12-31", "last session", "2013-03-01")


def test_what_was_quarantined_is_pointed_out_once(project: Make) -> None:
    spoilt = project(scripted(alter=adding(date=Market().first, symbol="IPOX", close=-1.0)))

    assert "1 new" in said(spoilt.run(2010), "nothing_newly_quarantined")
    assert outcomes(project().run(2011))["nothing_newly_quarantined"]


def test_a_file_that_shows_something_else_fails_the_step(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = project()
    scene.run(2010)
    scene.etl.run_year(2011)
    # A disk that swallows the swap: the publication says it went well, the file is the old one.
    monkeypatch.setattr("historical_etl.catalog.catalog.Catalog.publish", lambda *_: None)
    scene.etl.run_year(2012, publish=False)

    result = refresh(scene)

    assert not result.success
    assert not outcomes(result)["shows_the_committed_version"]


# ── years that no run reported ─────────────────────────────────────────────────────────────────────────────────────


def test_years_that_the_command_line_committed_are_reported(project: Make) -> None:
    scene = project()
    scene.run(2010)
    scene.etl.run_year(2012)

    assert refresh(scene).success
    refresh(scene)

    assert scene.years() == ["2010", "2012"], "once, and not again"
    assert facts(scene.events()[-1])["checksum"] == current_manifest(scene.etl).partitions[-1].checksum
    assert scene.events()[-1].description == "Found in the store"


def test_years_outside_the_partitions_are_left_alone(project: Make) -> None:
    scene = project(sample())
    store(scene.root, scripted(), today=Market().last).run_year(2012)
    elsewhere = Project(scene.root, scene.instance, scripted(info=sample().info), scene.at)

    assert refresh(elsewhere).success
    assert elsewhere.years() == ["2012"]


# ── automation ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Ticks:
    """The daemon's evaluation, as often as a test asks for it."""

    def __init__(self, scene: Project) -> None:
        self.scene = scene
        self.cursor = None
        self()

    def __call__(self) -> int:
        result = dg.evaluate_automation_conditions(
            self.scene.defs, self.scene.instance, asset_selection=dg.AssetSelection.assets(CATALOG), cursor=self.cursor
        )
        self.cursor = result.cursor
        return result.total_requested


def test_an_empty_store_asks_for_no_catalog(project: Make) -> None:
    ticks = Ticks(project())

    assert [ticks(), ticks()] == [0, 0]


def test_a_new_year_asks_for_the_catalog_though_others_are_missing(project: Make) -> None:
    scene = project()
    ticks = Ticks(scene)
    scene.run(2011, select=["daily_prices"])

    assert [ticks(), ticks()] == [1, 0]
    refresh(scene)
    assert ticks() == 0
    scene.run(2012, select=["daily_prices"])
    assert [ticks(), ticks()] == [1, 0]


def test_a_run_that_publishes_by_itself_asks_for_nothing(project: Make) -> None:
    scene = project()
    ticks = Ticks(scene)
    scene.run(2010, 2011)
    assert [ticks(), ticks()] == [0, 0]
    scene.update()
    assert [ticks(), ticks()] == [0, 0]


def test_the_good_years_of_a_failed_run_ask_for_the_catalog(project: Make) -> None:
    scene = project(Failing(scripted(), {2011: ProviderUnavailableError("no answer")}))
    ticks = Ticks(scene)
    assert not scene.run(2010, 2012).success

    assert [ticks(), ticks()] == [1, 0]
    assert refresh(scene).success


def test_the_follower_is_on_from_the_start(project: Make) -> None:
    sensor = project().defs.resolve_sensor_def("default_automation_condition_sensor")

    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert project().defs.resolve_asset_graph().get(PRICES).automation_condition is None
