"""What EODHD answers; see `eodhd.md` beside this folder for each source.

Plans: "free" gives the bars of a year, with a warning on the last bar's own row, no events and no whole days; "free,
apart" warns in an object of its own; "free, events" has a year of events too.
"""

from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from math import prod
from typing import Any

import polars as pl
from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, Loopback
from historical_etl_tests.sources.vendors.wires.common import Wire, day_of, events, known, rows

WARNING = "Data is limited by one year as you have free subscription"
HTML = "text/html; charset=UTF-8"


def eodhd(server: Loopback, request: Request) -> Any:
    if request.args.get("api_token") != KEY:
        return Response("Unauthenticated", 401, content_type=HTML)
    assert request.args["fmt"] == "json"
    _, _, kind, code = request.path.split("/")
    if kind == "eod-bulk-last-day":
        return eodhd_bulk(server, request)
    return eodhd_symbol(server, request, kind, symbol_of(code.rpartition(".")[0]))


def eodhd_symbol(server: Loopback, request: Request, kind: str, symbol: str) -> Any:
    if kind != "eod" and server.plan in {"free", "free, apart"}:
        return Response("Only EOD data allowed for free users", 403, content_type=HTML)
    if not known(server, symbol):
        unknown = "Ticker Not Found." if kind == "eod" else "Symbol not found"
        return Response(unknown, 404, content_type=HTML)
    start, end = day_of(request.args["from"]), day_of(request.args["to"])
    clipped = max(start, year_before(server)) if server.plan else start
    match kind:
        case "splits":
            return or_404(
                server, [split_row(row) for row in events(server, clipped, end, [symbol]) if row["split"] != 1]
            )
        case "div":
            return or_404(
                server, [paid_row(server, row) for row in events(server, clipped, end, [symbol]) if row["dividend"]]
            )
        case _:
            bars = [eodhd_bar(row) for row in rows(server, "eodhd", symbol, clipped, end)]
            return bars if clipped == start else warned(bars, apart="apart" in server.plan)


def year_before(server: Loopback) -> date:
    """The same day a year ago, which is inside."""
    assert server.now is not None
    today = server.now.date()
    return today.replace(year=today.year - 1)


def warned(bars: list[dict[str, Any]], *, apart: bool) -> list[dict[str, Any]]:
    if apart or not bars:
        return [*bars, {"warning": WARNING}]
    return [*bars[:-1], bars[-1] | {"warning": WARNING}]


def or_404(server: Loopback, found: list[dict[str, Any]]) -> Any:
    return Response("Not Found", 404, content_type=HTML) if server.none_is_404 and not found else found


def symbol_of(code: str) -> str:
    """The symbol of a code: the small letters of a reused ticker are capitals here."""
    return code.replace("-", ".").upper()


def code_of(symbol: str) -> str:
    return symbol.replace(".", "-").replace("_OLD", "_old")


def split_row(row: Mapping[str, Any]) -> dict[str, Any]:
    ratio = Fraction(row["split"]).limit_denominator(1000)
    return {"date": str(row["date"]), "split": f"{ratio.numerator:.6f}/{ratio.denominator:.6f}"}


def paid_row(server: Loopback, row: Mapping[str, Any]) -> dict[str, Any]:
    later = [event["split"] for event in events(server, row["date"], date.max, [row["symbol"]])]
    return {
        "date": str(row["date"]),
        "declarationDate": None,
        "recordDate": None,
        "paymentDate": None,
        "period": None,
        "value": row["dividend"] / prod(later),
        "unadjustedValue": row["dividend"],
        "currency": server.facts.get(row["symbol"], {}).get("currency", "USD"),
    }


def eodhd_bar(row: Mapping[str, Any]) -> dict[str, Any]:
    prices = {name: whole(row[name]) for name in ("open", "high", "low", "close")}
    return {
        "date": str(row["date"]),
        **prices,
        "adjusted_close": whole(row["adj_close"]),
        "volume": whole(row["volume"]),
    }


def whole(number: float | None) -> float | None:
    """A whole number comes as an integer."""
    return int(number) if number is not None and number == number // 1 else number


def eodhd_bulk(server: Loopback, request: Request) -> Any:
    if server.plan:
        words = "Bulk requests are prohibited for free users. Please, contact our support team"
        return Response(words, 423, content_type="text/html; charset=utf-8")
    day = day_of(request.args["date"])
    head = {"exchange": "US", "date": str(day)}
    match request.args.get("type", ""):
        case "splits":
            found = [split_row(row) | head | {"code": code_of(row["symbol"])} for row in acted(server, day, "split")]
        case "dividends":
            found = [bulk_paid(server, row) | head for row in acted(server, day, "dividend")]
        case _:
            bars = server.truth.basis("eodhd").bars.filter(pl.col("date") == day).sort("symbol").to_dicts()
            if server.now is not None and day > server.now.date():
                bars = []
            found = [{"code": code_of(row["symbol"]), "exchange_short_name": "US", **eodhd_bar(row)} for row in bars]
    return or_404(server, found)


def acted(server: Loopback, day: date, kind: str) -> list[dict[str, Any]]:
    return [row for row in events(server, day, day) if row[kind] != {"split": 1.0, "dividend": 0.0}[kind]]


def bulk_paid(server: Loopback, row: Mapping[str, Any]) -> dict[str, Any]:
    """Amounts are texts here, and what is not known is null."""
    paid = paid_row(server, row)
    value = f"{paid.pop('value'):.5f}"
    return paid | {"code": code_of(row["symbol"]), "dividend": value, "unadjustedValue": repr(row["dividend"])}


WIRES: dict[str, Wire] = {
    r"^/api/(eod|div|splits|eod-bulk-last-day)/[^/]+$": eodhd,
}
