"""A null of the vendor never erases what is stored, and never lets two price bases into one series."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ETLResult, HistoricalETL, Outcome
from historical_etl.cli.run_summary import RunSummary
from historical_etl.settings import FilesSettings
from historical_etl.sources.files import FilesSource
from historical_etl_tests.scenario import COLUMNS, daily_bytes, sessions, store, stored

DAYS = sessions(date(2024, 3, 1), date(2024, 3, 28))
DAY_1, DAY_2, DAY_3 = DAYS[5], DAYS[6], DAYS[7]
CLOSES = dict(zip(DAYS, (100, 101, 99, 100, 102, 101, 100, 103, 104, 102, 101, 105, 104, 103, 102, 101), strict=False))
OPTIONAL = ("open", "high", "low", "volume", "adj_close")
Cells = Mapping[date, object]


def bars(through: date, adj_close: Cells | float | None = 0.5, **other: Cells) -> pl.DataFrame:
    """Bars of AAA with an `adj_close` of half the close, and cells that are otherwise: session → value."""
    rows: list[dict[str, object]] = []
    for day in (day for day in DAYS if day <= through):
        close = float(CLOSES.get(day, 100))
        row: dict[str, object] = {
            "date": day,
            "symbol": "AAA",
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
        }
        row |= {"volume": 1000.0, "adj_close": close * adj_close if isinstance(adj_close, float) else None}
        if isinstance(adj_close, Mapping):
            row["adj_close"] = adj_close.get(day, close * 0.5)
        rows.append(row | {name: cells[day] for name, cells in other.items() if day in cells})
    return pl.DataFrame(rows, schema=COLUMNS)


class Delivery:
    """A plain fetcher that gives some bars, and counts from where on it was asked."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.starts: list[date] = []

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        self.starts.append(start_date)
        return self.frame.filter(pl.col("symbol").is_in(symbols), pl.col("date").is_between(start_date, end_date))


def begin(root: Path, frame: pl.DataFrame, through: date = DAY_1) -> ETLResult:
    etl = store(root, Delivery(frame), through, start=DAYS[0])
    return etl.run_full_etl(["AAA"], DAYS[0], through)


def update(root: Path, frame: pl.DataFrame, day: date) -> tuple[HistoricalETL, ETLResult]:
    etl = store(root, Delivery(frame), day, start=DAYS[0])
    return etl, etl.run_incremental_etl()


def value(etl: HistoricalETL, day: date, column: str) -> float | None:
    return stored(etl).filter(pl.col("date") == day).get_column(column).item()


def test_a1_an_empty_adj_close_erases_nothing_and_is_reported(root):
    begin(root, bars(DAY_1))
    lost = dict.fromkeys(DAYS[1:6])
    etl, result = update(root, bars(DAY_2, {**lost, DAY_2: None}), DAY_2)
    assert stored(etl).filter(pl.col("date") <= DAY_1)["adj_close"].to_list() == [CLOSES[d] / 2 for d in DAYS[:6]]
    assert stored(etl).filter(pl.col("date") <= DAY_1)["ret"].null_count() == 1
    assert (value(etl, DAY_2, "close"), value(etl, DAY_2, "adj_close"), value(etl, DAY_2, "ret")) == (100, None, None)
    assert result.withheld == 6
    assert result.unadjusted_symbols == ("AAA",)
    assert not result.complete
    assert any("adj_close" in line and "AAA" in line for line in result.warnings)
    assert len(result.warnings) == 2
    reported = etl.ledger("withheld").select("date", "column", "stored", "came").rows()
    assert reported == [*((d, "adj_close", CLOSES[d] / 2, None) for d in DAYS[1:6]), (DAY_2, "adj_close", None, None)]
    assert etl.query_sql("SELECT count(*) FROM withheld").item() == 6
    total = etl.scan(adjust="total").collect()
    assert total["close"].to_list() == [*(CLOSES[d] / 2 for d in DAYS[:6]), None]
    assert total.filter(pl.col("date") == DAY_2).select("open", "high", "low").row(0) == (None, None, None)


