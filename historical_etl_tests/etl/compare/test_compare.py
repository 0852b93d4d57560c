"""`compare`: a store filled from one vendor beside another one, both on loopback; nothing is merged or written."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, ProviderError, Settings, StorageError
from historical_etl.cli import files
from historical_etl.etl.compare.comparison import MEASURES, Comparison, Tolerances, compare
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import at, changing, doubling, in_turn, losing
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, KEY, Fault, always

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


@pytest.fixture
def store(serve, tmp_path, clock) -> HistoricalETL:
    """A store filled from Tiingo, as it was at the end of the truth."""
    source = serve().source("tiingo", state_folder=tmp_path / "turns", pace=clock.pace)
    etl = HistoricalETL.open(tmp_path / "data", source, clock=at(END), settings=Settings(start=START))
    etl.run_full_etl(SYMBOLS, START, END)
    source.close()
    return etl


@pytest.fixture
def other(serve, tmp_path, clock):
    """Another vendor, with a truth of its own."""
    sources = []

    def make(vendor="eodhd", truth=TRUTH, **settings):
        sources.append(serve(truth, **settings).source(vendor, state_folder=tmp_path / "turns", pace=clock.pace))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


class Answering:
    """A source that has these bars."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def get_daily_prices(self, symbols, start_date, end_date) -> pl.DataFrame:
        return self.frame.filter(pl.col("symbol").is_in(symbols), pl.col("date").is_between(start_date, end_date))


def agreement(found: Comparison) -> dict[str, tuple[int, int]]:
    return {row["measure"]: (row["compared"], row["agreeing"]) for row in found.agreement.to_dicts()}


def test_two_vendors_of_one_truth_agree_on_every_price(store, other):
    before = store.manifest()
    found = compare(store, other("alpaca"), SYMBOLS, START)
    assert (found.end, found.here.name, found.there.name) == (END, "tiingo as stored", "alpaca")
    assert found.keys == found.rows.height == store.scan().collect().height
    assert found.only_here.height == found.only_there.height == found.disagreements.height == found.duplicates == 0
    assert found.agreement["share"].to_list() == [1.0] * len(MEASURES)
    assert not found.not_compared
    assert store.manifest() == before


def test_bases_that_differ_show_in_levels_and_not_in_returns_but_on_the_split(store, other):
    found = compare(store, other("yfinance"), ["SPLT"], START, END)
    counts = agreement(found)
    bars = store.scan("SPLT").collect()
    before = bars.filter(pl.col("date") < date(2013, 1, 2)).height
    assert counts["close"] == (bars.height, bars.height - before)  # Yahoo's is adjusted for the split
    assert counts["close_return"] == (bars.height - 1, bars.height - 2)
    assert found.largest("close_return", 1)["date"].to_list() == [date(2013, 1, 2)]
    assert counts["adj_close"] == (bars.height, bars.height)
    assert "splits" in found.there.adjustment


def test_a_vendor_without_an_adjusted_close_is_no_disagreement(store, other):
    found = compare(store, other("massive"), SYMBOLS, START, END)
    row = found.agreement.row(by_predicate=pl.col("measure") == "adj_close", named=True)
    assert (row["compared"], row["share"], row["only_there"]) == (0, None, 0)
    assert row["only_here"] > 0
    assert agreement(found)["close"] == (found.keys, found.keys)


def test_each_disagreement_is_listed_the_largest_first(store):
    day, other_day = date(2012, 11, 6), date(2012, 11, 20)
    alter = in_turn(
        changing("SPLT", day, close=1.0),
        changing("BRK.B", other_day, close=2.0, volume=1.0),
        losing("GONE", date(2012, 10, 17)),
        doubling("HALT", date(2012, 10, 18), close=3.0),
    )
    frame = alter(TRUTH.bars)
    found = compare(store, Answering(frame), SYMBOLS, START, END)
    closes = found.largest("close", 5)
    assert set(closes.select("symbol", "date").rows()[:2]) == {("SPLT", day), ("BRK.B", other_day)}
    assert closes["difference"].abs().is_sorted(descending=True)
    assert found.largest("volume", 5).select("symbol", "date", "there").rows() == [("BRK.B", other_day, 1.0)]
    returns = found.disagreements.filter(pl.col("measure") == "close_return", pl.col("symbol") == "SPLT")
    assert returns["date"].sort().to_list() == [day, date(2012, 11, 7)]
    assert found.only_here.rows() == [(date(2012, 10, 17), "GONE")]
    assert found.duplicates == 1
    gone = found.by_symbol.filter(pl.col("symbol") == "GONE")
    assert gone["share"].to_list() == [1.0] * gone.height  # the missing bar spoils no return


