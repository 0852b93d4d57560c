"""Full runs and single years: what is stored, what is said about it, and what stays as it was."""

import hashlib
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import (
    ConfigurationError,
    Coverage,
    CoverageError,
    DataQualityError,
    ETLResult,
    HistoricalETLError,
    LockTimeoutError,
    ManifestManager,
    Outcome,
    ProviderUnavailableError,
    RateLimitedError,
    SchemaDriftError,
)
from historical_etl.models import combined_checksum
from historical_etl.store.lock import current_holder
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    COLUMNS,
    FIRST,
    INFO,
    KEYS,
    LAST,
    SYMBOLS,
    Market,
    ScriptedFetcher,
    ScriptedSource,
    adding,
    as_rows,
    at,
    changing,
    current_manifest,
    daily_bytes,
    doubling,
    evening,
    in_turn,
    losing,
    sessions,
    store,
    stored,
    tree,
)

YEARS = (2010, 2011, 2012, 2013)


def test_full_etl_pipeline_execution(root, market):
    """One run: every bar stored with its `ret`, and files, manifest, progress, catalog and result agree."""
    etl = store(root, ScriptedFetcher(market))
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)

    expected = market.expected()
    assert_frame_equal(stored(etl), expected, check_exact=True)
    assert dict(stored(etl).schema) == COLUMNS
    assert etl.query_sql("SELECT count(*) AS n FROM daily_prices").item() == expected.height

    manifest = current_manifest(etl)
    assert [partition.year for partition in manifest.partitions] == list(YEARS)
    for partition in manifest.partitions:
        daily = etl.layout.daily / f"{partition.year}.parquet"
        rows = expected.filter(pl.col("date").dt.year() == partition.year)
        assert hashlib.sha256(daily.read_bytes()).hexdigest() == partition.checksum
        assert_frame_equal(pl.read_parquet(daily).sort(KEYS), rows, check_exact=True)
        assert (root / partition.path).samefile(daily)
        assert partition.rows == rows.height
        assert partition.symbols == rows["symbol"].n_unique()
        assert (partition.first_session, partition.last_session) == (rows["date"].min(), rows["date"].max())
        assert partition.size_bytes == daily.stat().st_size
    assert manifest.checksum == combined_checksum(p.checksum for p in manifest.partitions)
    assert manifest.file_paths == tuple(p.path for p in manifest.partitions)
    assert (manifest.start_date, manifest.end_date, manifest.row_count) == (FIRST, LAST, expected.height)
    assert manifest.clock_timestamp == evening(LAST), "the clock stood still"
    assert manifest.sync_timestamp == evening(LAST) + timedelta(microseconds=3), "the stamps of four versions did not"
    assert (manifest.provider, manifest.validation_status) == ("ScriptedFetcher", "passed")
    assert manifest.calendar.startswith("exchange_calendars ")

    assert result.total_rows == result.rows_fetched == expected.height
    assert result.years_written == YEARS
    assert result.partitions_written == 4
    assert result.symbols_processed == len(SYMBOLS)
    assert (result.start_date, result.end_date) == (FIRST, LAST)
    assert (result.manifest_checksum, result.version) == (manifest.checksum, manifest.version)
    assert result.outcomes == dict.fromkeys(sorted(SYMBOLS), Outcome.OK)
    assert (result.rows_rejected, result.corrections, result.catalog_error) == (0, 0, None)
    assert result.changed
    assert result.complete
    assert ETLResult.model_validate_json(result.model_dump_json()) == result

    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_completed, progress.years_remaining) == ("completed", list(YEARS), [])
    assert etl.catalog.shown_version() == manifest.version
    holder = current_holder(etl.layout.lock_file())
    assert holder is not None
    assert holder.released is not None


