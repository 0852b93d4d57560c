"""What Dagster finds: exactly these names, exactly these years."""

import ast
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

import historical_etl
from historical_etl import ConfigurationError, Coverage, CoverageError, Settings, definitions
from historical_etl.assets.partitions import year_partitions
from historical_etl.schema import SCHEMA_VERSION
from historical_etl_tests.orchestration.harness import CATALOG, CHECKS, PRICES, Project


def settings(**changes) -> Settings:
    return Settings(_env_file=None).changed(changes)  # pyright: ignore[reportCallIssue]


def clock() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


LIVE = Coverage(date(1990, 1, 2))
SAMPLE = Coverage(date(2000, 3, 1), date(2013, 3, 1))
SAMPLE_YEARS = [str(year) for year in range(2000, 2014)]


def keys(years: dg.PartitionsDefinition | None, at: datetime | None = None) -> list[str]:
    assert years
    with dg.partition_loading_context(effective_dt=at or clock()):
        return list(years.get_partition_keys())


def test_exactly_these_definitions_are_found(sample_project: Project) -> None:
    dg.Definitions.validate_loadable(sample_project.defs)
    repository = sample_project.defs.get_repository_def()

    assert set(repository.asset_graph.get_all_asset_keys()) == {PRICES, CATALOG}
    assert {key.name for key in repository.asset_graph.asset_check_keys} == CHECKS
    assert {key.asset_key for key in repository.asset_graph.asset_check_keys} == {CATALOG}
    assert {job.name for job in repository.get_all_jobs()} == {"backfill_job", "daily_incremental_job", "__ASSET_JOB"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "daily_incremental_sensor",
        "default_automation_condition_sensor",
    }
    assert repository.schedule_defs == []


def test_both_assets_say_whose_they_are_and_what_decides_their_content(sample_project: Project) -> None:
    graph = sample_project.defs.resolve_asset_graph()
    prices, catalog = graph.get(PRICES), graph.get(CATALOG)

    assert list(prices.owners) == list(catalog.owners) == ["team:historical-etl"]
    assert prices.code_version == f"schema-{SCHEMA_VERSION}-polars-{pl.__version__}"
    assert catalog.code_version == f"schema-{SCHEMA_VERSION}-duckdb-{duckdb.__version__}"
    assert (prices.kinds, catalog.kinds) == ({"polars", "parquet"}, {"duckdb"})
    tags = {"historical_etl/dataset": "historical_daily", "historical_etl/exchange": "XNYS"}
    assert tags.items() <= prices.tags.items()
    assert tags.items() <= catalog.tags.items()
    assert prices.group_name == catalog.group_name == "prices"


def test_nothing_private_of_dagster_is_imported() -> None:
    imported = {
        (path.name, name)
        for path in Path(historical_etl.__file__ or "").parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        if name.split(".")[0].startswith("dagster")
    }

    assert {name for _, name in imported} == {"dagster", "dagster_duckdb"}, imported


#: Imports the module, and prints each file below the working directory that was opened or looked for meanwhile.
_IMPORT = """
import os, sys
here = os.getcwd()
seen = []
def hook(event, arguments):
    if event.partition(".")[0] in ("open", "os", "glob") and isinstance(arguments[0], (str, os.PathLike)):
        path = os.path.abspath(arguments[0])
        if path.startswith(here):
            seen.append(f"{event} {path}")
sys.addaudithook(hook)
import historical_etl.definitions, historical_etl.replay_definitions
print(seen)
print([name for name in sys.modules if name.startswith("historical_etl.sources.vendors.")])
"""


@pytest.mark.parametrize("broken", [{}, {"HISTORICAL_ETL_SOURCE": "bloomberg", "HISTORICAL_ETL_START": "yesterday"}])
def test_an_import_opens_no_source_and_touches_no_disk(tmp_path: Path, broken: dict[str, str]) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\x00 this is no file of settings")
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("HISTORICAL_ETL_", "DAGSTER_", "COVERAGE_"))}
    given = {"HISTORICAL_ETL_DATA_DIR": str(tmp_path / "nowhere"), "PYTHONPATH": str(Path(__file__).parents[2])}

    # -P: Python itself looks for modules in the working directory otherwise.
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORT],
        cwd=tmp_path,
        env=outside | given | broken,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]"]
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_run_has_one_process(sample_project: Project) -> None:
    """The default executor's child goes on writing when the run is killed (tried on 1.13.27)."""
    repository = sample_project.defs.get_repository_def()

    assert {job.executor_def for job in repository.get_all_jobs()} == {dg.in_process_executor}