def test_a1_what_comes_back_fills_every_cell_and_leaves_no_trace(root):
    begin(root / "a", bars(DAY_1))
    update(root / "a", bars(DAY_2, {**dict.fromkeys(DAYS[1:6]), DAY_2: None}), DAY_2)
    etl, result = update(root / "a", bars(DAY_3), DAY_3)
    begin(root / "b", bars(DAY_1))
    clean, _ = update(root / "b", bars(DAY_3), DAY_3)
    assert daily_bytes(etl) == daily_bytes(clean)
    assert stored(etl)["adj_close"].null_count() == 0
    assert result.complete
    assert not result.withheld
    assert etl.ledger("corrections").select("date", "column", "old", "new").rows() == [(DAY_2, "adj_close", None, 50.0)]


def test_a1_a_second_silence_is_recorded_once_in_the_ledger_and_makes_no_version(root):
    begin(root, bars(DAY_1))
    silent = bars(DAY_2, {**dict.fromkeys(DAYS[1:6]), DAY_2: None})
    _, first = update(root, silent, DAY_2)
    etl, second = update(root, silent, DAY_2)
    assert second.version == first.version
    assert second.warnings
    assert etl.ledger("withheld").height == 6


def test_a1_a_column_that_vanishes_for_good_is_reported_of_every_new_bar(root):
    begin(root, bars(DAY_1))
    for day in DAYS[6:16]:
        _, result = update(root, bars(day).drop("adj_close"), day)
        assert result.outcomes["AAA"] is Outcome.OK
        assert result.unadjusted_symbols == ("AAA",)
    etl = store(root, Delivery(bars(DAY_1)), DAYS[15])
    rows = stored(etl)
    assert rows["close"].null_count() == 0
    assert rows.filter(pl.col("date") > DAY_1)["adj_close"].null_count() == 10
    assert rows.filter(pl.col("date") > DAY_1)["ret"].null_count() == 10
    total = etl.scan(adjust="total").collect()
    assert total["close"].null_count() == 10
    assert_frame_equal(etl.scan(adjust="none").collect().select("close"), rows.select("close"))
    # After a longer silence than the overlap reaches it comes back, and fills all that it left out.
    etl, result = update(root, bars(DAYS[16]), DAYS[16])
    assert stored(etl)["adj_close"].null_count() == 0
    assert stored(etl)["ret"].null_count() == 1
    assert result.complete


def test_a1_a_series_that_gains_adj_close_is_fetched_whole(root):
    begin(root / "a", bars(DAY_1, None))
    etl, result = update(root / "a", bars(DAY_2), DAY_2)
    begin(root / "b", bars(DAY_2), DAY_2)
    clean = store(root / "b", Delivery(bars(DAY_2)), DAY_2)
    assert daily_bytes(etl) == daily_bytes(clean)
    assert result.restated_symbols == ("AAA",)
    assert "first time" in etl.ledger("restatements")["evidence"].item()
    assert etl.ledger("replaced_rows")["adj_close"].null_count() == 6


def test_a1_adj_close_that_comes_on_new_bars_only_mixes_with_nothing(root):
    """The source gives it from one day on and never for the past."""
    begin(root, bars(DAY_1, None))
    for day in DAYS[6:9]:
        update(root, bars(day, dict.fromkeys(DAYS[:6])), day)
    etl = store(root, Delivery(bars(DAY_1)), DAYS[8])
    rows = stored(etl)
    assert rows["ret"].is_null().to_list()[6:] == [True, False, False]
    total = etl.scan(adjust="total").collect()
    assert total["close"].to_list() == [*[None] * 6, *(CLOSES[d] / 2 for d in DAYS[6:9])]


