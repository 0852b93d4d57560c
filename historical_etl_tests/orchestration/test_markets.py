"""Two markets in one code location, as docs/markets.md shows it: each with its store, its sessions and its runs."""

import runpy
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from historical_etl import ConfigurationError, HistoricalETL, get_calendar
from historical_etl.automation import SESSION_TAG
from historical_etl.cli import main
from historical_etl.markets import build_market, merge_markets
from historical_etl_tests.docs.blocks import REPOSITORY, blocks
from historical_etl_tests.docs.blocks import steps as commands
from historical_etl_tests.orchestration.harness import Ticked, evaluated, facts, request, sample, steps, why
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, store

_PAGE = REPOSITORY / "docs" / "markets.md"
_NAMES = ("new_york", "london")
_FIRST, _EVE, _LAST = date(2012, 12, 3), date(2013, 2, 27), date(2013, 3, 1)


def prices(market: str) -> dg.AssetKey:
    return dg.AssetKey([market, "daily_prices"])


def catalog(market: str) -> dg.AssetKey:
    return dg.AssetKey([market, "price_catalog"])


def write_london(folder: Path, until: date) -> None:
    """Bars of two symbols on every session of London's."""
    folder.mkdir(exist_ok=True)
    lines = ["date,symbol,open,high,low,close,volume,adj_close"]
    for number, day in enumerate(get_calendar("XLON").between(_FIRST, until)):
        for symbol, level in (("VOD", 165.0), ("BARC", 280.0)):
            close = level + (number * 7 % 5) / 4
            lines.append(f"{day},{symbol},{close - 0.5},{close + 1},{close - 1},{close},{90_000 + number},{close}")
    (folder / "bars.csv").write_text("\n".join(lines) + "\n")


@dataclass
class Exchange:
    """A working folder with the module of the page, and an instance."""

    folder: Path
    instance: dg.DagsterInstance

    @property
    def defs(self) -> dg.Definitions:
        return runpy.run_path(str(self.folder / "markets.py"))["defs"]()

    def etl(self, market: str) -> HistoricalETL:
        return HistoricalETL.open(self.folder / "data" / market, sample())

    def run(self, job: str, **options) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, **options
        )

    def tick(self, market: str) -> Ticked:
        return evaluated(self.instance, self.defs, name=f"{market}_daily_incremental_sensor")

    def run_request(self, market: str, asked: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.run(
            f"{market}_daily_incremental_job",
            run_config=asked.run_config,
            partition_key=asked.partition_key,
            tags=dict(asked.tags),
        )

    def years(self, market: str) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(prices(market)))


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    (code,) = (block.text for block in blocks(_PAGE) if block.language == "python")
    (tmp_path / "markets.py").write_text(code)
    (tmp_path / "dagster").mkdir()
    monkeypatch.chdir(tmp_path)
    write_london(tmp_path / "lse", _EVE)
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Exchange(tmp_path, instance)


