"""Settings: read from one place, and every bad value is refused by the name of its variable."""

import logging
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from historical_etl import ConfigurationError, FilesSettings, Settings, load_settings
from historical_etl_tests.saying import Saying


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No `.env` but the one a test writes."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def setting(monkeypatch):
    def put(**values: str) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"HISTORICAL_ETL_{name}", value)
        return load_settings()

    return put


def test_the_defaults_are_these():
    assert load_settings().model_dump() == {
        **load_settings().model_dump(),
        "data_dir": Path("data"),
        "source": "sample",
        "symbols": None,
        "universe": None,
        "start": date(2000, 1, 1),
        "environment": "development",
        "exchange": "XNYS",
        "settle_minutes": 60,
        "overlap_sessions": 5,
        "max_rejected_share": 0.05,
        "lock_timeout_seconds": 30,
    }


def test_every_promised_variable_is_read(setting):
    read = setting(
        DATA_DIR="/prices",
        SOURCE="files",
        SYMBOLS=" brk.b, aapl ,AAPL",
        START="2004-08-19",
        ENVIRONMENT="production",
        EXCHANGE="XLON",
        FILES_PATH="*.csv",
        FILES_COLUMNS=" date = Date , symbol=Ticker,",
        FILES_DECIMAL=",",
        FILES_SEPARATOR=";",
    )
    assert (read.data_dir, read.source, read.symbols) == (Path("/prices"), "files", ("BRK.B", "AAPL"))
    assert (read.start, read.exchange, read.is_production) == (date(2004, 8, 19), "XLON", True)
    assert read.files.columns == {"date": "Date", "symbol": "Ticker"}
    assert (read.files.path, read.files.decimal, read.files.separator) == ("*.csv", ",", ";")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("START", "yesterday"),
        ("START", "31.12.2012"),
        ("SYMBOLS", "A B,C"),
        ("SYMBOLS", ","),
        ("SETTLE_MINUTES", "-1"),
        ("SETTLE_MINUTES", "an hour"),
        ("OVERLAP_SESSIONS", "0"),
        ("BATCH_SYMBOLS", "0"),
        ("MAX_REJECTED_SHARE", "1.5"),
        ("MAX_REJECTED_SHARE", "nan"),
        ("LOCK_TIMEOUT_SECONDS", "-1"),
        ("KEEP_VERSIONS", "0"),
        ("KEEP_DAYS", "x"),
        ("FILES_DECIMAL", "x"),
        ("FILES_SEPARATOR", "ab"),
        ("FILES_COLUMNS", "date"),
        ("FILES_COLUMNS", "date="),
        ("FILES", "not json"),
        ("FILES", '{"decimal": "x"}'),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(setting, name, value):
    with pytest.raises(ConfigurationError) as caught:
        setting(**{name: value})
    assert str(caught.value.where).startswith(f"HISTORICAL_ETL_{name}")
    assert f"HISTORICAL_ETL_{name}" in str(caught.value)
    assert caught.value.todo


@pytest.mark.parametrize("name", ["DATA_DIR", "SYMBOLS", "START", "EXCHANGE", "FILES_DECIMAL", "SETTLE_MINUTES"])
def test_an_empty_variable_counts_as_unset(setting, name):
    """As shells and compose files leave it; an empty data folder must not mean the current one."""
    assert setting(**{name: ""}) == Settings(_env_file=None)  # pyright: ignore[reportCallIssue]


def test_a_dot_env_file_is_read_and_the_environment_wins(tmp_path, setting):
    (tmp_path / ".env").write_text("HISTORICAL_ETL_SOURCE=files\nHISTORICAL_ETL_EXCHANGE=XTKS\nOTHER=1\n")
    assert load_settings().source == "files"
    assert setting(EXCHANGE="XLON").exchange == "XLON"
    assert load_settings().source == "files"


def test_a_misspelt_variable_is_warned_about_with_the_likely_one(setting, caplog):
    with caplog.at_level(logging.WARNING):
        setting(SORCE="files", FILES_PATHS="x", ZZZ="1")
    assert caplog.text == Saying("HISTORICAL_ETL_SORCE", "ignored", "HISTORICAL_ETL_SOURCE")
    assert "did you mean HISTORICAL_ETL_FILES_PATH?" in caplog.text
    assert caplog.text == Saying("HISTORICAL_ETL_ZZZ", "ignored")


def test_changes_by_name_are_checked_as_the_environment_is():
    settings = load_settings()
    assert settings.changed({}) is settings
    assert settings.changed({"exchange": "XLON", "symbols": "ibm"}).symbols == ("IBM",)
    assert settings.exchange == "XNYS"
    with pytest.raises(ConfigurationError, match="Unknown setting"):
        settings.changed({"exchnge": "XLON"})
    with pytest.raises(ConfigurationError, match="HISTORICAL_ETL_FILES_DECIMAL"):
        settings.changed({"files": {"decimal": "x"}})


def test_a_change_keeps_what_the_environment_set(setting):
    settings = setting(SYMBOLS="IBM", FILES_PATH="a.csv")
    changed = settings.changed({"exchange": "XLON"})
    assert (changed.symbols, changed.files.path) == (("IBM",), "a.csv")


@pytest.mark.parametrize(
    ("name", "production"),
    [("development", False), ("DEV", False), (" ci ", False), ("production", True), ("prod", True), ("what", True)],
)
def test_an_unknown_environment_is_production(setting, name, production):
    assert setting(ENVIRONMENT=name).is_production is production


def test_the_files_group_can_be_made_alone():
    assert FilesSettings(columns={"date": "D"}).columns == {"date": "D"}


@pytest.mark.parametrize("truth", [True, np.bool_(True)], ids=["python", "numpy"])
@pytest.mark.parametrize(
    "name",
    ["overlap_sessions", "max_empty_share", "query_memory", "files.memory", "tiingo.timeout_seconds"],
)
def test_a_truth_is_no_number(truth, name):
    group, _, setting = name.rpartition(".")
    with pytest.raises(ConfigurationError, match=r"it is True, which is no number"):
        Settings().changed({group: {setting: truth}} if group else {name: truth})
    assert Settings().changed({"sensor_on": truth, "overlap_sessions": np.int64(3)}).sensor_on is True


def test_a_blank_folder_is_not_the_current_one():
    with pytest.raises(ConfigurationError, match=r"HISTORICAL_ETL_DATA_DIR.*it is blank"):
        Settings().changed({"data_dir": " "})