def test_the_catalog_is_downstream_of_every_year(sample_project: Project) -> None:
    graph = sample_project.defs.resolve_asset_graph()

    assert graph.get(CATALOG).parent_keys == {PRICES}
    assert graph.get(CATALOG).partitions_def is None
    assert keys(graph.get(PRICES).partitions_def) == SAMPLE_YEARS


def test_what_loads_from_the_module_is_the_sample() -> None:
    from historical_etl.definitions import defs

    assert keys(defs.resolve_asset_graph().get(PRICES).partitions_def) == SAMPLE_YEARS


def test_a_source_with_an_end_bounds_the_years_for_good() -> None:
    years = year_partitions(settings(), SAMPLE, clock)

    assert keys(years) == SAMPLE_YEARS
    assert keys(years, datetime(2040, 1, 1, tzinfo=UTC)) == SAMPLE_YEARS
    assert not years.has_partition_key("2014")


@pytest.mark.parametrize("coverage", [None, LIVE, Coverage(date(1990, 1, 2), date(2026, 11, 20))])
def test_any_other_source_goes_on_to_the_running_year(coverage: Coverage | None) -> None:
    years = year_partitions(settings(), coverage, clock)

    assert keys(years) == [str(year) for year in range(2000, 2027)]


def test_the_new_year_begins_when_it_begins_at_the_exchange() -> None:
    years = year_partitions(settings(), LIVE, clock)

    assert keys(years, datetime(2027, 1, 1, 4, 59, tzinfo=UTC))[-1] == "2026"
    assert keys(years, datetime(2027, 1, 1, 5, 1, tzinfo=UTC))[-1] == "2027"
    tokyo = year_partitions(settings(exchange="XTKS"), LIVE, clock)
    assert keys(tokyo, datetime(2026, 12, 31, 15, 1, tzinfo=UTC))[-1] == "2027"


def test_the_years_begin_with_the_setting_or_with_the_source_whichever_is_later() -> None:
    assert keys(year_partitions(settings(start=date(2009, 5, 1)), SAMPLE, clock))[0] == "2009"
    assert keys(year_partitions(settings(start=date(1980, 1, 1)), SAMPLE, clock))[0] == "2000"
    with pytest.raises(ConfigurationError, match=r"No year to fetch.*2020-01-01.*HISTORICAL_ETL_START"):
        year_partitions(settings(start=date(2020, 1, 1)), SAMPLE, clock)


def test_a_year_outside_is_refused_in_our_words() -> None:
    years = year_partitions(settings(), SAMPLE, clock)

    with dg.partition_loading_context() as context:
        years.validate_partition_key("2013", context)
        with pytest.raises(CoverageError, match=r"'2014' lies outside.*2000 to 2013.*Next: "):
            years.validate_partition_key("2014", context)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HISTORICAL_ETL_SOURCE", "bloomberg", r"Unknown source 'bloomberg' \[HISTORICAL_ETL_SOURCE\].*sample"),
        ("HISTORICAL_ETL_START", "yesterday", r"HISTORICAL_ETL_START='yesterday'"),
        ("HISTORICAL_ETL_EXCHANGE", "NYSE!", r"Unknown exchange 'NYSE!'"),
        ("HISTORICAL_ETL_ENVIRONMENT", "prod", r"production, which refuses the source 'sample'"),
    ],
)
def test_a_wrong_setting_is_named_when_the_definitions_load(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        _ = definitions.defs


def test_the_sensor_is_off_unless_a_setting_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def status() -> dg.DefaultSensorStatus:
        return definitions.defs.resolve_sensor_def("daily_incremental_sensor").default_status

    assert status() is dg.DefaultSensorStatus.STOPPED
    monkeypatch.setenv("HISTORICAL_ETL_SENSOR_ON", "true")
    assert status() is dg.DefaultSensorStatus.RUNNING