def test_dedup_across_reruns_produces_identical_checksums(root, market):
    """The same bars again, some of them twice: no new version, no byte changed, no file rewritten."""
    fetcher = ScriptedFetcher(market)
    etl = store(root, fetcher)
    first = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    files, inodes = tree(etl.layout.objects), {p.name: p.stat().st_ino for p in etl.layout.daily.iterdir()}

    fetcher.alter = in_turn(
        doubling("SPLT", date(2012, 1, 3)),
        doubling("BRK.B", date(2011, 12, 30)),
        lambda bars: bars.sample(fraction=1, shuffle=True, seed=7),
    )
    again = etl.run_full_etl(SYMBOLS, FIRST, LAST)

    assert again.manifest_checksum == first.manifest_checksum
    assert again.version == first.version
    assert not again.changed
    assert again.rows_rejected == 0
    assert tree(etl.layout.objects) == files
    assert {p.name: p.stat().st_ino for p in etl.layout.daily.iterdir()} == inodes
    elsewhere = store(root.parent / "elsewhere", fetcher).run_full_etl(SYMBOLS, FIRST, LAST)
    assert elsewhere.manifest_checksum == first.manifest_checksum


def test_a_run_that_changes_nothing_makes_no_version(root, market):
    etl = store(root, ScriptedFetcher(market))
    first = etl.run_year(2012, SYMBOLS)
    manifests = {name: data for name, data in tree(etl.layout.manifests).items() if name.endswith(".json")}
    second = etl.run_year(2012, SYMBOLS)
    assert (second.version, second.manifest_checksum) == (first.version, first.manifest_checksum)
    assert (second.changed, second.partitions_written, second.years_written) == (False, 0, ())
    assert second.total_rows == first.total_rows
    assert {n: data for n, data in tree(etl.layout.manifests).items() if n.endswith(".json")} == manifests


def test_a_year_alone_has_the_bytes_it_has_in_a_whole_run(root, market):
    whole, alone = store(root / "whole", ScriptedFetcher(market)), store(root / "alone", ScriptedFetcher(market))
    whole.run_full_etl(SYMBOLS, FIRST, LAST)
    alone.run_year(2012, SYMBOLS)
    assert daily_bytes(alone) == {"2012.parquet": daily_bytes(whole)["2012.parquet"]}


def test_lead_in_rows_serve_the_first_ret_and_are_not_stored(root, market):
    fetcher = ScriptedFetcher(market)
    etl = store(root, fetcher)
    etl.run_year(2012, ["BRK.B"])
    assert fetcher.asked[0].start < date(2012, 1, 1)
    rows = stored(etl)
    assert rows["date"].min() == date(2012, 1, 3)
    assert rows["ret"][0] == market.expected(["BRK.B"], date(2012, 1, 3))["ret"][0]


def test_a_symbol_with_lead_in_rows_only_is_empty(root, market):
    """It ended before the range, and what was fetched before it says so."""
    day, next_day = sessions(date(2012, 6, 1), date(2012, 7, 1))[:2]
    fetcher = ScriptedFetcher(market, alter=lambda bars: bars.filter((pl.col("symbol") != "HALT") | is_before(day)))
    result = store(root, fetcher).run_full_etl(["BRK.B", "HALT"], next_day, next_day)
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.EMPTY}


def is_before(day: date) -> pl.Expr:
    return pl.col("date") < day


def halved(bars: pl.DataFrame) -> pl.DataFrame:
    """The market on another level of `adj_close`, of which nothing else tells."""
    return bars.with_columns(pl.col("adj_close") / 2)


def test_a_restated_history_has_the_lead_in_that_it_had(root, market):
    """2012 was filled alone, and so it is again: the first `ret` needs a row of 2011 each time."""
    for name in ("restated", "afresh"):
        store(root / name, ScriptedFetcher(market, alter=halved if name == "afresh" else None)).run_year(2012, SYMBOLS)
    fetcher = ScriptedFetcher(market, alter=halved)
    restated, afresh = store(root / "restated", fetcher), store(root / "afresh", fetcher)
    assert restated.run_incremental_etl().restated_symbols
    afresh.run_incremental_etl()
    assert daily_bytes(restated) == daily_bytes(afresh)
    assert restated.cursors() == afresh.cursors()
    assert stored(restated)["date"].min() == date(2012, 1, 3)


