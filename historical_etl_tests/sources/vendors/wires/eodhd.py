"""What EODHD answers; see `eodhd.md` beside this folder for each source."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, Loopback
from historical_etl_tests.sources.vendors.wires.common import Wire, day_of, events, known, rows


def eodhd(server: Loopback, request: Request) -> Any:
    if request.args.get("api_token") != KEY:
        return Response("Unauthenticated", 401, content_type="text/html")
    assert request.args["fmt"] == "json"
    _, _, kind, code = request.path.split("/")
    if kind == "eod-bulk-last-day":
        return eodhd_bulk(server, request)
    symbol = code.removesuffix(".US").replace("-", ".")
    if not known(server, symbol):
        return Response("Ticker Not Found.", 404, content_type="text/html")
    start, end = day_of(request.args["from"]), day_of(request.args["to"])
    match kind:
        case "splits":
            return [
                {"date": str(row["date"]), "split": f"{row['split']:.6f}/1.000000"}
                for row in events(server, start, end, [symbol])
                if row["split"] != 1
            ]
        case "div":
            return [
                {"date": str(row["date"]), "value": row["dividend"] / 7, "unadjustedValue": row["dividend"]}
                | {"currency": "USD", "period": None, "declarationDate": None, "recordDate": None, "paymentDate": None}
                for row in events(server, start, end, [symbol])
                if row["dividend"]
            ]
        case _:
            return [eodhd_bar(row) for row in rows(server, "eodhd", symbol, start, end)]


def eodhd_bar(row: Mapping[str, Any]) -> dict[str, Any]:
    prices = {name: row[name] for name in ("open", "high", "low", "close")}
    return {"date": str(row["date"]), **prices, "adjusted_close": row["adj_close"], "volume": row["volume"]}


def eodhd_bulk(server: Loopback, request: Request) -> Any:
    day = day_of(request.args["date"])
    acted = events(server, day, day)
    kind = request.args.get("type", "")
    names = {"splits": "split", "dividends": "dividend"}
    if kind:
        return [
            {"code": row["symbol"].replace(".", "-"), "exchange": "US", "date": str(day)}
            | (
                {"split": f"{row['split']:.6f}/1.000000"}
                if kind == "splits"
                else {"dividend": f"{row['dividend'] / 7:.4f}", "unadjustedValue": repr(row["dividend"])}
            )
            for row in acted
            if row[names[kind]] != {"splits": 1.0, "dividends": 0.0}[kind]
        ]
    bars = server.truth.basis("eodhd").bars.filter(pl.col("date") == day).sort("symbol").to_dicts()
    return [{"code": row["symbol"].replace(".", "-"), "exchange_short_name": "US", **eodhd_bar(row)} for row in bars]


WIRES: dict[str, Wire] = {
    r"^/api/(eod|div|splits|eod-bulk-last-day)/[^/]+$": eodhd,
}