@pytest.mark.parametrize("column", OPTIONAL)
@pytest.mark.parametrize("empty", [None, float("nan")])
def test_a1_no_column_loses_a_value_to_a_null_or_a_nan(root, column, empty):
    begin(root, bars(DAY_1))
    frame = bars(DAY_2).with_columns(
        pl.when(pl.col("date") != DAYS[3]).then(pl.col(column)).otherwise(pl.lit(empty)).alias(column)
    )
    etl, result = update(root, frame, DAY_2)
    rows = stored(etl)
    assert rows[column].null_count() == 0
    assert rows[column].is_nan().sum() == 0
    assert rows.height == 7
    assert result.withheld + result.rows_rejected == 1
    assert all(column in line for line in result.warnings)


@pytest.mark.parametrize("column", ["open", "high", "low"])
def test_a1_a_null_on_a_new_bar_is_stored_and_reported(root, column):
    begin(root, bars(DAY_1))
    etl, result = update(root, bars(DAY_2, **{column: {DAY_2: None}}), DAY_2)
    assert value(etl, DAY_2, column) is None
    assert value(etl, DAY_2, "close") == 100
    assert result.withheld == 1
    assert result.complete
    assert any(column in line for line in result.warnings)


def test_a1_a_null_close_is_refused_and_the_stored_bar_stays(root):
    begin(root, bars(DAY_1))
    etl, result = update(root, bars(DAY_2, close={DAYS[3]: None}), DAY_2)
    assert value(etl, DAYS[3], "close") == CLOSES[DAYS[3]]
    assert result.rejected_by_reason == {"no_close": 1}


@pytest.mark.parametrize(
    ("close", "others"),
    [(98.0, {"adj_close": None}), (108.0, {"open": None, "high": None, "low": None})],
    ids=["another close without its adj_close", "a close outside of the stored range"],
)
def test_a1_a_correction_that_fits_no_stored_value_is_not_taken_and_is_reported(root, close, others):
    begin(root, bars(DAY_1))
    day = DAYS[4]
    given = {"adj_close": {day: close / 2}, "close": {day: close}, "open": {day: close}}
    given |= {"low": {day: close - 1}, "high": {day: close + 1}}
    given |= {name: {day: None} for name in others}
    etl, result = update(root, bars(DAY_2, **given), DAY_2)
    row = stored(etl).filter(pl.col("date") == day).row(0, named=True)
    assert (row["close"], row["adj_close"], row["high"]) == (102, 51, 103)
    assert row["date"] in etl.ledger("withheld").filter(pl.col("came").is_not_null())["date"].to_list()
    assert any("the stored bars stay" in line for line in result.warnings)


def test_a1_a_correction_takes_what_was_fetched_and_keeps_the_rest(root):
    begin(root, bars(DAY_1))
    day = DAYS[4]
    etl, _ = update(root, bars(DAY_2, {day: 51.25}, close={day: 102.5}, volume={day: 900.0}, open={day: None}), DAY_2)
    row = stored(etl).filter(pl.col("date") == day).row(0, named=True)
    assert (row["open"], row["close"], row["adj_close"], row["volume"]) == (102, 102.5, 51.25, 900)


def halved(frame: pl.DataFrame, *columns: str, since: date = DAYS[0]) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(pl.col("date") >= since).then(pl.col(n) / 2).otherwise(n).alias(n) for n in columns
    )


def test_a1_a_null_in_the_overlap_hides_no_split(root):
    """The earliest shared session comes without adj_close, the others on another basis."""
    begin(root, bars(DAY_1))
    etl, result = update(root, halved(bars(DAY_2, {DAYS[1]: None}), "adj_close"), DAY_2)
    assert result.held == {"AAA": result.held["AAA"]}
    assert result.held["AAA"].startswith("incomplete_history")
    assert stored(etl)["adj_close"].to_list() == [CLOSES[d] / 2 for d in DAYS[:6]]
    etl, result = update(root, halved(bars(DAY_2), "adj_close"), DAY_2)
    assert result.restated_symbols == ("AAA",)
    assert stored(etl)["adj_close"].to_list() == [CLOSES[d] / 4 for d in DAYS[:7]]
    assert etl.holds().is_empty()


