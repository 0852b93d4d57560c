"""Whose symbols are fetched with a vendor: those of the time, delisted ones included, or those that are named."""

import logging
from datetime import date

import pytest

from historical_etl import (
    ConfigurationError,
    ProviderNotSupportedError,
    ProviderUnavailableError,
    Settings,
    SourceInfo,
    UnifiedDataFetcher,
    load_settings,
)
from historical_etl.sources import fetcher as unified
from historical_etl_tests.cli.conftest import command_line
from historical_etl_tests.scenario import SHORT, ScriptedSource
from historical_etl_tests.sources.vendors.conftest import END, TRUTH
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, Fault, always

LIVES: dict[str, list[date]] = {
    str(key[0]): part["date"].sort().to_list() for key, part in TRUTH.bars.partition_by("symbol", as_dict=True).items()
}
GONE = LIVES["GONE"][-1]


@pytest.fixture
def keyed(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def massive(serve, tmp_path, clock):
    sources = []

    def make(universe="CS", **settings):
        limits = {"page": settings.pop("page", None), "faults": settings.pop("faults", None)}
        server = serve(**limits)
        sources.append(
            server.source("massive", state_folder=tmp_path / "turns", pace=clock.pace, universe=universe, **settings)
        )
        return sources[-1], server

    yield make
    for source in sources:
        source.close()


def test_massive_names_the_members_of_the_time_delisted_ones_included(massive):
    source, server = massive(page=2)
    assert source.info.point_in_time
    assert source.members(None, None) == TRUTH.symbols
    assert source.members(GONE, GONE) == [symbol for symbol in TRUTH.symbols if LIVES[symbol][0] <= GONE]
    assert "GONE" in source.members(date(2012, 10, 15), END)
    assert "GONE" not in source.members(date(2013, 2, 4), END)
    assert source.members(date(2001, 1, 1), date(2001, 12, 31)) == []
    assert any("active=false" in unit for unit in server.asked)
    server.asked.clear()
    assert "SPLT" in source.members(date(2013, 1, 1), date(2049, 12, 31))  # a year that is not over
    assert not [unit for unit in server.asked if "date=" in unit]


def test_without_the_setting_massive_is_not_asked(massive):
    source, server = massive(universe="")
    assert (source.members(None, None), source.info.point_in_time, server.asked.total()) == ([], False, 0)


def test_a_list_that_cannot_be_had_is_an_error_and_no_short_list(massive):
    source, _ = massive(faults=always(Fault.ERROR, "active=false"))
    with pytest.raises(ProviderUnavailableError, match="HTTP 500"):
        source.members(None, END)


def test_the_types_of_tickers_are_checked(monkeypatch):
    monkeypatch.setenv("HISTORICAL_ETL_MASSIVE_UNIVERSE", "common stocks")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.where == "HISTORICAL_ETL_MASSIVE_UNIVERSE"


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_vendor_without_a_universe_refuses_to_say_who_there_was(vendor, environment):
    fetcher = UnifiedDataFetcher(Settings(source=vendor, environment=environment))
    with pytest.raises(ProviderNotSupportedError, match="2013-01-02") as caught:
        fetcher.get_universe("2013-01-02")
    assert "HISTORICAL_ETL_UNIVERSE" in caught.value.todo
    assert fetcher.members(None, None) == []


@pytest.mark.usefixtures("keyed")
def test_a_list_and_a_table_answer_for_any_vendor_in_production(vendor):
    listed = UnifiedDataFetcher(Settings(source=vendor, environment="production", symbols=("MSFT", "AAPL")))
    assert listed.get_universe("2013-01-02") == ["AAPL", "MSFT"]
    table = UnifiedDataFetcher(Settings(source=vendor, environment="production", universe="sp500"))
    assert "LEHMQ" in table.get_universe("2008-09-12")
    assert "LEHMQ" in table.members(date(2008, 1, 1), date(2008, 12, 31))
    assert "LEHMQ" not in table.members(date(2009, 1, 1), date(2009, 12, 31))


def test_production_is_warned_of_a_universe_that_may_be_todays(monkeypatch, caplog):
    info = SourceInfo("survivors", "1", "raw")
    monkeypatch.setitem(unified.SOURCES, "survivors", lambda _: ScriptedSource(SHORT, info=info))
    with caplog.at_level(logging.WARNING):
        assert UnifiedDataFetcher(Settings(source="survivors")).members(date(2013, 1, 2), None)
        assert caplog.text == ""
        assert UnifiedDataFetcher(Settings(source="survivors", environment="production")).members(
            date(2013, 1, 2), None
        )
    assert "today's survivors only" in caplog.text


@pytest.mark.usefixtures("keyed")
def test_a_backfill_of_a_table_fetches_the_members_of_the_time(serve, tmp_path, capsys, monkeypatch):
    """GONE left the index before 2013, and stopped trading: 2012 has it, 2013 does not ask for it."""
    table = tmp_path / "index.csv"
    table.write_text(f"ticker,start_date,end_date\nGONE,2010-01-04,{GONE}\nSPLT,2010-01-04,\nHALT,2013-01-02,\n")
    cli, server = command_line(tmp_path, capsys, monkeypatch), serve()
    cli.set(SOURCE="tiingo", TIINGO_BASE_URL=server.url, UNIVERSE=str(table), ENVIRONMENT="production")
    cli.set(TIINGO_RATE="100000/second")
    assert set(cli("backfill", "--from", "2012", "--to", "2012", "--json").document["outcomes"]) == {"GONE", "SPLT"}
    server.asked.clear()
    cli("backfill", "--from", "2013", "--to", "2013")
    assert sorted({unit.split("/")[3] for unit in server.asked}) == ["HALT", "SPLT"]


@pytest.mark.usefixtures("keyed")
def test_a_backfill_without_any_symbols_says_how_to_name_them(vendor, tmp_path, capsys, monkeypatch):
    cli = command_line(tmp_path, capsys, monkeypatch)
    cli.set(SOURCE=vendor)
    answer = cli("backfill", "--from", "2020", "--to", "2020")
    assert answer.code == 2
    assert "HISTORICAL_ETL_UNIVERSE" in answer.err
