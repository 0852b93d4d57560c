"""Increments: what is asked for, what is appended, where the cursors go, and what stays as it was."""

from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, Coverage, Outcome, ProviderUnavailableError
from historical_etl_tests.scenario import (
    INFO,
    KEYS,
    SHORT,
    SYMBOLS,
    Ask,
    Market,
    ScriptedFetcher,
    ScriptedSource,
    as_rows,
    at,
    changing,
    current_manifest,
    daily_bytes,
    losing,
    sessions,
    store,
    stored,
)


@pytest.fixture(scope="module")
def market() -> Market:
    return SHORT


def filled(root, market: Market, until: date, symbols=SYMBOLS):
    """A store with everything until a day, and its fetcher with an empty record."""
    fetcher = ScriptedFetcher(market)
    store(root, fetcher, until).run_full_etl(symbols, market.first, until)
    fetcher.asked.clear()
    return fetcher


def test_incremental_updates_append_correctly(root, market):
    """A week later: only the new sessions are added, only their year is written, the rest keeps its very bytes."""
    fetcher = filled(root, market, date(2013, 1, 15))
    etl = store(root, fetcher, date(2013, 1, 22))
    before, files, version = as_rows(stored(etl)), daily_bytes(etl), current_manifest(etl).version
    result = etl.run_incremental_etl()

    after = as_rows(stored(etl))
    added = {key: after[key] for key in after.keys() - before.keys()}
    assert {day for day, _ in added} == {date(2013, 1, day) for day in (16, 17, 18, 22)}
    assert {key: after[key] for key in before} == before
    assert_frame_equal(stored(etl), market.expected(end=date(2013, 1, 22)), check_exact=True)
    assert result.years_written == (2013,)
    assert {name: data for name, data in daily_bytes(etl).items() if name != "2013.parquet"} == {
        name: data for name, data in files.items() if name != "2013.parquet"
    }
    assert (result.version, current_manifest(etl).version) == (version + 1, version + 1)
    assert (result.corrections, result.rows_rejected) == (0, 0)
    assert result.symbols_processed == 6

    # GONE stands at its own cursor; the others share one request that overlaps five stored sessions.
    assert sorted(fetcher.asked, key=lambda ask: ask.start) == [
        Ask(("GONE",), date(2012, 11, 26), date(2013, 1, 22)),
        Ask(("BRK.B", "HALT", "IPOX", "RAWP", "SPLT"), date(2013, 1, 9), date(2013, 1, 22)),
    ]


def test_multi_year_incremental_handles_boundary(root):
    """From December 2011 to January 2013 in one commit over three years; `ret` is right across both boundaries."""
    symbols = [symbol for symbol in SYMBOLS if symbol != "IPOX"]  # not listed yet, so not stored yet
    market = Market(first=date(2011, 12, 1))
    fetcher = filled(root, market, date(2011, 12, 20), symbols)
    etl = store(root, fetcher, date(2013, 1, 4))
    version = current_manifest(etl).version
    result = etl.run_incremental_etl()
    assert result.years_written == (2011, 2012, 2013)
    assert current_manifest(etl).version == version + 1, "one commit, not three"
    assert_frame_equal(stored(etl), market.expected(symbols, end=date(2013, 1, 4)), check_exact=True)
    for first, last in ((date(2012, 1, 3), date(2011, 12, 30)), (date(2013, 1, 2), date(2012, 12, 31))):
        today = etl.scan("SPLT", first, first).collect().row(0, named=True)
        before = etl.scan("SPLT", last, last).collect().row(0, named=True)
        assert today["ret"] == today["adj_close"] / before["adj_close"] - 1
        assert abs(today["ret"]) < 0.2, "SPLT halves its price on 3 January 2012; its return does not show it"


def test_deterministic_incremental_merge_identical_checksum(root, market):
    """Day by day, week by week or at once: one checksum, and the bytes of a backfill."""
    days = sessions(date(2012, 12, 17), date(2013, 1, 31))
    stores = {}
    for name, steps in {"daily": days, "weekly": days[::5] + days[-1:], "at once": days[-1:]}.items():
        fetcher = filled(root / name, market, date(2012, 12, 14))
        for day in steps:
            etl = store(root / name, fetcher, day)
            etl.run_incremental_etl(publish=False)
            stores[name] = etl
    whole = store(root / "whole", ScriptedFetcher(market), days[-1])
    whole.run_full_etl(SYMBOLS, market.first, days[-1])
    assert {current_manifest(etl).checksum for etl in stores.values()} == {current_manifest(whole).checksum}
    assert all(daily_bytes(etl) == daily_bytes(whole) for etl in stores.values())
    assert current_manifest(stores["daily"]).version > current_manifest(stores["at once"]).version