def test_an_increment_that_begins_a_history_has_a_lead_in(root, market):
    """A new symbol, and the overlap of a store that is younger than that."""
    first, second = date(2013, 2, 1), date(2013, 2, 4)
    etl = store(root, ScriptedFetcher(market), today=second)
    etl.run_full_etl(["SPLT"], first, second)
    fetcher = ScriptedFetcher(market, alter=changing("SPLT", first, volume=5.0))
    store(root, fetcher, start=first).run_incremental_etl(["BRK.B", "SPLT"])
    assert [(ask.symbols, ask.start) for ask in fetcher.asked] == [(("BRK.B", "SPLT"), date(2013, 1, 17))]
    corrected = fetcher.market.expected(["BRK.B", "SPLT"], first)
    assert as_rows(stored(etl)) == as_rows(changing("SPLT", first, volume=5.0)(corrected))


def test_bad_lead_in_rows_are_not_trusted(root, market):
    """A broken bar before the year gives no `ret`; the one before it does."""
    fetcher = ScriptedFetcher(market, alter=changing("BRK.B", date(2011, 12, 30), close=float("nan")))
    etl = store(root, fetcher)
    assert etl.run_year(2012, ["BRK.B"]).rows_rejected == 0
    before = market.bars(["BRK.B"], date(2011, 12, 29), date(2011, 12, 29))["adj_close"][0]
    first = stored(etl).row(0, named=True)
    assert first["ret"] == first["adj_close"] / before - 1


def test_batches_of_symbols_make_no_difference(root, market):
    small, large = ScriptedFetcher(market), ScriptedFetcher(market)
    one = store(root / "one", small, batch_symbols=2)
    two = store(root / "two", large)
    one.run_full_etl(SYMBOLS, date(2012, 1, 1), LAST)
    two.run_full_etl(SYMBOLS, date(2012, 1, 1), LAST)
    assert [ask.symbols for ask in small.asked[:3]] == [("BRK.B", "SPLT"), ("HALT", "IPOX"), ("GONE", "RAWP")]
    assert len(large.asked) == 2
    assert daily_bytes(one) == daily_bytes(two)


def test_symbols_may_come_as_one_string_and_dates_as_text(root, market):
    etl = store(root, ScriptedFetcher(market))
    result = etl.run_full_etl(" brk.b , halt,BRK.B", "2012-01-03", "2012-01-31")
    assert result.outcomes == {"BRK.B": Outcome.OK, "HALT": Outcome.OK}
    assert set(stored(etl)["symbol"]) == {"BRK.B", "HALT"}