def test_tolerances_are_the_callers(store):
    frame = TRUTH.bars.with_columns(pl.col("close") * 1.0005)
    assert compare(store, Answering(frame), SYMBOLS, START).disagreements.height == 0
    strict = compare(store, Answering(frame), SYMBOLS, START, tolerances=Tolerances(price=1e-4))
    assert agreement(strict)["close"] == (strict.keys, 0)
    assert agreement(strict)["close_return"][0] == agreement(strict)["close_return"][1]


def test_a_symbol_that_fails_is_not_reported_as_missing(store, other):
    found = compare(store, other(faults=always(Fault.ERROR, "SPLT")), SYMBOLS, START)
    assert list(found.not_compared) == ["SPLT"]
    assert "HTTP 500" in found.not_compared["SPLT"]
    assert "SPLT" not in {*found.symbols, *found.only_here["symbol"], *found.rows["symbol"]}


def test_a_symbol_that_the_other_does_not_know_is_only_here(store, other):
    without = replace(TRUTH, bars=TRUTH.bars.filter(pl.col("symbol") != "BRK.B"))
    found = compare(store, other(truth=without), ["BRK.B", "SPLT"], START)
    assert set(found.only_here["symbol"]) == {"BRK.B"}
    assert found.only_here.height == store.scan("BRK.B").collect().height


def test_live_asks_both_and_reads_no_store(other, tmp_path):
    empty = HistoricalETL.open(tmp_path / "none", Answering(TRUTH.bars), clock=at(END))
    found = compare(empty, other("alpaca"), SYMBOLS, START, "2030-01-01", live=other("tiingo"))
    assert (found.here.name, found.end) == ("tiingo", END)  # and no session that has not closed
    assert found.agreement["share"].to_list() == [1.0] * len(MEASURES)
    with pytest.raises(ConfigurationError, match="with itself"):
        compare(empty, other("tiingo"), SYMBOLS, START, live=other("tiingo"))
    with pytest.raises(ConfigurationError, match="Nothing is stored") as caught:
        compare(empty, other("tiingo"), SYMBOLS, START)
    assert "--live" in caught.value.todo


def test_a_vendor_that_gives_nothing_is_an_error(store, other):
    with pytest.raises(ProviderError):
        compare(store, other(faults=always(Fault.ERROR)), SYMBOLS, START)


@pytest.mark.parametrize(
    ("symbols", "start", "end", "word"),
    [
        ([], START, END, "empty"),
        (["SPLT"], END, START, "reversed"),
        (["SPLT"], "soon", END, "start"),
        (["SPLT"], START, "late", "end"),
    ],
)
def test_malformed_questions_are_refused_by_name(store, symbols, start, end, word):
    with pytest.raises(ConfigurationError, match=word):
        compare(store, Answering(TRUTH.bars), symbols, start, end)


def test_values_that_are_no_numbers_are_none(store):
    frame = TRUTH.bars.with_columns(
        close=pl.when(pl.col("symbol") == "SPLT").then(float("nan")).otherwise("close"),
        volume=pl.when(pl.col("symbol") == "SPLT").then(0.0).otherwise("volume"),
        adj_close=pl.when(pl.col("symbol") == "SPLT").then(0.0).otherwise("adj_close"),
    )
    found = compare(store, Answering(frame), ["SPLT"], START)
    counts = agreement(found)
    assert counts["close"] == (0, 0)
    assert counts["adj_close"] == (found.keys, 0)
    assert counts["adj_close_return"] == (0, 0)
    assert found.disagreements["difference"].is_finite().all()


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cli(store, serve, capsys, monkeypatch) -> CommandLine:
    """In front of the store, with EODHD on loopback as the other source."""
    found = command_line(store.layout.root.parent, capsys, monkeypatch)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    found.set(SOURCE="tiingo", EODHD_BASE_URL=f"{serve().url}/api", EODHD_RATE="100000/second")
    return found


