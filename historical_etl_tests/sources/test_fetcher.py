"""UnifiedDataFetcher: the source is what the settings say, never what happens to answer."""

from datetime import date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import (
    ConfigurationError,
    Coverage,
    CoverageError,
    FetchRequest,
    FetchResult,
    HistoricalETL,
    Outcome,
    ProviderNotSupportedError,
    ProviderUnavailableError,
    Settings,
    SourceInfo,
    UnifiedDataFetcher,
)
from historical_etl.sources import fetcher as unified
from historical_etl.sources.base import check_coverage
from historical_etl_tests.scenario import COLUMNS, KEYS, SHORT, ScriptedSource, at


def configured(**values) -> Settings:
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


@pytest.fixture
def prices(tmp_path) -> Settings:
    """Settings of the `files` source over one CSV file."""
    path = tmp_path / "prices.csv"
    SHORT.bars().drop("ret").write_csv(path)
    return configured(source="files", files={"path": str(path)})


def test_get_daily_prices_is_in_the_schema_and_includes_both_ends():
    frame = UnifiedDataFetcher(configured()).get_daily_prices(" ibm , aapl,IBM", "2012-05-18", datetime(2012, 5, 22))  # noqa: DTZ001
    assert dict(frame.schema) == COLUMNS
    assert frame.select(KEYS).rows() == [
        (date(2012, 5, day), symbol) for day in (18, 21, 22) for symbol in ("AAPL", "IBM")
    ]
    assert frame["ret"].null_count() == frame.height


def test_symbols_without_data_are_absent_and_fetch_says_why():
    fetcher = UnifiedDataFetcher(configured())
    early = FetchRequest(("FB", "IBM", "NONE"), date(2012, 5, 14), date(2012, 5, 17))
    result = fetcher.fetch(early)
    assert dict(result.outcomes) == {"FB": Outcome.EMPTY, "IBM": Outcome.OK, "NONE": Outcome.NOT_FOUND}
    assert "IBM" in result.details["NONE"]
    assert set(fetcher.get_daily_prices(["FB", "IBM"], early.start, early.end)["symbol"]) == {"IBM"}
    nothing = fetcher.get_daily_prices(["FB"], early.start, early.end)
    assert (nothing.height, dict(nothing.schema)) == (0, COLUMNS)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([], "2012-01-01", "2012-02-01"), "empty"),
        ((["BAD SYMBOL"], "2012-01-01", "2012-02-01"), "BAD SYMBOL"),
        ((["IBM"], "2012-02-01", "2012-01-01"), "reversed"),
        ((["IBM"], "soon", "2012-01-01"), "start_date"),
        ((["IBM"], "2012-01-01", 20120101), "end_date"),
    ],
)
def test_malformed_requests_are_refused_by_name(arguments, word):
    with pytest.raises(ConfigurationError, match=word):
        UnifiedDataFetcher(configured()).get_daily_prices(*arguments)


def test_an_unknown_source_names_the_allowed_ones():
    with pytest.raises(ConfigurationError) as caught:
        UnifiedDataFetcher(configured(source="bloomberg"))
    assert caught.value.where == "HISTORICAL_ETL_SOURCE"
    assert "'bloomberg'" in caught.value.what
    assert all(name in caught.value.todo for name in ("sample", "files"))


def test_an_explicit_provider_wins_over_the_setting(prices):
    assert UnifiedDataFetcher(prices, provider=" SAMPLE ").info.name == "sample"
    assert UnifiedDataFetcher(prices).info.name == "files"


def test_an_explicit_provider_never_falls_back(prices, monkeypatch):
    """It fails, and no other source is asked or even made."""

    class Failing(ScriptedSource):
        def fetch(self, request: FetchRequest) -> FetchResult:
            raise ProviderUnavailableError("no answer")

    def refuse(_: Settings) -> ScriptedSource:
        raise AssertionError("another source was made")

    monkeypatch.setitem(unified.SOURCES, "failing", lambda _: Failing(SHORT))
    monkeypatch.setitem(unified.SOURCES, "sample", refuse)
    monkeypatch.setitem(unified.SOURCES, "files", refuse)
    fetcher = UnifiedDataFetcher(prices, provider="failing")
    with pytest.raises(ProviderUnavailableError, match="no answer"):
        fetcher.get_daily_prices(["IBM"], "2012-01-01", "2012-02-01")


@pytest.mark.parametrize("name", ["production", "prod", "live", "staging", "produktion", "", "Development2"])
def test_an_unknown_environment_is_production_and_refuses_sample(name):
    with pytest.raises(ConfigurationError, match="counts as production") as caught:
        UnifiedDataFetcher(configured(environment=name))
    assert "HISTORICAL_ETL_ENVIRONMENT" in caught.value.todo
    with pytest.raises(ConfigurationError):
        UnifiedDataFetcher(configured(environment=name, source="files"), provider="sample")


@pytest.mark.parametrize("name", ["development", "dev", "test", "testing", "ci", "local", " Dev "])
def test_known_lesser_environments_allow_sample(name):
    assert UnifiedDataFetcher(configured(environment=name)).info.name == "sample"


def test_production_takes_a_real_source(prices):
    fetcher = UnifiedDataFetcher(prices.changed({"environment": "production"}))
    assert fetcher.info.name == "files"
    days = date(2013, 1, 2), date(2013, 1, 4)
    assert_frame_equal(fetcher.get_daily_prices(["BRK.B", "HALT"], *days), SHORT.bars(["BRK.B", "HALT"], *days))