@pytest.mark.parametrize(
    ("symbols", "start", "end", "error", "words"),
    [
        ([], FIRST, LAST, ConfigurationError, "empty"),
        (["A B"], FIRST, LAST, ConfigurationError, "'A B'"),
        (["BRK.B"], LAST, FIRST, ConfigurationError, "reversed"),
        (["BRK.B"], "31.12.2012", LAST, ConfigurationError, "start_date"),
        (["BRK.B"], FIRST, None, ConfigurationError, "end_date"),
        (["BRK.B"], date(2012, 1, 1), date(2012, 1, 2), ConfigurationError, "no session"),
        (["BRK.B"], date(2014, 1, 1), date(2014, 12, 31), CoverageError, "2014"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_fetched(root, market, symbols, start, end, error, words):
    fetcher = ScriptedFetcher(market)
    with pytest.raises(error, match=words) as caught:
        store(root, fetcher).run_full_etl(symbols, start, end)
    assert caught.value.todo
    assert fetcher.asked == []
    assert not root.exists() or tree(root) == {}


@pytest.mark.parametrize("year", [0, 12, 99999, -1])
def test_an_impossible_year_is_refused(root, market, year):
    with pytest.raises((ConfigurationError, CoverageError)):
        store(root, ScriptedFetcher(market)).run_year(year, SYMBOLS)


def test_a_year_outside_the_coverage_is_an_error_and_one_partly_inside_is_served(root, market):
    source = ScriptedSource(market, info=INFO.__class__("s", "1", "raw", Coverage(date(2011, 7, 1), date(2012, 3, 30))))
    etl = store(root, source)
    with pytest.raises(CoverageError, match="2011-07-01 to 2012-03-30"):
        etl.run_year(2010, SYMBOLS)
    with pytest.raises(CoverageError, match="2013"):
        etl.run_full_etl(SYMBOLS, date(2012, 1, 1), date(2013, 12, 31))
    assert source.asked == []
    etl.run_full_etl(SYMBOLS, date(2011, 1, 1), date(2012, 12, 31))
    days = stored(etl)["date"]
    assert (days.min(), days.max()) == (date(2011, 7, 1), date(2012, 3, 30))
    assert min(request.start for request in source.asked) == date(2011, 7, 1)


def test_a_bad_year_does_not_stop_the_others(root, market):
    """The answer for 2011 is no data; the other years are committed, and the error names them all."""

    def spoil_2011(bars: pl.DataFrame) -> pl.DataFrame:
        return bars.drop("close") if bars["date"].max() == date(2011, 12, 30) else bars

    etl = store(root, ScriptedFetcher(market, alter=spoil_2011))
    with pytest.raises(DataQualityError) as caught:
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert list(daily_bytes(etl)) == ["2010.parquet", "2012.parquet", "2013.parquet"]
    assert caught.value.__notes__ == [Saying("failed: 2011", "committed: 2010, 2012, 2013")]
    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_completed, progress.years_remaining) == (
        "failed",
        [2010, 2012, 2013],
        [2011],
    )
    assert etl.query_sql("SELECT count(DISTINCT year) AS n FROM partitions").item() == 3


def test_a_year_without_any_price_is_reported_and_stops_nothing(root, market):
    def spoil_2011(bars: pl.DataFrame) -> pl.DataFrame:
        return bars.with_columns(pl.when(pl.col("date").dt.year() == 2011).then(None).otherwise("close").alias("close"))

    etl = store(root, ScriptedFetcher(market, alter=spoil_2011))
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert list(daily_bytes(etl)) == ["2010.parquet", "2012.parquet", "2013.parquet"]
    assert result.warnings == (Saying("2011", "none can be stored", "rejected_rows"),)
    assert result.rejected_by_reason == {"no_close": market.bars(SYMBOLS)["date"].dt.year().eq(2011).sum()}
    assert not result.complete
    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_remaining) == ("completed", [])
    assert etl.gaps().filter(symbol="BRK.B")["first_session"].min() == date(2011, 1, 3)


def test_a_source_that_breaks_is_an_error_of_ours_and_changes_nothing(root, market):
    def broken(_: object) -> None:
        raise OSError("connection reset")

    fetcher = ScriptedFetcher(market)
    etl = store(root, fetcher)
    etl.run_year(2012, SYMBOLS)
    before = daily_bytes(etl), current_manifest(etl)
    fetcher.before = broken
    with pytest.raises(ProviderUnavailableError, match="connection reset") as caught:
        etl.run_year(2011, SYMBOLS)
    assert isinstance(caught.value.__cause__, OSError)
    assert (daily_bytes(etl), current_manifest(etl)) == before


def test_one_request_that_fails_leaves_the_others(root, market):
    def broken(ask) -> None:
        if "HALT" in ask.symbols:
            raise ProviderUnavailableError("no answer")

    etl = store(root, ScriptedFetcher(market, before=broken), batch_symbols=2)
    result = etl.run_year(2012, ["BRK.B", "SPLT", "HALT", "RAWP"])
    assert result.outcomes["HALT"] == result.outcomes["RAWP"] == Outcome.ERROR
    assert result.details["HALT"] == "no answer"
    assert set(stored(etl)["symbol"]) == {"BRK.B", "SPLT"}
    assert not result.complete


def test_after_a_rate_limit_nothing_more_is_asked(root, market):
    def limited(ask) -> None:
        if "HALT" in ask.symbols:
            raise RateLimitedError("slow down")

    fetcher = ScriptedFetcher(market, before=limited)
    etl = store(root, fetcher, batch_symbols=1)
    result = etl.run_year(2012, ["BRK.B", "HALT", "SPLT"])
    assert [ask.symbols for ask in fetcher.asked] == [("BRK.B",), ("HALT",)]
    assert result.outcomes == {"BRK.B": "ok", "HALT": "rate_limited", "SPLT": "rate_limited"}


def test_a_rate_limit_ends_the_run_and_keeps_what_was_committed(root, market):
    def limited(ask) -> None:
        if ask.end.year == 2011:
            raise RateLimitedError("slow down")

    fetcher = ScriptedFetcher(market, before=limited)
    etl = store(root, fetcher)
    with pytest.raises(RateLimitedError):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011]
    assert list(daily_bytes(etl)) == ["2010.parquet"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda bars: bars.to_dicts(), "must return a polars.DataFrame, not list"),
        (lambda bars: bars.drop("close"), "close"),
        (lambda bars: bars.with_columns(pl.col("close").cast(pl.String)), "close has dtype String"),
        (lambda bars: bars.with_columns(pl.col("date").cast(pl.Datetime) + pl.duration(hours=5)), "date has dtype"),
    ],
)
def test_an_answer_in_another_schema_is_drift_not_corruption(root, market, answer, words):
    etl = store(root, ScriptedFetcher(market, alter=answer))
    with pytest.raises(SchemaDriftError, match=words):
        etl.run_year(2012, SYMBOLS)
    assert etl.manifest() is None