@pytest.mark.parametrize("name", ["open", "high", "low", "volume"])
def test_a1_a_restated_history_that_lacks_values_keeps_the_stored_ones(root, name):
    begin(root, bars(DAY_1))
    day = DAYS[3]
    etl, result = update(root, halved(bars(DAY_2, **{name: {day: None}}), "adj_close"), DAY_2)
    assert result.restated_symbols == ("AAA",)
    rows = stored(etl)
    assert rows["adj_close"].to_list() == [CLOSES[d] / 4 for d in DAYS[:7]]
    assert not rows[name].null_count()


@pytest.mark.parametrize("silent", [1, 4, 8])
def test_a1_a_silence_hides_no_dividend_that_is_adjusted_for_late(root, silent):
    """The evening of the ex-date has the old adj_close, then there is none, then the new one."""
    begin(root, bars(DAY_1))
    update(root, bars(DAY_2), DAY_2)
    for day in DAYS[7 : 7 + silent]:
        update(root, bars(day, dict.fromkeys(DAYS[2 : 8 + silent])), day)
    last = DAYS[7 + silent]
    etl, result = update(root, bars(last, {day: CLOSES[day] * 0.49 for day in DAYS[:6]}), last)
    assert result.restated_symbols == ("AAA",)
    rows = stored(etl)
    factor = (rows["adj_close"] / rows["close"]).round(6).to_list()
    assert factor == [0.49] * 6 + [0.5] * (2 + silent)


def test_a1_a_restated_history_without_adj_close_keeps_no_old_one_beside_new_closes(root):
    """A source that adjusts its closes for a split, and gives no adj_close with them."""
    prices = ("open", "high", "low", "close")
    begin(root, bars(DAY_1))
    before = daily_bytes(store(root, Delivery(bars(DAY_1)), DAY_1))
    etl, result = update(root, halved(bars(DAY_2, None), *prices), DAY_2)
    assert result.held["AAA"].startswith("incomplete_history")
    assert daily_bytes(etl) == before
    etl, _ = update(root, halved(bars(DAY_2), *prices, "adj_close"), DAY_2)
    assert stored(etl)["close"].to_list() == [CLOSES[d] / 2 for d in DAYS[:7]]
    assert stored(etl)["adj_close"].to_list() == [CLOSES[d] / 4 for d in DAYS[:7]]


def test_a1_a_restated_history_without_its_opens_is_held_until_a_person_accepts_it(root):
    prices = ("high", "low", "close", "adj_close")
    frame = halved(bars(DAY_2, open=dict.fromkeys(DAYS)), *prices)
    begin(root, bars(DAY_1))
    _, result = update(root, frame, DAY_2)
    assert "open on 6" in result.held["AAA"]
    etl = store(root, Delivery(frame), DAY_2)
    etl.accept("AAA", reason="the source has no opens any more", by="anna")
    assert stored(etl)["open"].null_count() == 7
    assert etl.ledger("replaced_rows")["open"].to_list() == [CLOSES[d] for d in DAYS[:6]]


def test_a1_a_split_on_a_bar_without_adj_close_is_held(root):
    begin(root, bars(DAY_1))
    frame = halved(bars(DAY_2, {**dict.fromkeys(DAYS[1:6]), DAY_2: None}), "open", "high", "low", "close", since=DAY_2)
    _, result = update(root, frame, DAY_2)
    assert result.held["AAA"].startswith("level_jump")


def test_a1_a_basis_that_nothing_can_be_compared_with_is_held(root):
    """The source has lost the old adj_close for good, and gives a new one from today on."""
    begin(root, bars(DAY_1))
    etl, result = update(root, bars(DAY_2, dict.fromkeys(DAYS[:6]), close={}), DAY_2)
    assert result.held["AAA"].startswith("incomplete_history")
    assert "basis" in result.held["AAA"]
    assert stored(etl).height == 6


