"""B6: what people really write as symbols can be stored; what cannot is refused, all named at once."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, FetchRequest, FetchResult, Outcome
from historical_etl.symbols import is_symbol, normalize_symbols
from historical_etl_tests.field.market import Teller, bars, cells, opened, sessions
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import SHORT, ScriptedSource, store, tree

DAYS = sessions(date(2012, 11, 1), date(2013, 1, 31))
TODAY = DAYS[-1]
REAL = [
    "^GSPC",
    "^N225",
    "BF/B",
    "BRK.B",
    "BRK-B",
    "M&M.NS",
    "J&KBANK.NS",
    "RDS_A",
    "0700.HK",
    "000001.SS",
    "BTC-USD",
    "BTC/USD",
    "EURUSD=X",
    "ES=F",
    "DX-Y.NYB",
    "BAC-PL",
    "ABC=",
    "ABC^",
    "7203.T",
    "SAP.DE",
    "A",
    "NIFTY_FIN_SERVICE.NS",
    "ISHARES-CORE-SP500-UCITS-ETF.L",
]
NOT_ONE = [
    "",
    " ",
    "BRK B",
    ".",
    "..",
    "../X",
    "A/../B",
    "A/..",
    "/A",
    "A/",
    "A//B",
    "A/B/C",
    "-A",
    "=A",
    "@A",
    "+A",
    "_A",
    "~A",
    "A*",
    "A?",
    "A[B]",
    "A'B",
    'A"B',
    "A;B",
    "A`B",
    "A$B",
    "A|B",
    "A\\B",
    "A%2FB",
    "A#B",
    "A:B",
    "A\x00B",
    "A\nB",
    "ÄB",
    "A,B",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAA/B",
    "^",
    "^^A",
    "A\n",
    "A/.B",
]


@pytest.mark.parametrize("symbol", REAL)
def test_what_people_use_can_be_written(symbol: str):
    assert is_symbol(symbol)
    assert normalize_symbols([f" {symbol.lower()} "]) == [symbol]


@pytest.mark.parametrize("text", NOT_ONE)
def test_what_is_dangerous_cannot(text: str):
    assert not is_symbol(text)
    with pytest.raises(ConfigurationError):
        normalize_symbols([f"{text}~"])


def test_a_request_names_all_that_cannot_be_written_and_what_they_may_stand_for():
    with pytest.raises(ConfigurationError) as caught:
        normalize_symbols(["AAA", "BRK B", "..", "bf b"])
    named = ("'BRK B'", "BRK.B", "BRK-B", "'..'", "'BF B'", "BF.B", "BF-B")
    assert str(caught.value) == Saying("3 symbol(s) refused", *named)


def test_symbols_of_all_kinds_are_stored_read_and_distinguished(root: Path):
    teller = Teller([row for n, symbol in enumerate(REAL) for row in bars(symbol, DAYS, price=50.0 + n)])
    etl = opened(root, teller, DAYS[-2])
    before = {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}
    etl.run_full_etl(REAL, DAYS[0], DAYS[-2])
    etl = opened(root, teller, TODAY)
    assert etl.run_incremental_etl().complete
    for number, symbol in enumerate(REAL):
        assert cells(etl, symbol, "close")[DAYS[0]] == 50.0 + number
        count = "SELECT count(*) FROM daily_prices WHERE symbol = ?"
        assert etl.query_sql(count, [symbol]).item() == len(DAYS)
        assert etl.query_sql(f"SELECT count(*) FROM daily_prices WHERE symbol = '{symbol}'").item() == len(DAYS)
        assert not etl.explain(symbol, TODAY).is_empty()
    assert etl.verify().ok
    assert {path for path in root.parent.rglob("*") if not path.is_relative_to(root)} == before
    names = [path for path in tree(root) if any(symbol in path for symbol in REAL if len(symbol) > 1)]
    assert names == [], "no file is named after a symbol"
    sheet = root.parent / "all.csv"
    etl.scan().select("symbol").unique().collect().write_csv(sheet)
    assert set(pl.read_csv(sheet, infer_schema=False)["symbol"]) == set(REAL)


def test_rows_of_what_cannot_be_written_are_refused_and_all_named_at_once(root: Path):
    strangers = ["BRK B", "", "..", "../../etc/passwd", "A'; DROP TABLE x"]
    teller = Teller(
        [*bars("AAA", DAYS), *bars("M&M.NS", DAYS), *(r for s in strangers for r in bars(s, DAYS[:3]))], careless=True
    )
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA", "M&M.NS"], DAYS[0], TODAY)
    assert set(result.outcomes.values()) == {Outcome.OK}
    assert not result.complete
    assert result.rejected_by_reason["unwritable_symbol"] == 3 * len(strangers)
    (warning,) = result.warnings
    assert "5 symbol(s)" in warning
    assert warning == Saying("'BRK B'", "BRK.B", "BRK-B")
    for symbol in strangers:
        assert repr(symbol.upper()) in warning
    assert set(etl.scan().collect()["symbol"]) == {"AAA", "M&M.NS"}
    assert etl.ledger("rejected_rows").filter(symbol="BRK B").height == 3
    assert etl.verify().ok


def test_a_universe_that_names_what_cannot_be_written_costs_only_that(root: Path):
    def renamed(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("symbol").replace({"RAWP": "RAW P"}))

    class Source(ScriptedSource):
        def members(self, start: date | None, end: date | None) -> list[str]:
            return [{"RAWP": "RAW P"}.get(symbol, symbol) for symbol in super().members(start, end)]

        def fetch(self, request: FetchRequest) -> FetchResult:
            wanted = tuple({"RAW P": "RAWP"}.get(symbol, symbol) for symbol in request.symbols)
            answer = super().fetch(type(request)(wanted, request.start, request.end))
            outcomes = {{"RAWP": "RAW P"}.get(symbol, symbol): fetched for symbol, fetched in answer.outcomes.items()}
            return type(answer)(renamed(answer.frame), outcomes)

    etl = store(root, Source(SHORT), date(2013, 1, 31))
    result = etl.run_year(2012)
    assert result.outcomes["RAW P"] is Outcome.REFUSED
    assert Saying("'RAW P'", "RAW.P", "RAW-P") in result.warnings
    assert "RAW P" not in set(etl.scan().collect()["symbol"])
    assert result.outcomes["HALT"] is Outcome.OK