def test_an_answer_that_can_be_converted_is(root, market):
    """Integers, a lazy frame, further columns, another order of columns, an enum for symbols, midnights for dates."""

    def converted(bars: pl.DataFrame) -> pl.DataFrame:
        return bars.lazy().select(  # pyright: ignore[reportReturnType] - on purpose
            pl.col("volume").cast(pl.Int64),
            pl.col("symbol").cast(pl.Categorical),
            pl.col("date").cast(pl.Datetime("ns")).dt.replace_time_zone("Asia/Tokyo"),
            pl.lit("USD").alias("currency"),
            "open",
            "high",
            "low",
            "close",
            "adj_close",
        )

    etl = store(root, ScriptedFetcher(market, alter=converted))
    etl.run_year(2012, SYMBOLS)
    assert_frame_equal(stored(etl), market.expected(start=date(2012, 1, 1), end=date(2012, 12, 31)), check_exact=True)


def test_optional_columns_may_be_absent(root, market):
    etl = store(root, ScriptedFetcher(market, alter=lambda bars: bars.select("date", "symbol", "close", "volume")))
    etl.run_year(2012, ["BRK.B"])
    rows = stored(etl)
    assert dict(rows.schema) == COLUMNS
    assert rows.select("open", "high", "low", "adj_close").null_count().row(0) == (rows.height,) * 4
    assert rows["ret"].null_count() == 0, "close serves where there is no adj_close throughout"


def test_nothing_at_all_is_not_a_version(root):
    etl = store(root, ScriptedFetcher(Market(last=date(2010, 3, 1))))
    result = etl.run_year(2012, SYMBOLS)
    assert (result.version, result.manifest_checksum, result.changed) == (0, "", False)
    assert set(result.outcomes.values()) == {Outcome.EMPTY}
    assert etl.manifest() is None
    with pytest.raises(ConfigurationError, match="Nothing was committed yet"):
        stored(etl)


def test_outcomes_of_a_source_decide_what_is_stored(root, market):
    """Rows of a symbol whose outcome is not `ok` are not stored, and it has no cursor."""
    source = ScriptedSource(market, outcomes={"HALT": Outcome.ERROR, "NONE": Outcome.NOT_FOUND})
    etl = store(root, source)
    result = etl.run_year(2012, ["BRK.B", "HALT", "NONE"])
    assert result.outcomes == {"BRK.B": "ok", "HALT": "error", "NONE": "not_found"}
    assert result.details["HALT"] == "scripted: error"
    assert set(stored(etl)["symbol"]) == {"BRK.B"}
    assert etl.cursors() == {"BRK.B": date(2012, 12, 31)}