def test_a1_a_rebuild_takes_a_history_without_adj_close(root):
    begin(root, bars(DAY_1))
    etl = store(root, Delivery(bars(DAY_2, None)), DAY_2)
    result = etl.run_full_etl(["AAA"], DAYS[0], DAY_2, rebuild=True)
    assert stored(etl)["adj_close"].null_count() == 7
    assert result.complete
    _, result = update(root, bars(DAY_3, None), DAY_3)
    assert result.complete
    assert not result.warnings


def test_a1_a_read_says_which_symbols_it_gives_as_null(root, caplog):
    begin(root, bars(DAY_1))
    etl, _ = update(root, bars(DAY_2, {DAY_2: None}), DAY_2)
    with caplog.at_level(logging.WARNING):
        etl.scan(adjust="total")
    assert "AAA" in caplog.text
    assert "adj_close" in caplog.text
    caplog.clear()
    etl.scan(end=DAY_1, adjust="total")
    assert not caplog.text


def test_a1_a_bar_without_adj_close_may_lie_on_either_side_of_a_split(root, monkeypatch):
    """3:2, whose adj_close comes an evening late, from a source that names nothing."""
    begin(root, bars(DAY_1))
    halved = {day: round(close / 1.5, 4) for day, close in CLOSES.items() if day >= DAY_2}
    monkeypatch.setitem(globals(), "CLOSES", CLOSES | halved)
    etl, _ = update(
        root, bars(DAY_2, {day: close / 3 if day < DAY_2 else None for day, close in CLOSES.items()}), DAY_2
    )
    splits = etl.scan(adjust="splits").collect()
    assert splits.filter(pl.col("close").is_null()).get_column("date").to_list() == [DAY_2]
    last = {day: close / 3 if day < DAY_2 else close / 2 for day, close in CLOSES.items()}
    etl, result = update(root, bars(DAY_3, last), DAY_3)
    assert not result.held
    close = etl.scan(adjust="splits").collect()["close"]
    assert close.null_count() == 0
    assert (close / close.shift(1)).drop_nulls().is_between(0.9, 1.1).all()


def test_a1_a_series_about_which_nothing_is_known_is_null_where_it_would_be_a_guess(root, caplog):
    begin(root, bars(DAY_1, None))
    etl = store(root, Delivery(bars(DAY_1)), DAY_1)
    raw = etl.scan().collect()
    assert_frame_equal(etl.scan(adjust="none").collect(), raw)
    for adjust in ("splits", "total"):
        with caplog.at_level(logging.WARNING):
            rows = etl.scan(adjust=adjust).collect()
        assert rows["close"].null_count() == rows.height == 6
        assert "AAA" in caplog.text
        caplog.clear()


def test_a1_an_explained_cell_reports_what_did_not_come(root):
    begin(root, bars(DAY_1))
    etl, _ = update(root, bars(DAY_2, {DAYS[3]: None}), DAY_2)
    story = etl.explain("AAA", DAYS[3])
    assert "withheld" in story["event"].to_list()


def test_a1_files_with_an_empty_column_say_so_and_the_command_ends_with_3(root, tmp_path):
    file = tmp_path / "AAA.csv"
    names = {"date": "Date", "close": "Close", "adj_close": "Adj Close", "volume": "Volume"}

    def run(frame: pl.DataFrame, day: date) -> RunSummary:
        frame.select(pl.col(old).alias(new) for old, new in names.items()).write_csv(file)
        etl = store(root, FilesSource(FilesSettings(path=str(tmp_path))), day, start=DAYS[0])
        before = etl.manifest()
        full = before is None
        return RunSummary(etl, before, etl.run_full_etl(["AAA"], DAYS[0], day) if full else etl.run_incremental_etl())

    assert run(bars(DAY_1), DAY_1).code == 0
    silent = run(bars(DAY_2, {**dict.fromkeys(DAYS[1:6]), DAY_2: None}), DAY_2)
    assert silent.code == 3
    assert silent.etl.scan(adjust="total").collect()["close"].null_count() == 1
    back = run(bars(DAY_3), DAY_3)
    assert back.code == 0
    assert stored(back.etl)["adj_close"].null_count() == 0


