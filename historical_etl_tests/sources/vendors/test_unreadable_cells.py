"""A cell that cannot be read beside a readable date and close costs no bar, whichever vendor gave it."""

import re
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal
from werkzeug import Request, Response

from historical_etl import Outcome
from historical_etl_tests.saying import Saying
from historical_etl_tests.sources.vendors import wires
from historical_etl_tests.sources.vendors.conftest import END, START, SYMBOLS, TRUTH
from historical_etl_tests.sources.vendors.loopback import KEY, as_json
from historical_etl_tests.sources.vendors.wires import eodhd as wire
from historical_etl_tests.sources.vendors.wires.eodhd import eodhd_bar

DAY = date(2013, 1, 2)
#: Where the newest bar of HALT is in an answer about it, by vendor: the path, the bar, and the name of its volume.
NEWEST: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "tiingo": ("/daily/HALT/", lambda body: body[-1], "volume"),
    "eodhd": ("/eod/HALT.US", lambda body: body[-1], "volume"),
    "alpaca": ("/stocks/bars", lambda body: body["bars"]["HALT"][-1], "v"),
    "massive": ("/ticker/HALT/", lambda body: body["results"][-1], "v"),
    "yfinance": (
        "/chart/HALT",
        lambda body: body["chart"]["result"][0]["indicators"]["quote"][0]["volume"],
        -2,
    ),  # a day more is asked for
}


def test_a_volume_that_cannot_be_read_costs_no_bar_and_is_reported(vendor, serve, ask):
    """The newest session would be a gap, or its symbol be refused."""
    place, bar_of, name = NEWEST[vendor]

    def spoilt(request: Request) -> Response | None:
        if place not in request.path:
            return None
        wire = next(wire for pattern, wire in wires.WIRES.items() if re.match(pattern, request.path))
        body = deepcopy(wire(server, request))  # its rows are the truth of all tests
        bar_of(body)[name] = f"NA for {KEY}"
        return as_json(body)

    server = serve(answers=spoilt)
    result = ask(server, vendor)
    expected = TRUTH.expected(vendor, SYMBOLS, START, END)
    of_halt = pl.col("symbol") == "HALT"
    newest = of_halt & (pl.col("date") == pl.col("date").filter(of_halt).max())
    assert_frame_equal(result.frame, expected.with_columns(volume=pl.when(~newest).then("volume")))
    assert (result.outcomes["HALT"], result.rejected) == (Outcome.OK, None)
    (reported,) = [note for note in result.notes if "cannot be read" in note]
    assert re.search(r"null: volume of HALT on 2013-02-0\d \('NA for [^']*'\)$", reported)
    assert KEY not in reported or vendor == "yfinance"  # Yahoo has no key


def test_a_market_day_with_an_adjusted_close_that_cannot_be_read_loses_no_symbol(serve, ask, monkeypatch):
    monkeypatch.setattr(
        wire, "eodhd_bar", lambda row: eodhd_bar(row) | ({"adjusted_close": "NA"} if row["symbol"] == "HALT" else {})
    )
    result = ask(serve(), "eodhd", (*SYMBOLS, *(f"X{number}" for number in range(100))), DAY, DAY)
    assert result.outcomes["HALT"] is Outcome.OK
    ((close, adj_close),) = result.frame.filter(pl.col("symbol") == "HALT").select("close", "adj_close").rows()
    assert close > 0
    assert adj_close is None
    assert result.notes == (Saying("null", "adj_close of HALT on 2013-01-02", "'NA'"),)


def test_a_volume_beside_an_adjusted_close_that_cannot_be_read_is_of_its_day_all_the_same(serve, ask, monkeypatch):
    """Before a split the volume is in the shares after it; only `adj_close` tells that there was one."""
    before, many = date(2012, 12, 31), (*SYMBOLS, *(f"X{number}" for number in range(100)))
    expected = ask(serve(), "eodhd", many, before, before).frame
    monkeypatch.setattr(
        wire, "eodhd_bar", lambda row: eodhd_bar(row) | ({"adjusted_close": "NA"} if row["symbol"] == "SPLT" else {})
    )
    result = ask(serve(), "eodhd", many, before, before)
    of_split = pl.col("symbol") == "SPLT"
    assert_frame_equal(result.frame, expected.with_columns(adj_close=pl.when(~of_split).then("adj_close")))