def test_all_parts_are_there_twice_with_the_names_that_the_page_gives(exchange: Exchange) -> None:
    defs = exchange.defs
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    page = _PAGE.read_text()

    assert set(repository.asset_graph.get_all_asset_keys()) == {key(m) for m in _NAMES for key in (prices, catalog)}
    names = {
        "jobs": {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "resources": set(defs.resources or {}),
        "groups": {repository.asset_graph.get(prices(market)).group_name for market in _NAMES},
    }
    for kind, found in names.items():
        assert len({name.removeprefix("london_") for name in found if name.startswith("london_")}) == len(found) / 2, (
            kind
        )
        assert all(f"`{name}`" in page for name in found if name.startswith("london_")), kind
    graph = repository.asset_graph
    assert graph.get(catalog("london")).parent_keys == {prices("london")}
    assert graph.get(prices("london")).tags["historical_etl/exchange"] == "XLON"


def test_both_fill_follow_and_publish_by_themselves(exchange: Exchange) -> None:
    etl = store(exchange.folder / "data" / "new_york", sample(), _EVE)
    etl.run_full_etl(["AAPL", "IBM"], _FIRST, _EVE)
    filled = exchange.run("london_backfill_job", partition_key="2012")
    assert filled.success
    assert exchange.run("london_backfill_job", partition_key="2013").success
    assert (exchange.years("london"), exchange.years("new_york")) == (["2012", "2013"], [])

    write_london(exchange.folder / "lse", _LAST)
    ran = {market: exchange.run_request(market, request(exchange.tick(market))) for market in _NAMES}

    for market, result in ran.items():
        assert steps(result) == {f"{market}__daily_prices": "success", f"{market}__price_catalog": "success"}
        assert current_manifest(exchange.etl(market)).end_date == _LAST
        assert exchange.instance.get_run_by_id(result.run_id).tags[SESSION_TAG] == str(_LAST)  # pyright: ignore[reportOptionalMemberAccess]
        event = exchange.instance.get_latest_materialization_event(catalog(market))
        assert event is not None
        assert event.asset_materialization is not None
        published = facts(event.asset_materialization)
        assert published["version"] == current_manifest(exchange.etl(market)).version
        with duckdb.connect(str(published["file"]), read_only=True) as client:
            symbols = client.execute("SELECT DISTINCT symbol FROM daily_prices ORDER BY 1").fetchall()
        assert symbols == [("AAPL",), ("IBM",)] if market == "new_york" else [("BARC",), ("VOD",)]
        assert why(exchange.tick(market)).startswith(f"Current through {_LAST}.")
    # Each has the sessions of its exchange: London rests on Boxing Day.
    boxing = date(2012, 12, 26)
    assert [m for m in _NAMES if exchange.etl(m).scan(start=boxing, end=boxing).collect().height] == ["new_york"]


def test_a_run_in_progress_of_one_does_not_hold_the_other_up(exchange: Exchange) -> None:
    etl = store(exchange.folder / "data" / "new_york", sample(), _EVE)
    etl.run_full_etl(["AAPL", "IBM"], _FIRST, _EVE)
    assert exchange.run("london_backfill_job", partition_key="2012").success
    exchange.instance.create_run_for_job(exchange.defs.resolve_job_def("new_york_daily_incremental_job"))

    assert "is in progress" in why(exchange.tick("new_york"))
    assert request(exchange.tick("london")).partition_key == "2013"


def test_the_commands_of_the_page_work_as_they_stand(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process; `dagster dev` is a server, and loads what the other tests load."""
    (dagster,) = entry_points(group="console_scripts", name="dagster")
    home = exchange.folder / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    said: dict[str, str] = {}
    for step in (step for block in blocks(_PAGE) if block.language == "console" for step in commands(block)):
        words = shlex.split(step.command.replace("\\\n", " "))
        program = next(number for number, word in enumerate(words) if "=" not in word)
        arguments = words[program + 1 :]
        with monkeypatch.context() as only_here:
            for setting in words[:program]:
                only_here.setenv(*setting.split("=", 1))
            if words[program] == "historical-etl":
                assert main(arguments) == 0
            elif arguments[0] != "dev":
                only_here.setattr("sys.argv", ["dagster", *arguments])
                with pytest.raises(SystemExit) as ended:
                    dagster.load()()
                assert not ended.value.code
            shown = capfd.readouterr()
        said[step.command.split()[-1]] = shown.out + shown.err
    assert list(said) == ["markets.py", "2012", "update", "status"]
    assert current_manifest(exchange.etl("london")).end_date == _EVE
    warning = "The store was filled by the sessions of XLON, and the exchange is now XNYS"
    assert warning not in said["status"]
    for command, code in (("status", 0), ("update", 2)):
        assert main(["--data-dir", "data/london", command]) == code
        shown = capfd.readouterr()
        assert warning in shown.out + shown.err, "what the page says of a command without the variables"


def test_one_market_may_have_no_prefix(tmp_path: Path) -> None:
    alone = build_market(data_dir=str(tmp_path / "new_york"))
    london = build_market("london", exchange="XLON", data_dir=str(tmp_path / "london"))
    repository = merge_markets(alone, london).get_repository_def()

    assert {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()} == {
        "daily_prices",
        "price_catalog",
        "london/daily_prices",
        "london/price_catalog",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "daily_incremental_sensor",
        "default_automation_condition_sensor",
        "london_daily_incremental_sensor",
        "london_automation_condition_sensor",
    }


@pytest.mark.parametrize(
    ("prefix", "settings", "message"),
    [
        ("new york", {}, r"'new york' cannot be a key prefix.*letters, digits and underscores"),
        ("", {}, r"'' cannot be a key prefix.*leave it out for none"),
        ("default", {}, r"'default' cannot be a key prefix.*other than 'default'"),
        (5, {}, r"key_prefix is of the type int \[build_market\]. Next: give a string or None"),
        (["london"], {}, r"key_prefix is of the type list"),
        ("london", {"files": "lse"}, r"files is of the type str.*give a mapping"),
        ("london", {"files": {5: "lse"}}, r"No setting of one market: files.5"),
        ("london", {"exchnage": "XLON"}, r"No setting of one market: exchnage"),
        ("london", {"files": {"pth": "lse"}}, r"No setting of one market: files.pth.*files.path"),
        ("london", {"tiingo": {"api_key": "0123456789"}}, r"No setting of one market: tiingo"),
        ("london", {"exchange": "LONDON!"}, r"Unknown exchange 'LONDON!'"),
        ("london", {"settle_minutes": "soon"}, r"HISTORICAL_ETL_SETTLE_MINUTES='soon'"),
        ("london", {"data_dir": 5}, r"data_dir is of the type int \[build_market\]"),
        ("london", {"files": {"path": 5}}, r"files.path is of the type int \[build_market\]"),
        ("london", {"data_dir": ""}, r"HISTORICAL_ETL_DATA_DIR.*it is blank"),
        ("london", {"overlap_sessions": True}, r"overlap_sessions is of the type bool"),
    ],
)
def test_what_is_wrong_with_a_market_is_named(prefix: Any, settings: Mapping[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_market(prefix, **settings)


def test_two_markets_have_two_folders_and_two_prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder is one store, and a store has one exchange: Dagster's own merge would not see it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    one = build_market("new_york", data_dir=tmp_path / "data")
    for folder in ("data", "./data", "link", "data/london", "link/a/b", tmp_path, ".."):
        with pytest.raises(ConfigurationError, match=r"same data folder.*\[.*\]\. Next: "):
            merge_markets(build_market("london", exchange="XLON", data_dir=folder), one)
    with pytest.raises(ConfigurationError, match=r"key prefix 'new_york'.*Next: "):
        merge_markets(one, build_market("new_york", exchange="XLON", data_dir="other"))
    with pytest.raises(ConfigurationError, match=r"Two markets have no key prefix"):
        merge_markets(build_market(data_dir="a"), build_market(data_dir="b"))
    with pytest.raises(ConfigurationError, match=r"markets is of the type list"):
        merge_markets([one])  # pyright: ignore[reportArgumentType] - that is the test

    @dg.asset
    def mine() -> None: ...

    beside = build_market("london", exchange="XLON", data_dir="data2")
    both = merge_markets(one, beside, dg.Definitions([mine])).resolve_asset_graph()
    assert {prices("new_york"), prices("london"), mine.key} < set(both.get_all_asset_keys())


def test_what_is_missing_today_keeps_no_market_out_of_dagster(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    """One drive that is not mounted must not take New York's evening with it."""
    shutil.rmtree(exchange.folder / "lse")
    missing = build_market("tokyo", exchange="XTKS", data_dir="tokyo", source="tiingo")

    assert {prices(market) for market in _NAMES} < set(exchange.defs.resolve_asset_graph().get_all_asset_keys())
    dg.Definitions.validate_loadable(missing)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any("TIINGO_API_KEY is not set" in line for line in messages)
    assert Saying("lse", "Runs will fail", "corrected") in messages
    failed = exchange.run("london_backfill_job", partition_key="2012")
    assert not failed.success
    with pytest.raises(ConfigurationError, match="HISTORICAL_ETL_FILES_PATH"):
        exchange.tick("london")