def fill(root: Path, frame: pl.DataFrame, first: date, last: date) -> tuple[HistoricalETL, ETLResult]:
    """A backfill of some of the days, weeks after all of them."""
    etl = store(root, Delivery(frame), DAYS[-1], start=DAYS[0])
    return etl, etl.run_full_etl(["AAA"], first, last)


def take(monkeypatch: pytest.MonkeyPatch, days: Sequence[date]) -> None:
    monkeypatch.setitem(globals(), "DAYS", days)
    monkeypatch.setitem(globals(), "CLOSES", {day: 100 + at % 4 for at, day in enumerate(days)})


#: Each on either side of the end of a year, or all within one month.
SPLITS_OF_DAYS = [sessions(date(2023, 12, 18), date(2024, 1, 12)), DAYS]


@pytest.mark.parametrize("days", SPLITS_OF_DAYS, ids=["two years", "one month"])
@pytest.mark.parametrize("overlap", [True, False])
def test_a1_bars_before_a_series_are_reported_without_adj_close_as_those_after_it_are(root, monkeypatch, days, overlap):
    """The source gives no adj_close any more; or it does for what is stored, and for nothing else."""
    take(monkeypatch, days)
    cut, half = 12, 6
    fill(root, bars(days[-1]), days[cut], days[-1])
    bare = dict.fromkeys(days[:cut] if overlap else days)
    etl, result = fill(root, bars(days[-1], bare), days[half], days[cut - 1])
    assert result.unadjusted_symbols == ("AAA",)
    assert not result.complete
    assert result.withheld >= cut - half
    assert any("adj_close is lacking on" in line for line in result.warnings)
    lacking = etl.ledger("withheld").filter(pl.col("stored").is_null())
    assert lacking.get_column("date").to_list() == days[half:cut]
    # What lies before those is of the same series.
    etl, result = fill(root, bars(days[-1], bare), days[0], days[half - 1])
    assert result.unadjusted_symbols == ("AAA",)
    assert not result.complete
    etl, result = fill(root, bars(days[-1]), days[0], days[-1])
    assert result.complete
    assert stored(etl)["adj_close"].null_count() == 0


@pytest.mark.parametrize("days", SPLITS_OF_DAYS, ids=["two years", "one month"])
def test_a1_bars_between_others_are_reported_as_well(root, monkeypatch, days):
    take(monkeypatch, days)
    fill(root, bars(days[-1]), days[0], days[3])
    fill(root, bars(days[-1]), days[12], days[-1])
    _, result = fill(root, bars(days[-1], dict.fromkeys(days[4:12])), days[4], days[11])
    assert result.unadjusted_symbols == ("AAA",)
    assert result.withheld == 8
    assert not result.complete


@pytest.mark.parametrize("days", SPLITS_OF_DAYS, ids=["two years", "one month"])
def test_a1_a_source_whose_adj_close_begins_later_lacks_none_before(root, monkeypatch, days):
    take(monkeypatch, days)
    frame = bars(days[-1], dict.fromkeys(days[:11]))
    fill(root / "whole", frame, days[0], days[-1])
    _, result = fill(root / "parts", frame, days[8], days[-1])
    assert result.complete
    etl, result = fill(root / "parts", frame, days[0], days[7])
    assert result.complete
    assert not result.warnings
    assert etl.ledger("withheld").is_empty()
    assert daily_bytes(etl) == daily_bytes(store(root / "whole", Delivery(frame), days[-1]))