def test_the_same_increment_again_changes_nothing(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    etl = store(root, fetcher, date(2013, 1, 22))
    first = etl.run_incremental_etl()
    second = etl.run_incremental_etl()
    assert (second.changed, second.version, second.manifest_checksum) == (False, first.version, first.manifest_checksum)


def test_the_catalog_is_built_with_a_commit_and_left_alone_without_one(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    etl = store(root, fetcher, date(2013, 1, 22))
    filled_with = etl.catalog.shown_version()
    assert etl.run_incremental_etl(publish=False).changed
    assert etl.catalog.shown_version() == filled_with
    etl = store(root, fetcher, date(2013, 1, 23))
    result = etl.run_incremental_etl()
    assert (result.catalog_error, etl.catalog.shown_version()) == (None, result.version)
    shown = etl.catalog.path.stat()
    assert not etl.run_incremental_etl().changed
    assert etl.catalog.path.stat() == shown
    assert [path for path in etl.catalog.path.parent.iterdir() if path != etl.catalog.path] == []


def test_an_empty_store_without_symbols_has_nothing_to_update(root, market):
    fetcher = ScriptedFetcher(market)
    with pytest.raises(ConfigurationError, match="Nothing was committed yet") as caught:
        store(root, fetcher).run_incremental_etl()
    assert "backfill" in caught.value.todo
    assert fetcher.asked == []


def test_a_new_symbol_starts_where_the_setting_says(root, market):
    fetcher = filled(root, market, date(2013, 1, 15), ["BRK.B"])
    etl = store(root, fetcher, date(2013, 1, 16), start=date(2012, 10, 1))
    etl.run_incremental_etl(["BRK.B", "HALT"])
    assert fetcher.asked == [
        Ask(("HALT",), date(2012, 9, 17), date(2013, 1, 16)),  # ten sessions of lead-in
        Ask(("BRK.B",), date(2013, 1, 9), date(2013, 1, 16)),
    ]
    assert etl.scan("HALT").select(pl.col("date").min()).collect().item() == date(2012, 10, 1)
    assert etl.cursors() == {"BRK.B": date(2013, 1, 16), "HALT": date(2013, 1, 16)}


def test_coverage_bounds_an_increment(root, market):
    source = ScriptedSource(
        market, info=INFO.__class__("s", "1", "raw", Coverage(date(2012, 11, 1), date(2013, 1, 10)))
    )
    etl = store(root, source)
    etl.run_incremental_etl(["BRK.B"])
    assert [(request.start, request.end) for request in source.asked] == [(date(2012, 11, 1), date(2013, 1, 10))]
    etl.run_incremental_etl()
    assert source.asked[-1].end == date(2013, 1, 10)


def test_an_increment_of_two_symbols_leaves_the_others(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    etl = store(root, fetcher, date(2013, 1, 22))
    before = as_rows(stored(etl))
    etl.run_incremental_etl("brk.b, HALT")
    after = as_rows(stored(etl))
    assert {key: after[key] for key in before} == before
    assert {symbol for _, symbol in after.keys() - before.keys()} == {"BRK.B", "HALT"}
    assert etl.cursors()["SPLT"] == date(2013, 1, 15)
    assert etl.cursors()["HALT"] == date(2013, 1, 22)


def test_a_symbol_that_returned_nothing_keeps_its_cursor(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.alter = losing("HALT")
    etl = store(root, fetcher, date(2013, 1, 22))
    result = etl.run_incremental_etl()
    assert result.outcomes["HALT"] == Outcome.EMPTY
    assert etl.cursors()["HALT"] == date(2013, 1, 15)
    assert etl.cursors()["BRK.B"] == date(2013, 1, 22)
    fetcher.alter = None
    etl.run_incremental_etl()
    assert etl.cursors()["HALT"] == date(2013, 1, 22)


def test_a_lost_session_holds_the_cursor_until_it_comes(root, market):
    """The maximum date hides a hole; the cursor does not step over it and asks for it again."""
    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.alter = losing("HALT", date(2013, 1, 17))
    etl = store(root, fetcher, date(2013, 1, 22))
    etl.run_incremental_etl()
    assert etl.scan("HALT").select(pl.col("date").max()).collect().item() == date(2013, 1, 22)
    assert etl.cursors()["HALT"] == date(2013, 1, 16)

    later = store(root, fetcher, date(2013, 1, 25))
    later.run_incremental_etl()
    assert later.cursors()["HALT"] == date(2013, 1, 16)
    fetcher.alter = None
    fetcher.asked.clear()
    later.run_incremental_etl()
    assert Ask(("HALT",), date(2013, 1, 10), date(2013, 1, 25)) in fetcher.asked
    assert later.cursors()["HALT"] == date(2013, 1, 25)
    assert_frame_equal(stored(later), market.expected(end=date(2013, 1, 25)), check_exact=True)


def test_a_refused_batch_keeps_its_cursor(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.alter = lambda bars: bars.with_columns(
        pl.when(pl.col("symbol") == "HALT").then(-1.0).otherwise("close").alias("close")
    )
    etl = store(root, fetcher, date(2013, 1, 22))
    result = etl.run_incremental_etl()
    assert result.outcomes["HALT"] == Outcome.REFUSED
    assert etl.cursors()["HALT"] == date(2013, 1, 15)
    assert etl.scan("HALT", date(2013, 1, 16)).collect().is_empty()


def test_a_failed_group_keeps_its_cursor_and_the_others_go_on(root, market):
    def broken(ask: Ask) -> None:
        if "GONE" in ask.symbols:
            raise ProviderUnavailableError("no answer")

    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.before = broken
    etl = store(root, fetcher, date(2013, 1, 22))
    result = etl.run_incremental_etl()
    assert result.outcomes["GONE"] == Outcome.ERROR
    assert etl.cursors()["GONE"] == date(2012, 11, 30)
    assert etl.cursors()["BRK.B"] == date(2013, 1, 22)


def test_a_correction_inside_the_overlap_is_stored_and_counted(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.alter = changing("BRK.B", date(2013, 1, 14), volume=1234.0)
    etl = store(root, fetcher, date(2013, 1, 16))
    result = etl.run_incremental_etl()
    assert result.corrections == 1
    assert etl.scan("BRK.B", date(2013, 1, 14), date(2013, 1, 14)).collect()["volume"].item() == 1234.0


def test_a_corrected_close_reaches_the_next_ret_even_in_the_next_year(root, market):
    """Only December is asked for again; the `ret` of 2 January hangs on it."""
    fetcher = filled(root, market, date(2013, 1, 15))
    last = date(2012, 12, 31)
    price = round(market.bars(["BRK.B"], last, last)["close"].item() * 1.01, 2)
    fetcher.alter = changing("BRK.B", last, open=price, high=price, low=price, close=price, adj_close=price)
    etl = store(root, fetcher, date(2013, 1, 15))
    result = etl.run_full_etl(["BRK.B"], date(2012, 12, 3), date(2012, 12, 31))
    assert result.years_written == (2012, 2013)
    first = etl.scan("BRK.B", date(2013, 1, 2), date(2013, 1, 2)).collect().row(0, named=True)
    assert first["ret"] == first["adj_close"] / price - 1


def test_the_overlap_is_a_setting(root, market):
    fetcher = filled(root, market, date(2013, 1, 15), ["BRK.B"])
    store(root, fetcher, date(2013, 1, 16), overlap_sessions=1).run_incremental_etl()
    assert fetcher.asked == [Ask(("BRK.B",), date(2013, 1, 15), date(2013, 1, 16))]


def test_symbols_at_one_cursor_share_requests_of_limited_size(root, market):
    fetcher = filled(root, market, date(2013, 1, 15))
    store(root, fetcher, date(2013, 1, 16), batch_symbols=2).run_incremental_etl()
    assert [ask.symbols for ask in fetcher.asked] == [("GONE",), ("BRK.B", "HALT"), ("IPOX", "RAWP"), ("SPLT",)]


def test_cursors_survive_another_writer_that_commits_during_the_fetch(root, market):
    """The increment began before another process stored HALT; it must not forget HALT, nor move it."""
    fetcher = filled(root, market, date(2013, 1, 15), ["BRK.B"])
    other = store(root, ScriptedFetcher(market), date(2013, 1, 16))
    fetcher.before = lambda _: other.run_full_etl(["HALT"], market.first, date(2013, 1, 10))
    etl = store(root, fetcher, date(2013, 1, 22))
    etl.run_incremental_etl()
    assert etl.cursors() == {"BRK.B": date(2013, 1, 22), "HALT": date(2013, 1, 10)}
    progress = etl.progress()
    assert progress is not None
    assert progress.data_version == current_manifest(etl).version
    assert progress.symbol_last_dates == etl.cursors()


def test_a_dead_writers_progress_is_behind_and_cursors_come_from_the_data(root, market):
    """Killed between commit and progress: cursors describe an older version and are computed anew."""
    fetcher = filled(root, market, date(2013, 1, 15))
    etl = store(root, fetcher, date(2013, 1, 22))
    stale = etl.layout.progress_file().read_bytes()
    etl.run_incremental_etl()
    etl.layout.progress_file().write_bytes(stale)
    assert store(root, fetcher, date(2013, 1, 22)).cursors() == {
        **dict.fromkeys(SYMBOLS, date(2013, 1, 22)),
        "GONE": date(2012, 11, 30),
    }


def test_the_open_session_comes_with_the_run_after_its_close(root, market):
    """Today's half bar is not stored; tomorrow's run brings today's final one."""
    fetcher = filled(root, market, date(2013, 1, 15))
    fetcher.alter = changing("BRK.B", date(2013, 1, 16), close=1.0, low=0.5)
    morning = store(root, fetcher, clock=lambda: at(date(2013, 1, 16))().replace(hour=16))
    morning.run_incremental_etl()
    assert stored(morning)["date"].max() == date(2013, 1, 15)
    fetcher.alter = None
    evening = store(root, fetcher, date(2013, 1, 16))
    evening.run_incremental_etl()
    assert_frame_equal(stored(evening), market.expected(end=date(2013, 1, 16)).sort(KEYS), check_exact=True)
