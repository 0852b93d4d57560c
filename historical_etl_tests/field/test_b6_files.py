"""B6 in files: rows of symbols that cannot be written are refused, all named at once, and the rest is stored."""

from historical_etl_tests.field.files_at_hand import FAILED, FINE, INCOMPLETE, days, desk
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

#: None of them is a symbol, however wide the pattern is.
ODD = ("BRK B", "", "A,B", "ÄBC", "../X")


def market(symbols) -> str:
    rows = [f'{day},"{symbol}",100,1000' for symbol in symbols for day in days()]
    return "\n".join(["date,symbol,close,volume", *rows])


def test_the_good_ones_beside_them_are_stored_and_all_are_named(desk):
    desk.put("all.csv", market(["AAPL", *ODD, "MSFT"]))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8, "MSFT": 8}
    assert answer.err == Saying(f"{8 * len(ODD)} row", "symbols that cannot be written")
    for symbol in ODD:
        assert f"{symbol!r} (8)" in answer.err
    assert "HISTORICAL_ETL_FILES_SYMBOLS" in answer.err
    aside = desk.query("SELECT count(*) AS n FROM rejected_rows")
    assert aside == [{"n": 8 * len(ODD)}]


def test_a_setting_names_them_otherwise(desk):
    desk.put("all.csv", market(["AAPL", "BRK B", "BF/B x"]))
    assert desk.backfill(SYMBOLS="brk b=BRK.B, BF/B x=BF.B").code == FINE
    assert desk.symbols() == {"AAPL": 8, "BF.B": 8, "BRK.B": 8}


def test_so_does_a_file_of_pairs(desk):
    desk.put("all.csv", market(["AAPL", "BRK B"]))
    pairs = desk.cli.folder / "names.csv"
    pairs.write_text("BRK B,BRK.B\nAAPL,AAPL\n")
    assert desk.backfill(SYMBOLS=str(pairs)).code == FINE
    assert desk.symbols() == {"AAPL": 8, "BRK.B": 8}


def test_one_that_maps_to_no_symbol_is_refused(desk):
    desk.put("all.csv", market(["AAPL"]))
    answer = desk.backfill(SYMBOLS="A=B C")
    assert answer.code != FINE
    assert "HISTORICAL_ETL_FILES_SYMBOLS" in answer.err


def test_if_there_are_no_others_it_is_an_error(desk):
    desk.put("all.csv", market(["BRK B", ""]))
    answer = desk.backfill()
    assert answer.code == FAILED
    assert "'BRK B' (8)" in answer.err
