"""Settings of the vendors: each from its variable, each bad value refused by name, no key ever shown."""

import logging
import pickle

import pytest

from historical_etl import ConfigurationError, Settings, UnifiedDataFetcher, load_settings
from historical_etl.sources.fetcher import SOURCES
from historical_etl.vendor_settings import VENDOR_GROUPS
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, VENDORS


@pytest.fixture
def keys(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, f"very-secret-{name}")


def test_every_vendor_has_a_group_and_a_source():
    assert set(VENDOR_GROUPS) == set(VENDORS) == set(SOURCES) - {"sample", "files"}
    assert all(isinstance(getattr(load_settings(), name), group) for name, group in VENDOR_GROUPS.items())


def test_each_setting_is_read_from_its_variable(monkeypatch, vendor):
    values = {
        "BASE_URL": "http://127.0.0.1:9/x/",
        "RATE": "7/second",
        "DAILY_BUDGET": "11",
        "TIMEOUT_SECONDS": "1.5",
        "ATTEMPTS": "2",
        "MAX_WAIT_SECONDS": "3",
        "BREAKER_FAILURES": "4",
        "BREAKER_SECONDS": "5",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"HISTORICAL_ETL_{vendor.upper()}_{name}", value)
    group = getattr(load_settings(), vendor)
    assert (group.base_url, group.requests, group.period_seconds) == ("http://127.0.0.1:9/x", 7, 1)
    assert (group.daily_budget, group.timeout_seconds, group.attempts) == (11, 1.5, 2)
    assert (group.max_wait_seconds, group.breaker_failures, group.breaker_seconds) == (3, 4, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE", "fast"),
        ("RATE", "0/minute"),
        ("RATE", "5/week"),
        ("DAILY_BUDGET", "0"),
        ("BASE_URL", "localhost:1"),
        ("BASE_URL", "https://host/path?key=1"),
        ("TIMEOUT_SECONDS", "0"),
        ("ATTEMPTS", "0"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(monkeypatch, vendor, name, value):
    monkeypatch.setenv(f"HISTORICAL_ETL_{vendor.upper()}_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.where == f"HISTORICAL_ETL_{vendor.upper()}_{name}"


def test_a_whole_group_in_one_variable_has_to_be_parted(monkeypatch, vendor):
    monkeypatch.setenv(f"HISTORICAL_ETL_{vendor.upper()}", "not json")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.where == f"HISTORICAL_ETL_{vendor.upper()}"


def test_a_misspelt_variable_is_warned_about(monkeypatch, caplog):
    monkeypatch.setenv("HISTORICAL_ETL_TIINGO_RAT", "1/second")
    monkeypatch.setenv("HISTORICAL_ETL_TIINGO_RATE", "1/second")
    with caplog.at_level(logging.WARNING):
        load_settings()
    assert "did you mean HISTORICAL_ETL_TIINGO_RATE?" in caplog.text
    assert caplog.text.count("is not a setting") == 1


@pytest.mark.usefixtures("keys")
def test_no_key_is_shown_by_settings(vendor):
    settings = load_settings().changed({"exchange": "XLON"})
    group = getattr(settings, vendor)
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(group), repr(settings.model_dump())]
    assert "very-secret" not in "".join(shown)
    held = [value.get_secret_value() for value in dict(group).values() if hasattr(value, "get_secret_value")]
    assert held == [f"very-secret-{name}" for name in group.variables]  # and yet it is there, after a change too


@pytest.mark.parametrize("name", [name for name in VENDORS if name != "yfinance"])
def test_without_its_key_a_source_names_the_variable(name):
    with pytest.raises(ConfigurationError, match="is not set") as caught:
        UnifiedDataFetcher(Settings(source=name))
    assert caught.value.where in ENVIRONMENT


@pytest.mark.usefixtures("keys")
def test_a_stranger_switches_to_a_vendor_with_two_variables(monkeypatch, vendor):
    monkeypatch.setenv("HISTORICAL_ETL_SOURCE", vendor)
    fetcher = UnifiedDataFetcher()
    assert fetcher.info.name == vendor
    assert "very-secret" not in repr(vars(fetcher)) + repr(fetcher.info)


def test_a_missing_client_is_reported_by_its_extra(monkeypatch, vendor):
    module = {"tiingo": "httpx", "eodhd": "httpx", "alpaca": "alpaca.data.historical.stock"}.get(vendor, vendor)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        UnifiedDataFetcher(Settings(source=vendor))
    extra = {"yfinance": "yahoo"}.get(vendor, vendor)
    assert f"pip install 'PATH/TO/CHECKOUT[{extra}]'" in caught.value.todo
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ConfigurationError)  # noqa: S301


def test_a_client_is_imported_when_first_used_and_not_before():
    program = (
        "import sys, historical_etl; historical_etl.UnifiedDataFetcher; historical_etl.load_settings()\n"
        "import historical_etl.sources.fetcher\n"
        "print(sorted({'httpx', 'yfinance', 'alpaca', 'massive', 'tenacity', 'pyrate_limiter'} & set(sys.modules)))"
    )
    import subprocess
    import sys

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
