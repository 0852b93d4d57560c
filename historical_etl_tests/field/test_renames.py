"""Renames: a history goes on under another name, in one commit, and is found by either."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl import (
    ChecksumMismatchError,
    ConfigurationError,
    DataQualityError,
    DataValidator,
    Outcome,
    Settings,
    UnifiedDataFetcher,
)
from historical_etl.sources.fetcher import SOURCES
from historical_etl_tests.field.tickers import TickerSource
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    KEYS,
    Listing,
    Market,
    ScriptedSource,
    as_rows,
    current_manifest,
    daily_bytes,
    sessions,
    store,
    stored,
)
from historical_etl_tests.shares import examples

FIRST, ON, LAST = date(2011, 11, 1), date(2012, 2, 9), date(2012, 3, 30)
LATER = date(2012, 4, 30)
MARKET = Market((Listing("CO"), Listing("OTHER"), Listing("SPLT", split=date(2012, 1, 3))), first=FIRST, last=LATER)
CALLED_FB = {"CO": [(date.min, "FB"), (ON, "META")]}


def source(gives="whole", **facts):
    return TickerSource(MARKET, CALLED_FB, gives=gives, **facts)


def filled(root, vendor, until=LAST, symbols=("FB", "OTHER", "SPLT"), start=FIRST, **options):
    vendor.today = until
    etl = store(root, vendor, until, **options)
    etl.run_full_etl(symbols, start, until)
    return etl


def as_fb(root, until=date(2012, 2, 8), **facts):
    """A store on the evening before the rename, and its source."""
    vendor = source(**facts)
    return filled(root, vendor, until), vendor


def aliases(etl, *columns):
    return etl.ledger("aliases").select(columns or ("alias", "symbol", "kind", "last_session")).rows()


def throughout(root, name="META", market=MARKET, until=LAST):
    """A store of a company that was always called so."""
    vendor = TickerSource(market, {"CO": [(date.min, name)]})
    return filled(root, vendor, until, (name, *(s for s in market.symbols if s != "CO")))


def is_intact(etl):
    report = etl.verify()
    assert not [finding for finding in report.findings if finding.severity == "error"], report.findings


# ── one history ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gives", ["whole", "then"])
def test_a_renamed_symbol_goes_on_as_one_history_with_the_bytes_it_would_always_have_had(root, gives):
    etl, vendor = as_fb(root / "a", gives=gives)
    change = etl.rename("FB", "META", on=ON, reason="the company is called so", by="anna")
    assert (change.changed, change.rows, change.kept) == (True, 68, {})
    assert aliases(etl) == [("FB", "META", "renamed", date(2012, 2, 8))]
    vendor.today = LAST
    vendor.asked.clear()
    result = store(root / "a", vendor, LAST).run_incremental_etl()
    assert result.outcomes == {"META": Outcome.OK, "OTHER": Outcome.OK, "SPLT": Outcome.OK}
    assert not result.sessions_missing
    assert daily_bytes(etl) == daily_bytes(throughout(root / "b"))
    assert etl.cursors() == dict.fromkeys(("META", "OTHER", "SPLT"), LAST)
    is_intact(etl)


@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_filled_as_old_and_then_as_new_and_joined_has_the_bytes_of_new_throughout(tmp_path_factory, data):
    """Wherever the seam lies, with an adjusted close or without, and with a split on the way."""
    days = sessions(FIRST, LAST)
    on = data.draw(st.sampled_from(days[12:-8]), label="on")
    adjusted = data.draw(st.sampled_from([date(2100, 1, 1), None]), label="adjusted until")
    split = data.draw(st.sampled_from([None, date(2012, 1, 3)]) if adjusted else st.none(), label="split")
    overlap = data.draw(st.integers(0, 5), label="sessions that both have")
    market = Market(
        (Listing("CO", adjusted_until=adjusted, split=split), Listing("OTHER")), first=FIRST, last=LATER, seed=3
    )
    root = tmp_path_factory.mktemp("renamed")
    at = days.index(on)
    old = TickerSource(market, {"CO": [(date.min, "OLD")]})
    etl = filled(root / "a", old, days[at - 1], ("OLD", "OTHER"))
    new = TickerSource(market, {"CO": [(date.min, "NEW")]})
    other = store(root / "a", new, LAST)
    other.run_full_etl(["NEW", "OTHER"], days[at - overlap], LAST)
    assert {"OLD", "NEW"} <= set(other.cursors())
    change = etl.rename("OLD", "NEW", on=on)
    assert change.replaced == 0
    assert daily_bytes(etl) == daily_bytes(throughout(root / "b", "NEW", market))
    assert "OLD" not in etl.cursors()
    is_intact(etl)


def test_nothing_else_is_written_than_months_that_change(root):
    etl, _ = as_fb(root)
    before = as_rows(stored(etl))
    etl.rename("FB", "META", ON)
    after = as_rows(stored(etl))
    assert {(day, "META" if s == "FB" else s): row for (day, s), row in before.items()} == after
    only = etl.ledger("runs").row(-1, named=True)
    assert (only["command"], only["status"], only["rows"], only["version"]) == ("rename", "committed", 68, 3)
    assert only["message"] == f"FB is META since {ON}"


# ── found by either name ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_by_either_name_finds_it(root):
    etl, vendor = as_fb(root)
    etl.rename("FB", "META", ON, reason="renamed", by="anna")
    by_old, by_new = (etl.scan(name).collect().sort(KEYS) for name in ("fb", "META"))
    assert_frame_equal(by_old, by_new)
    assert by_old.height == 68
    assert by_old["symbol"].unique().to_list() == ["META"]
    assert etl.scan(["FB", "META"], adjust="total").collect().height == 68
    for name in ("FB", "META"):
        assert etl.scan(name, version=2).collect()["symbol"].value_counts().rows() == [("FB", 68)]
    day = date(2012, 1, 17)
    assert_frame_equal(etl.explain("FB", day), etl.explain("META", day))
    events = etl.explain("FB", day)["event"].unique(maintain_order=True).to_list()
    assert events == ["stored", "renamed"]
    because = etl.explain("META", day)["why"].to_list()
    assert Saying("FB before 2012-02-09", "META", "anna (person)", "renamed") in because
    vendor.asked.clear()
    vendor.today = LAST
    result = store(root, vendor, LAST).run_incremental_etl(["FB"])
    assert result.outcomes == {"META": Outcome.OK}
    assert vendor.names_asked() == {"META"}
    sql = "SELECT a.alias, count(*) FROM daily_prices p JOIN aliases a USING (symbol) WHERE a.alias = 'FB' GROUP BY 1"
    assert etl.query_sql(sql).rows() == [("FB", 104)]


def test_gaps_and_holds_follow_and_are_decided_by_either_name(root):
    lost = date(2012, 2, 1)
    vendor = source(alter=lambda bars: bars.filter(pl.col("date") != lost))
    etl = filled(root, vendor, date(2012, 2, 8))
    assert set(etl.gaps()["symbol"]) == {"FB", "OTHER", "SPLT"}
    etl.rename("FB", "META", ON)
    assert set(etl.gaps()["symbol"]) == {"META", "OTHER", "SPLT"}
    assert etl.cursors()["META"] == date(2012, 1, 31)
    is_intact(etl)
    assert etl.waive("FB", lost, reason="an outage", by="anna") == 1
    assert etl.cursors()["META"] == date(2012, 2, 8)
    assert "META" not in set(etl.gaps()["symbol"])
    events = etl.explain("FB", lost)["event"].to_list()
    assert events == ["gap", "renamed", "waived"]


def test_a_held_symbol_is_held_under_its_new_name_and_accepted_by_the_old_one(root):
    market = Market(
        (Listing("CO", split=date(2012, 2, 8), adjusted_until=None), Listing("OTHER")), first=FIRST, last=LATER
    )
    vendor = TickerSource(market, {"CO": [(date.min, "FB"), (ON, "META")]})
    etl = filled(root, vendor, date(2012, 2, 7), ("FB", "OTHER"))
    vendor.today = date(2012, 2, 8)
    etl = store(root, vendor, date(2012, 2, 8))
    assert etl.run_incremental_etl().outcomes["FB"] is Outcome.HELD
    etl.rename("FB", "META", ON)
    assert etl.holds()["symbol"].to_list() == ["META"]
    vendor.today = LAST
    etl = store(root, vendor, LAST)
    assert etl.run_incremental_etl().outcomes["META"] is Outcome.HELD
    assert etl.holds().select("symbol", "attempts").rows() == [("META", 2)]
    assert etl.accept("FB", reason="a real split", by="anna").outcomes == {"META": Outcome.OK}
    assert etl.holds().is_empty()


# ── what a source is asked for ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gives", ["whole", "then"])
@pytest.mark.parametrize("by_year", [False, True])
def test_years_before_the_rename_are_filled_whatever_name_the_source_has_them_under(root, gives, by_year):
    vendor = source(gives)
    etl = filled(root / "a", vendor, LAST, ("META", "OTHER", "SPLT"), start=date(2012, 2, 9))
    etl.rename("FB", "META", ON, force=True, reason="known from elsewhere")
    assert etl.scan("FB").collect()["date"].min() == ON
    if by_year:
        for year in (2012, 2011):
            etl.run_year(year, ["FB", "OTHER", "SPLT"])
    else:
        etl.run_full_etl(["FB", "OTHER", "SPLT"], FIRST, LAST)
    assert daily_bytes(etl) == daily_bytes(throughout(root / "b"))
    assert set(stored(etl)["symbol"]) == {"META", "OTHER", "SPLT"}


def test_a_vendor_that_has_all_under_the_new_name_is_never_asked_for_the_old_one(root):
    etl, vendor = as_fb(root)
    etl.rename("FB", "META", ON)
    vendor.today = LAST
    vendor.asked.clear()
    etl = store(root, vendor, LAST)
    etl.run_full_etl(["FB"], FIRST, LAST, resume=False)
    etl.run_incremental_etl()
    assert "FB" not in vendor.names_asked()


def test_a_failure_under_the_old_name_is_no_empty_answer(root):
    def failing(bars):
        if "FB" in bars["symbol"]:
            raise OSError("the line is cut")
        return bars

    vendor = source("then")
    etl = filled(root, vendor, LAST, ("META", "OTHER"), start=ON)
    etl.rename("FB", "META", ON, force=True, reason="known")
    vendor.alter = failing
    result = etl.run_full_etl(["META", "OTHER"], FIRST, date(2011, 12, 30))
    assert result.outcomes == {"META": Outcome.ERROR, "OTHER": Outcome.OK}


def test_a_membership_table_with_old_tickers_fills_today_s_symbols(root, monkeypatch):
    table = root.parent / "members.csv"
    table.write_text("ticker,start_date,end_date\nFB,2011-11-01,2012-02-09\nMETA,2012-02-09,\nOTHER,2011-11-01,\n")
    etl, _ = as_fb(root)
    etl.rename("FB", "META", ON)
    monkeypatch.setitem(SOURCES, "tickers", lambda _: source("whole", today=LAST))
    given = Settings(_env_file=None, universe=str(table), source="tickers")  # pyright: ignore[reportCallIssue]
    etl = store(root, UnifiedDataFetcher(given), LAST, settings=given)
    result = etl.run_year(2012)
    assert set(result.outcomes) == {"META", "OTHER"}
    assert "META" not in set(etl.gaps()["symbol"])


# ── several renames ──────────────────────────────────────────────────────────────────────────────────────────────────

CHAIN = {"CO": [(date.min, "AAA"), (date(2011, 12, 5), "BBB"), (ON, "CCC")]}


def chained(root):
    """AAA until 2 December, BBB until 8 February, as files have it."""
    return filled(root, TickerSource(MARKET, CHAIN, gives="then"), date(2012, 2, 8), ("AAA", "BBB", "OTHER", "SPLT"))


def test_a_chain_of_renames_is_one_history_in_whatever_order_it_is_entered(root):
    steps = [("AAA", "BBB", date(2011, 12, 5)), ("BBB", "CCC", ON)]
    table = root.parent / "renames.csv"
    table.write_text("old,new,date,reason\nBBB,CCC,2012-02-09,again\nAAA,BBB,2011-12-05,\n")
    trees, ledgers = [], []
    for number, reported in enumerate((steps, steps[::-1], None)):
        etl = chained(root / str(number))
        for old, new, on in reported or ():
            etl.rename(old, new, on)
        if reported is None:
            assert etl.rename_from(table, by="anna").rows == 68
        assert set(etl.cursors()) == {"CCC", "OTHER", "SPLT"}
        assert etl.scan("AAA").collect().height == etl.scan("BBB").collect().height == 68
        is_intact(etl)
        trees.append(daily_bytes(etl))
        ledgers.append(aliases(etl, "alias", "symbol", "kind", "first_session", "last_session"))
    assert trees[0] == trees[1] == trees[2]
    assert ledgers[0] == ledgers[1] == ledgers[2]
    assert ledgers[0] == [
        ("AAA", "CCC", "renamed", None, date(2011, 12, 2)),
        ("BBB", "CCC", "renamed", date(2011, 12, 5), date(2012, 2, 8)),
    ]


def test_a_file_is_entered_again_when_it_has_grown(root):
    etl = chained(root / "data")
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2011-12-05\nNOBODY,KNOWS,2011-12-05\n")
    first = etl.rename_from(table)
    assert (first.changed, first.left_out) == (True, ("NOBODY",))
    again = etl.rename_from(table)
    assert (again.changed, again.known, again.version) == (False, 1, first.version)
    table.write_text(table.read_text() + "BBB,CCC,2012-02-09\n")
    grown = etl.rename_from(table)
    assert (grown.known, [names[:2] for names in grown.renames]) == (1, [("BBB", "CCC")])
    assert set(etl.cursors()) == {"CCC", "OTHER", "SPLT"}


def test_everything_wrong_in_a_file_is_reported_at_once(root):
    etl = chained(root / "data")
    before = current_manifest(etl)
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,5.12.2011\nOTHER,no symbol!,2012-01-03\nSPLT,SPLX,2012-01-03\n")
    with pytest.raises(ConfigurationError, match=r"line 2: .*line 3: "):
        etl.rename_from(table)
    table.write_text("alt,neu,datum\nAAA,BBB,2011-12-05\n")
    with pytest.raises(ConfigurationError, match="old,new,date"):
        etl.rename_from(table)
    assert current_manifest(etl) == before


TWO = Market((Listing("CO1"), Listing("CO2"), Listing("OTHER")), first=FIRST, last=LATER, seed=7)
#: On one day the first company takes the ticker that the second one leaves.
SWAP = {"CO1": [(date.min, "AAA"), (ON, "BBB")], "CO2": [(date.min, "BBB"), (ON, "CCC")]}


def rows_of(etl, name):
    return etl.scan(name).collect().drop("symbol").sort("date")


@pytest.mark.parametrize("gives", ["whole", "then"])
def test_a_ticker_passes_on_from_one_company_to_another_on_one_day(root, gives):
    vendor = TickerSource(TWO, SWAP, gives=gives)
    etl = filled(root / "a", vendor, date(2012, 2, 8), ("AAA", "BBB", "OTHER"))
    one, two = rows_of(etl, "AAA"), rows_of(etl, "BBB")
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2012-02-09\nBBB,CCC,2012-02-09\n")
    etl.rename_from(table)
    assert_frame_equal(rows_of(etl, "BBB"), one)
    assert_frame_equal(rows_of(etl, "CCC"), two)
    vendor.today = LAST
    etl = store(root / "a", vendor, LAST)
    etl.run_incremental_etl()
    assert etl.holds().is_empty()
    always = TickerSource(TWO, {"CO1": [(date.min, "BBB")], "CO2": [(date.min, "CCC")]})
    assert daily_bytes(etl) == daily_bytes(filled(root / "b", always, LAST, ("BBB", "CCC", "OTHER")))
    is_intact(etl)


@pytest.mark.parametrize("gives", ["whole", "then"])
def test_the_past_of_a_ticker_that_passed_on_is_filled_from_either_kind_of_source(root, gives):
    vendor = TickerSource(TWO, SWAP, gives=gives)
    etl = filled(root / "a", vendor, LAST, ("BBB", "CCC", "OTHER"), start=ON)
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2012-02-09\nBBB,CCC,2012-02-09\n")
    assert etl.rename_from(table).rows == 0
    etl.run_full_etl(["BBB", "CCC", "OTHER"], FIRST, LAST)
    assert etl.holds().is_empty()
    always = TickerSource(TWO, {"CO1": [(date.min, "BBB")], "CO2": [(date.min, "CCC")]})
    assert daily_bytes(etl) == daily_bytes(filled(root / "b", always, LAST, ("BBB", "CCC", "OTHER")))


def test_two_companies_exchange_their_tickers(root):
    exchange = {"CO1": [(date.min, "AAA"), (ON, "BBB")], "CO2": [(date.min, "BBB"), (ON, "AAA")]}
    etl = filled(root / "a", TickerSource(TWO, exchange, gives="then"), date(2012, 2, 8), ("AAA", "BBB"))
    one, two = rows_of(etl, "AAA"), rows_of(etl, "BBB")
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2012-02-09\nBBB,AAA,2012-02-09\n")
    assert etl.rename_from(table).changed
    assert_frame_equal(rows_of(etl, "BBB"), one)
    assert_frame_equal(rows_of(etl, "AAA"), two)
    assert not etl.rename_from(table).changed
    is_intact(etl)


EXCHANGE = {"CO1": [(date.min, "AAA"), (ON, "BBB")], "CO2": [(date.min, "BBB"), (ON, "AAA")]}


def exchanged(root, etl):
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2012-02-09\nBBB,AAA,2012-02-09\n")
    assert etl.rename_from(table).changed


def always_exchanged(root, until=LAST, start=FIRST):
    always = TickerSource(TWO, {"CO1": [(date.min, "BBB")], "CO2": [(date.min, "AAA")]})
    return filled(root, always, until, ("AAA", "BBB"), start=start)


@pytest.mark.parametrize("gives", ["whole", "then"])
@pytest.mark.parametrize("reported", ["before the first update", "after it", "after weeks"])
def test_after_an_exchange_of_tickers_either_kind_of_source_goes_on(root, gives, reported):
    vendor = TickerSource(TWO, EXCHANGE, gives=gives)
    etl = filled(root / "a", vendor, date(2012, 2, 8), ("AAA", "BBB"))
    evenings = [*sessions(ON, LAST)[:4], sessions(ON, LAST)[12], sessions(ON, LAST)[20], LAST]
    rename_at = {"before the first update": 0, "after it": 1, "after weeks": 5}[reported]
    for at, evening in enumerate(evenings):
        vendor.today = evening
        etl = store(root / "a", vendor, evening)
        if at == rename_at:
            exchanged(root, etl)
        result = etl.run_incremental_etl()
        if at >= rename_at:
            assert result.complete, result.details
            assert not result.held
    assert etl.holds().is_empty()
    assert_frame_equal(rows_of(etl, "AAA"), rows_of(always_exchanged(root / "b"), "AAA"))
    assert_frame_equal(rows_of(etl, "BBB"), rows_of(always_exchanged(root / "c"), "BBB"))
    is_intact(etl)


@pytest.mark.parametrize("gives", ["whole", "then"])
def test_years_before_an_exchange_of_tickers_are_filled_from_either_kind_of_source(root, gives):
    start = date(2012, 1, 10)
    vendor = TickerSource(TWO, EXCHANGE, gives=gives)
    etl = filled(root / "a", vendor, date(2012, 2, 8), ("AAA", "BBB"), start=start)
    exchanged(root, etl)
    vendor.today = LAST
    etl = store(root / "a", vendor, LAST)
    etl.run_incremental_etl()
    etl.run_full_etl(["AAA", "BBB"], FIRST, date(2011, 12, 30))
    assert etl.holds().is_empty()
    always = always_exchanged(root / "b")
    for name in ("AAA", "BBB"):
        there = rows_of(always, name).filter(~pl.col("date").is_between(date(2011, 12, 31), start, closed="left"))
        assert_frame_equal(rows_of(etl, name).drop("ret"), there.drop("ret"))


def test_an_exchange_of_tickers_that_nobody_noticed_for_a_week_needs_no_force(root):
    """The two cost about the same: no jump shows it, and each name has bars of both companies."""
    alike = Market(TWO.listings[:2], TWO.first, TWO.last, seed=27)
    exchange = {"CO1": [(date.min, "AAA"), (ON, "BBB")], "CO2": [(date.min, "BBB"), (ON, "AAA")]}
    etl = filled(root / "a", TickerSource(alike, exchange, gives="then"), date(2012, 2, 16), ("AAA", "BBB"))
    assert etl.holds().is_empty()
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nAAA,BBB,2012-02-09\nBBB,AAA,2012-02-09\n")
    assert etl.rename_from(table).changed
    always = TickerSource(alike, {"CO1": [(date.min, "BBB")], "CO2": [(date.min, "AAA")]})
    assert daily_bytes(etl) == daily_bytes(filled(root / "b", always, date(2012, 2, 16), ("AAA", "BBB")))
    is_intact(etl)


def test_a_company_takes_its_old_name_back(root):
    back = {"CO": [(date.min, "FB"), (date(2011, 12, 5), "META"), (ON, "FB")]}
    vendor = TickerSource(MARKET, back, gives="then")
    etl = filled(root / "a", vendor, date(2012, 2, 8), ("FB", "META", "OTHER", "SPLT"))
    etl.rename("FB", "META", date(2011, 12, 5))
    etl.rename("META", "FB", ON)
    assert set(etl.cursors()) == {"FB", "OTHER", "SPLT"}
    assert etl.scan("META").collect()["symbol"].unique().to_list() == ["FB"]
    etl = store(root / "a", vendor, LAST)
    vendor.asked.clear()
    etl.run_incremental_etl()
    etl.run_full_etl(["META", "OTHER", "SPLT"], FIRST, LAST, resume=False)
    assert daily_bytes(etl) == daily_bytes(throughout(root / "b", "FB"))


def test_a_ticker_that_another_company_lists_under_later_is_a_symbol_of_its_own(root):
    """It was stored under one symbol; the rename parts them, and the newer one goes on as itself."""
    again = date(2012, 3, 20)
    listings = (Listing("CO1", last=date(2012, 2, 8)), Listing("CO2", first=again), Listing("OTHER"))
    market = Market(listings, first=FIRST, last=LATER)
    vendor = TickerSource(market, {"CO1": [(date.min, "FB")], "CO2": [(date.min, "FB")]})
    etl = filled(root, vendor, LAST, ("FB", "OTHER"))
    if not etl.holds().is_empty():
        etl.accept("FB", reason="to see", by="anna")
    etl.rename("FB", "META", ON)
    assert aliases(etl, "alias", "symbol", "kind", "reused_from") == [("FB", "META", "reused", ON)]
    assert etl.scan("FB").collect()["date"].min() == again
    assert etl.scan("META").collect()["date"].max() == date(2012, 2, 8)
    first = etl.scan("FB").collect().sort("date").row(0, named=True)
    assert first["ret"] is None
    assert etl.explain("FB", date(2012, 1, 17))["why"].to_list()[-1].startswith("FB before 2012-02-09 is META now")
    is_intact(etl)
    etl = store(root, vendor, LATER)
    vendor.asked.clear()
    etl.run_incremental_etl(["FB"])
    assert etl.scan("FB").collect()["date"].max() == LATER
    assert vendor.names_asked() == {"FB"}


def test_a_former_name_can_be_said_to_be_another_company_s(root):
    etl, _ = as_fb(root)
    etl.rename("FB", "META", ON)
    again = date(2012, 3, 20)
    with pytest.raises(ConfigurationError, match="former name of META"):
        etl.split("FB", reason="a new listing", by="anna")
    etl.split("FB", on=again, reason="a new listing", by="anna")
    listings = (Listing("CO"), Listing("OTHER"), Listing("SPLT", split=date(2012, 1, 3)), Listing("NEW", first=again))
    market = Market(listings, first=FIRST, last=LATER)
    vendor = TickerSource(market, {"CO": [(date.min, "META")], "NEW": [(date.min, "FB")]})
    etl = store(root, vendor, LAST)
    result = etl.run_incremental_etl()
    assert result.outcomes["FB"] is result.outcomes["META"] is Outcome.OK
    assert etl.scan("FB").collect()["date"].min() == again
    assert etl.scan("META").collect()["date"].max() == LAST
    is_intact(etl)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new", "on", "words"),
    [
        ("FB", "FB", ON, "itself"),
        ("FBB", "META", ON, "FBB is not stored.*did you mean FB"),
        ("FB", "META", date(2011, 10, 3), "first is of 2011-11-01"),
        ("FB", "META", date(2202, 1, 4), "outside the calendar"),
        ("FB", "no symbol!", ON, "refused"),
        ("FB", "META", "yesterday", "not a date"),
    ],
)
def test_a_rename_that_cannot_be_is_refused_and_nothing_is_changed(root, old, new, on, words):
    etl, _ = as_fb(root)
    before = current_manifest(etl)
    with pytest.raises(ConfigurationError, match=words):
        etl.rename(old, new, on)
    assert current_manifest(etl) == before


@pytest.mark.parametrize(
    ("on", "words"),
    [
        (date(2202, 1, 4), "outside the calendar of XNYS, which ends on"),
        (date(1492, 1, 4), "outside the calendar of XNYS"),
        (LAST + timedelta(days=30), "is to come, and all that is stored would have another name at once"),
    ],
)
def test_nothing_is_split_or_renamed_on_a_day_that_no_bar_can_have(root, on, words):
    """A split on a day to come would end a symbol that is traded."""
    etl, _ = as_fb(root)
    before = current_manifest(etl)
    with pytest.raises(ConfigurationError, match=words) as refused:
        etl.split("FB", on=on, reason="another company", by="anna")
    assert (refused.value.where, "FB" in refused.value.todo) == ("on", "to come" in words)
    with pytest.raises(ConfigurationError, match=words):
        etl.rename("FB", "META", on)
    etl.rename("FB", "META", ON)
    renamed = current_manifest(etl)
    if "to come" in words:  # that a former name will be another's ends nothing
        assert etl.split("FB", on=on, reason="another company", by="anna").changed
        return
    with pytest.raises(ConfigurationError, match=words):
        etl.split("FB", on=on, reason="another company", by="anna")
    assert current_manifest(etl) == renamed != before


def test_a_date_that_is_no_session_means_the_next_one(root):
    etl = filled(root, TickerSource(MARKET, {"CO": [(date.min, "FB")]}), date(2012, 2, 10))
    saturday = date(2012, 2, 11)
    etl.rename("FB", "META", saturday)
    assert aliases(etl) == [("FB", "META", "renamed", date(2012, 2, 10))]
    assert not etl.rename("FB", "META", date(2012, 2, 13)).changed


def test_a_rename_that_contradicts_a_known_one_is_refused(root):
    etl, _ = as_fb(root)
    etl.rename("FB", "META", ON)
    with pytest.raises(ConfigurationError, match="FB is META already"):
        etl.rename("FB", "FACE", ON)
    with pytest.raises(ConfigurationError, match="only since"):
        etl.rename("META", "FACE", date(2012, 1, 3))
    table = root.parent / "renames.csv"
    table.write_text("old,new,date\nOTHER,ONE,2012-01-04\nOTHER,TWO,2012-01-04\n")
    with pytest.raises(ConfigurationError, match="renamed twice"):
        etl.rename_from(table)


def other_meta(root, shift=1.0, start=FIRST, price=None):
    """FB up to the day before, and META from `start` on with prices of its own."""
    as_fb(root)

    def spoilt(bars):
        columns = ["open", "high", "low", "close", "adj_close"] if price else ["adj_close"]
        factor = price or shift
        return bars.with_columns((pl.col(name) * factor).round(6) for name in columns)

    vendor = source(today=LAST, alter=spoilt if (price or shift) != 1 else None)
    later = store(root, vendor, LAST)
    later.run_full_etl(["META"], start, LAST)
    return later


def test_two_histories_of_the_same_sessions_are_joined_if_they_are_equal(root):
    etl = other_meta(root)
    assert etl.rename("FB", "META", ON).changed
    assert etl.scan("META").collect().height == 104
    is_intact(etl)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"shift": 0.9}, "have different bars on 68 session"),
        ({"price": 3.0, "start": ON}, "the price is 2.995"),
        ({"shift": 0.98, "start": ON}, "adj_close changes its basis"),
    ],
)
def test_histories_that_do_not_fit_are_refused_with_the_evidence(root, facts, words):
    etl = other_meta(root, **facts)
    before = current_manifest(etl)
    with pytest.raises(DataQualityError, match=words):
        etl.rename("FB", "META", ON)
    with pytest.raises(ConfigurationError, match="reason"):
        etl.rename("FB", "META", ON, force=True)
    assert current_manifest(etl) == before
    change = etl.rename("FB", "META", ON, force=True, reason="we know", by="anna")
    assert change.changed
    assert etl.ledger("replaced_rows").filter(pl.col("symbol") == "FB").height == change.replaced
    assert "FB" not in etl.cursors()
    assert words[:9] in etl.ledger("runs")["message"][-1]
    is_intact(etl)


@pytest.mark.parametrize("column", ["open", "high", "volume"])
def test_what_arrived_empty_under_the_new_name_contradicts_nothing_and_loses_nothing(root, column):
    """A null takes nothing away, also where two histories of the same sessions are joined."""
    etl, vendor = as_fb(root / "a")
    vendor.today = LAST
    vendor.alter = lambda bars: bars.with_columns(
        pl.when(pl.col("symbol") != "META").then(pl.col(column)).alias(column)
    )
    etl = store(root / "a", vendor, LAST)
    etl.run_full_etl(["META"], FIRST, date(2012, 2, 8))
    assert etl.scan("META").collect()[column].null_count() == 68
    etl.rename("FB", "META", on=ON, by="anna")
    known = throughout(root / "b", until=date(2012, 2, 8)).scan("META").collect()
    assert_frame_equal(etl.scan("META").collect().sort(KEYS), known.sort(KEYS), check_exact=True)
    is_intact(etl)


def test_bars_that_go_on_under_the_old_name_are_not_left_behind_in_silence(root):
    etl = filled(root, TickerSource(MARKET, {"CO": [(date.min, "FB")]}), date(2012, 2, 17))
    with pytest.raises(DataQualityError, match=r"goes on after 2012-01-31 .*2012-02-21"):
        etl.rename("FB", "META", date(2012, 2, 1))
    assert etl.rename("FB", "META", date(2012, 2, 21)).rows == 75


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rollback_undoes_it_and_a_diff_says_what_it_was(root):
    etl, _ = as_fb(root / "data")
    before, bytes_before = stored(etl), daily_bytes(etl)
    etl.pin("before")
    etl.rename("FB", "META", ON)
    difference = etl.diff("before")
    assert difference.select("symbol", "change").unique().rows() == [("META", "renamed")]
    assert difference.height == 68
    assert difference["columns"].list.len().sum() == 0
    etl.rollback("before")
    assert_frame_equal(stored(etl), before)
    assert daily_bytes(etl) == bytes_before
    assert etl.ledger("aliases").is_empty()
    assert etl.cursors()["FB"] == date(2012, 2, 8)
    assert etl.scan("FB").collect().height == 68
    assert etl.rename("FB", "META", ON).changed
    is_intact(etl)


def test_the_names_go_with_an_export(root):
    etl, vendor = as_fb(root / "data")
    etl.rename("FB", "META", ON)
    etl.export(root / "copy")
    copy = store(root / "copy", vendor, LAST)
    assert copy.scan("FB").collect().height == 68
    assert copy.query_sql("SELECT symbol FROM aliases").rows() == [("META",)]


def test_a_rename_that_breaks_off_in_the_middle_leaves_the_version_that_stood(root):
    class Refusing(DataValidator):
        def gate(self, frame, year):
            if year == 2012:
                raise DataQualityError("the second year does not pass")

    etl, vendor = as_fb(root)
    before, rows = current_manifest(etl), stored(etl)
    with pytest.raises(DataQualityError, match="second year"):
        store(root, vendor, LAST, validator=Refusing()).rename("FB", "META", ON)
    assert current_manifest(etl) == before
    assert_frame_equal(stored(etl), rows)
    assert etl.ledger("aliases").is_empty()
    assert etl.rename("FB", "META", ON).rows == 68
    is_intact(etl)


def test_a_run_that_asked_by_the_old_name_stores_nothing_once_it_has_a_new_one(root):
    _, vendor = as_fb(root, gives="then")

    def renaming(bars):
        vendor.alter = None
        store(root, vendor, date(2012, 2, 8), writer_id="other").rename("FB", "META", ON)
        return bars

    vendor.alter = renaming
    later = store(root, vendor, LAST)
    with pytest.raises(DataQualityError, match="FB got another name"):
        later.run_incremental_etl()
    assert set(later.cursors()) == {"META", "OTHER", "SPLT"}
    assert later.run_incremental_etl().outcomes["META"] is Outcome.OK


def test_a_damaged_ledger_of_names_touches_no_price_and_lets_nobody_write_by_wrong_ones(root):
    etl, vendor = as_fb(root)
    etl.rename("FB", "META", ON)
    (file,) = current_manifest(etl).ledgers["aliases"]
    path = etl.layout.resolve(file.path)
    path.chmod(0o644)
    path.write_bytes(b"spoilt")
    etl = store(root, vendor, LAST)
    assert etl.scan("META").collect().height == 68
    with pytest.raises(ChecksumMismatchError):
        etl.run_incremental_etl()
    assert any("aliases" in finding.field for finding in etl.verify().findings)


def test_a_source_without_renames_is_asked_as_before(root):
    vendor = ScriptedSource(MARKET)
    etl = filled_plainly(root, vendor)
    assert [request.symbols for request in vendor.asked] == [("CO", "OTHER")] * len(vendor.asked)
    assert "aliases" not in current_manifest(etl).ledgers or etl.ledger("aliases").is_empty()


def filled_plainly(root, vendor):
    etl = store(root, vendor, LAST)
    etl.run_full_etl(["CO", "OTHER"], FIRST, LAST)
    return etl