WANTED = ["compare", "--with", "eodhd", "--symbols", "SPLT,brk.b", "--from", "2012-10-15"]


def test_the_command_says_how_much_agrees(cli, store):
    before = cli.bytes_stored()
    whole = cli(*WANTED).out
    assert whole == Saying("there: eodhd", "raw open, high, low, close and volume")
    assert "volume: " not in whole
    cli.set(EODHD_ACTIONS="false")
    answer = cli(*WANTED)
    assert answer.code == FINE
    assert "here:  tiingo as stored: raw open" in answer.out
    assert answer.out == Saying("there: eodhd", "raw open, high, low and close", "volume for splits")
    assert answer.out == Saying("keys on both sides", "none only here", "none only there")
    line = next(line.split() for line in answer.out.splitlines() if line.startswith("adj_close_return"))
    assert line[3] == "100.00%"
    assert "volume: " in answer.out  # EODHD's is adjusted for the split, which it is not asked for
    assert cli.bytes_stored() == before
    assert KEY not in answer.out + answer.err
    document = cli(*WANTED, "--to", "2012-10-31", "--json").document
    assert (document["end"], document["symbols"]) == ("2012-10-31", ["SPLT", "BRK.B"])
    assert [row["measure"] for row in document["agreement"]] == list(MEASURES)
    assert document["only_here"] == {"count": 0, "first": []}
    assert document["disagreements"]["largest"]["close"] == []
    assert {row["difference"] for row in document["disagreements"]["largest"]["volume"]} == {0.5}


def test_both_sides_are_written_and_drawn(cli):
    answer = cli(*WANTED, "--output", "both.parquet", "--plot", "picture.PNG", "--json")
    assert answer.code == FINE
    assert answer.document["output"] == str(cli.folder / "both.parquet")
    rows = pl.read_parquet(cli.folder / "both.parquet")
    assert rows.columns[:4] == ["date", "symbol", "close_here", "close_there"]
    assert rows.height == answer.document["keys"]
    picture = (cli.folder / "picture.PNG").read_bytes()
    assert picture.startswith(b"\x89PNG")
    cli(*WANTED, "--plot", "picture.PNG", "--quiet")
    assert (cli.folder / "picture.PNG").read_bytes() == picture


def test_without_matplotlib_nobody_is_asked(cli, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    cli.set(EODHD_BASE_URL="http://127.0.0.1:9")
    answer = cli(*WANTED, "--plot", "picture.png")
    assert answer.code == USAGE
    assert "pip install 'PATH/TO/CHECKOUT[plot]'" in answer.err


def test_what_did_not_come_is_code_3(cli, serve):
    cli.set(EODHD_BASE_URL=f"{serve(faults=always(Fault.HTML, 'SPLT')).url}/api", EODHD_ATTEMPTS="1")
    answer = cli(*WANTED)
    assert answer.code == INCOMPLETE
    assert "SPLT was not compared: eodhd: " in answer.err
    nothing = cli("compare", "--with", "eodhd", "--symbols", "NEVER", "--from", "2012-10-15")
    assert nothing.code == USAGE
    assert "does not know NEVER" in nothing.err


def test_live_needs_the_key_of_the_configured_source_and_the_store_does_not(cli, monkeypatch):
    monkeypatch.delenv("TIINGO_API_KEY")
    assert cli(*WANTED).code == FINE
    answer = cli(*WANTED, "--live")
    assert answer.code == USAGE
    assert "TIINGO_API_KEY is not set" in answer.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--with", "bloomberg"], "Unknown source 'bloomberg'"),
        (["--output", "both.csv"], "does not end in .parquet"),
        (["--plot", "data/picture.png"], "inside the data folder"),
        (["--from", "soon"], "is not a date"),
        (["--symbols", ","], "empty"),
        (["--to", "2012-10-01"], "reversed"),
        (["--live", "--with", "tiingo"], "with itself"),
    ],
)
def test_wrong_usage(cli, more, words):
    answer = cli(*WANTED, *more)
    assert (answer.code, answer.out) == (USAGE, "")
    assert words in answer.err
    assert "next:" in answer.err


def test_a_file_that_cannot_be_written_is_reported(cli):
    with pytest.raises(StorageError, match="cannot be written"):
        files.write_file(cli.folder / "none" / ("x" * 300), b"")