def test_the_universe_of_sample_is_point_in_time():
    fetcher = UnifiedDataFetcher(configured())
    assert fetcher.get_universe(date(2003, 1, 2)) == ["AAPL", "IBM", "MSFT"]
    assert fetcher.get_universe("2005-01-03") == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert fetcher.get_universe("2012-05-17") == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert fetcher.get_universe("2012-05-18") == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert fetcher.get_universe("1990-01-02") == []
    assert fetcher.get_universe() == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


def test_the_universe_sp500_is_point_in_time():
    """Facebook joined on 23 December 2013; Lehman left in September 2008."""
    fetcher = UnifiedDataFetcher(configured(universe="sp500"))
    assert "FB" not in fetcher.get_universe("2013-12-20")
    assert "FB" in fetcher.get_universe("2013-12-23")
    assert "LEHMQ" in fetcher.get_universe("2008-09-12")
    assert "LEHMQ" not in fetcher.get_universe("2008-12-31")
    assert 490 <= len(fetcher.get_universe("2010-06-01")) <= 510
    assert "LEHMQ" in fetcher.get_universe()
    assert "LEHMQ" in fetcher.members(date(2008, 1, 1), date(2008, 12, 31))


def test_a_table_of_ones_own_is_the_universe(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("ticker,start_date,end_date\nIBM,2001-01-02,2002-01-02\nAAPL,2001-06-01,\n")
    fetcher = UnifiedDataFetcher(configured(universe=str(path)))
    assert fetcher.get_universe("2001-01-02") == ["IBM"]
    assert fetcher.get_universe("2002-01-02") == ["AAPL"]
    assert fetcher.members(date(2001, 12, 1), date(2002, 12, 31)) == ["AAPL", "IBM"]


def test_the_setting_symbols_comes_before_any_table():
    fetcher = UnifiedDataFetcher(configured(symbols="msft, aapl", universe="sp500"))
    assert fetcher.get_universe("2003-01-02") == ["AAPL", "MSFT"]


def test_a_universe_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.csv"):
        UnifiedDataFetcher(configured(universe=str(tmp_path / "none.csv")))


def test_production_refuses_a_universe_of_survivors(monkeypatch):
    info = SourceInfo("survivors", "1", "raw", point_in_time=False)
    monkeypatch.setitem(unified.SOURCES, "survivors", lambda _: ScriptedSource(SHORT, info=info))
    lenient = UnifiedDataFetcher(configured(source="survivors"))
    strict = UnifiedDataFetcher(configured(source="survivors", environment="production"))
    assert "BRK.B" in lenient.get_universe("2013-01-02")
    with pytest.raises(ProviderNotSupportedError, match="2013-01-02") as caught:
        strict.get_universe("2013-01-02")
    assert "HISTORICAL_ETL_UNIVERSE" in caught.value.todo
    assert "GONE" in strict.get_universe()
    covered = UnifiedDataFetcher(configured(source="survivors", environment="production", symbols="IBM"))
    assert covered.get_universe("2013-01-02") == ["IBM"]


def test_open_without_a_fetcher_takes_the_configured_source(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    etl = HistoricalETL.open(root, clock=at(date(2013, 3, 1)))
    etl.run_year(2012)
    assert etl.query_sql("SELECT count(DISTINCT symbol) AS n FROM daily_prices").item() == 5
    with pytest.raises(CoverageError):
        etl.run_year(1999)
    with pytest.raises(ConfigurationError, match="Unknown source"):
        HistoricalETL.open(root, source="nowhere")


@pytest.mark.parametrize(
    ("start", "end", "served"),
    [
        (date(2012, 1, 1), date(2012, 1, 31), False),
        (date(2012, 1, 1), date(2012, 2, 1), True),
        (date(2012, 3, 31), date(2013, 1, 1), True),
        (date(2012, 4, 1), date(2013, 1, 1), False),
        (date(2011, 1, 1), date(2013, 1, 1), True),
    ],
)
def test_a_range_partly_inside_the_coverage_is_served(start, end, served):
    info = SourceInfo("x", "1", "raw", Coverage(date(2012, 2, 1), date(2012, 3, 31)))
    request = FetchRequest(("A",), start, end)
    check_coverage(SourceInfo("y", "1", "raw"), request)
    if served:
        check_coverage(info, request)
    else:
        with pytest.raises(CoverageError, match="2012-02-01 to 2012-03-31"):
            check_coverage(info, request)


def test_an_open_coverage_ends_with_the_last_closed_session():
    info = SourceInfo("x", "1", "raw", Coverage(date(2012, 2, 1)))
    check_coverage(info, FetchRequest(("A",), date(2099, 1, 1), date(2099, 1, 2)))
    with pytest.raises(CoverageError, match="the last closed session"):
        check_coverage(info, FetchRequest(("A",), date(2011, 1, 1), date(2011, 1, 2)))


def test_a_request_knows_what_it_must_have():
    with pytest.raises(ConfigurationError, match="empty"):
        FetchRequest((), date(2012, 1, 1), date(2012, 1, 1))
    with pytest.raises(ConfigurationError, match="reversed"):
        FetchRequest(("A",), date(2012, 1, 2), date(2012, 1, 1))


def test_a_fingerprint_changes_with_the_price_basis_and_not_with_the_version():
    one = SourceInfo("x", "1", "raw")
    assert SourceInfo("x", "2", "raw").fingerprint() == one.fingerprint()
    assert SourceInfo("x", "1", "adjusted").fingerprint() != one.fingerprint()
    assert SourceInfo("y", "1", "raw").fingerprint() != one.fingerprint()
    assert pl.Series([one.fingerprint()]).str.len_chars().item() == 16