def test_a_year_without_symbols_takes_the_universe_of_that_year(root, market):
    source = ScriptedSource(market)
    etl = store(root, source)
    etl.run_year(2012)
    assert source.asked[0].symbols == ("BRK.B", "HALT", "IPOX", "RAWP", "SPLT"), "GONE was delisted in 2011"
    etl.run_year(2010)
    assert source.asked[1].symbols == ("BRK.B", "GONE", "HALT", "RAWP", "SPLT"), "IPOX begins in 2012"


def test_a_year_without_symbols_or_universe_takes_what_is_stored(root, market):
    fetcher = ScriptedFetcher(market)
    etl = store(root, fetcher)
    with pytest.raises(ConfigurationError, match="No symbols to fetch for 2012"):
        etl.run_year(2012)
    etl.run_year(2012, ["HALT", "BRK.B"])
    etl.run_year(2011)
    assert fetcher.asked[-1].symbols == ("BRK.B", "HALT")


def test_the_setting_symbols_is_the_universe_of_a_plain_fetcher(root, market):
    fetcher = ScriptedFetcher(market)
    store(root, fetcher, symbols=("SPLT",)).run_year(2012)
    assert fetcher.asked[0].symbols == ("SPLT",)


def test_bad_rows_are_kept_aside_with_reasons_and_good_ones_are_stored(root, market):
    alter = in_turn(
        changing("BRK.B", date(2012, 3, 5), close=float("nan")),
        changing("BRK.B", date(2012, 3, 6), volume=-1.0, high=0.01),
        adding(date=date(2012, 3, 10), symbol="BRK.B"),  # a Saturday
    )
    etl = store(root, ScriptedFetcher(market, alter=alter))
    result = etl.run_year(2012, SYMBOLS)
    assert result.rows_rejected == 2
    assert result.rejected_by_reason == {"no_close": 1, "off_session": 1}
    assert result.flagged_by_reason == {"absurd_price": 1, "impossible_volume": 1}
    week = etl.scan("BRK.B", date(2012, 3, 5), date(2012, 3, 10)).collect()
    assert sorted(week["date"]) == [date(2012, 3, day) for day in (6, 7, 8, 9)]
    assert week.filter(date=date(2012, 3, 6)).select("high", "volume").row(0) == (None, None)
    (path,) = result.quarantine_paths
    (entry,) = etl.manifests.quarantine.entries()
    assert path == str(entry)
    kept = pl.read_parquet(entry / "2012.rows.parquet")
    assert kept.select("date", "reasons").sort("date").rows() == [
        (date(2012, 3, 5), ["no_close"]),
        (date(2012, 3, 10), ["off_session"]),
    ]


def test_a_batch_with_too_many_bad_rows_is_refused_as_a_whole(root, market):
    alter = in_turn(*(changing("HALT", date(2012, 3, day), close=-1.0) for day in range(1, 31)))
    etl = store(root, ScriptedFetcher(market, alter=alter))
    result = etl.run_year(2012, ["BRK.B", "HALT"])
    assert result.outcomes == {"BRK.B": "ok", "HALT": "refused"}
    assert "22 of 250 rows are bad" in result.details["HALT"]
    assert set(stored(etl)["symbol"]) == {"BRK.B"}
    assert result.rows_rejected == 250


def test_the_threshold_is_a_setting(root, market):
    alter = in_turn(*(changing("HALT", date(2012, 3, day), close=-1.0) for day in range(1, 31)))
    etl = store(root, ScriptedFetcher(market, alter=alter), max_rejected_share=0.1)
    assert etl.run_year(2012, ["HALT"]).rows_rejected == 22
    assert stored(etl).height == 228


def test_a_lock_held_elsewhere_is_an_error_that_names_the_holder(root, market):
    etl = store(root, ScriptedFetcher(market), lock_timeout_seconds=0)
    with ManifestManager(root).acquire_lock(writer_id="somebody else"), pytest.raises(LockTimeoutError) as caught:
        etl.run_year(2012, SYMBOLS)
    assert "somebody else" in str(caught.value)
    assert caught.value.retryable
    assert etl.manifest() is None
    assert etl.run_year(2012, SYMBOLS).changed, "the next run needs no help"


def test_the_open_session_is_left_for_a_later_run(root, market):
    """The clock decides: an hour after the close the bar counts, not before."""
    close = datetime(2012, 3, 6, 21, 0, tzinfo=UTC)
    early = store(root, ScriptedFetcher(market), clock=lambda: close + timedelta(minutes=59))
    late = store(root, ScriptedFetcher(market), clock=lambda: close + timedelta(minutes=60))
    early.run_year(2012, SYMBOLS)
    assert stored(early)["date"].max() == date(2012, 3, 5)
    late.run_year(2012, SYMBOLS)
    assert stored(late)["date"].max() == date(2012, 3, 6)


def test_bars_beyond_the_last_closed_session_are_not_stored_even_if_they_come(root, market):
    """A vendor that does not look at the end of a request delivers today's unfinished bar."""
    etl = store(root, ScriptedFetcher(market, days_beyond=1), date(2012, 3, 5))
    result = etl.run_year(2012, SYMBOLS)
    assert stored(etl)["date"].max() == date(2012, 3, 5)
    assert result.rows_rejected == 0, "an unfinished bar is no fault of the source"


def test_without_publishing_the_catalog_stays_behind_and_queries_do_not(root, market):
    etl = store(root, ScriptedFetcher(market))
    etl.run_year(2012, SYMBOLS, publish=False)
    assert etl.catalog.shown_version() is None
    assert etl.query_sql("SELECT count(*) AS n FROM daily_prices").item() == stored(etl).height
    etl.publish_catalog()
    assert etl.catalog.shown_version() == 1


def test_unknown_options_are_refused_by_name(root, market):
    with pytest.raises(ConfigurationError, match="overlap_session"):
        store(root, ScriptedFetcher(market), overlap_session=3)
    with pytest.raises(ConfigurationError, match="OVERLAP_SESSIONS"):
        store(root, ScriptedFetcher(market), overlap_sessions=0)


def test_the_constructor_takes_the_folders_apart(tmp_path, market):
    """The published signature: storage and catalog by path, a manifest manager of one's own."""
    from historical_etl import DataValidator, HistoricalETL

    manager = ManifestManager(tmp_path / "store", clock=at(LAST))
    etl = HistoricalETL(
        ScriptedFetcher(market),
        tmp_path / "store" / "historical",
        tmp_path / "elsewhere" / "prices.duckdb",
        manager,
        DataValidator(),
        clock=at(LAST),
        exchange="XNYS",
    )
    etl.run_full_etl(["BRK.B"], "2012-01-01", "2012-12-31")
    assert (tmp_path / "elsewhere" / "prices.duckdb").is_file()
    assert (tmp_path / "store" / "historical" / "daily" / "2012.parquet").is_file()
    assert manager.load_manifest() == etl.manifest()


def test_a_data_folder_that_cannot_be_made_is_a_storage_error(tmp_path, market):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(HistoricalETLError) as caught:
        store(tmp_path / "data", ScriptedFetcher(market)).run_year(2012, SYMBOLS)
    assert str(tmp_path / "data") in str(caught.value)
    assert caught.value.todo


def test_losing_a_symbol_in_one_year_is_not_losing_it(root, market):
    """A symbol that was fetched in one year and not in the next was still fetched; one that never was, was not."""
    etl = store(root, ScriptedFetcher(market, alter=losing("RAWP")))
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert result.outcomes["GONE"] == Outcome.OK
    assert result.outcomes["RAWP"] == Outcome.EMPTY
    assert result.symbols_processed == 5
