"""What Yahoo answers; see `yahoo.md` beside this folder for each source."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import NEW_YORK, Wire, known, rows


def yahoo_other(server: Loopback, request: Request) -> Any:
    """The cookie, the crumb, and whatever else the client asks for on its way."""
    del server
    if request.path.endswith("/getcrumb"):
        return Response("loopback-crumb", content_type="text/plain")
    # From 2033-05-18 on, the client would take the time for one in ms.
    cookie = "A3=d=loopback; Domain=.yahoo.com; Path=/; Expires=Sat, 01 Jan 2033 00:00:00 GMT"
    return Response("", 404, headers={"Set-Cookie": cookie})


def yahoo(server: Loopback, request: Request) -> Any:
    ticker = request.path.rsplit("/", 1)[1]
    symbol = ticker.replace("-", ".")
    if not known(server, symbol):
        error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        return as_json({"chart": {"result": None, "error": error}}, 404)
    if "period1" not in request.args:
        return yahoo_chart(server, symbol, [], {})
    start, end = (
        datetime.fromtimestamp(int(request.args[name]), UTC).astimezone(NEW_YORK).date()
        for name in ("period1", "period2")
    )
    end -= timedelta(days=1)
    mine = [row["date"] for row in rows(server, "yfinance", symbol, date.min, date.max)]
    if not mine or end < mine[0]:
        text = f"Data doesn't exist for startDate = {request.args['period1']}, endDate = {request.args['period2']}"
        return as_json({"chart": {"result": None, "error": {"code": "Bad Request", "description": text}}}, 400)
    acted = server.truth.expected_actions("yfinance", [symbol], start, end).to_dicts()
    dividends = {str(opening(row["date"])): row for row in acted if row["dividend"]}
    splits = {str(opening(row["date"])): row for row in acted if row["split"] != 1}
    found = {
        "dividends": {at: {"amount": row["dividend"], "date": int(at)} for at, row in dividends.items()},
        "splits": {
            at: {"date": int(at), "numerator": row["split"], "denominator": 1.0, "splitRatio": f"{row['split']:g}:1"}
            for at, row in splits.items()
        },
    }
    return yahoo_chart(
        server,
        symbol,
        rows(server, "yfinance", symbol, start, end),
        {name: kind for name, kind in found.items() if kind},
    )


def opening(day: date) -> int:
    return int(datetime.combine(day, time(9, 30), NEW_YORK).timestamp())


def yahoo_chart(server: Loopback, symbol: str, bars: list[dict[str, Any]], acted: dict[str, Any]) -> Any:
    del server
    meta = {
        "currency": "USD",
        "symbol": symbol,
        "exchangeName": "NYQ",
        "instrumentType": "EQUITY",
        "gmtoffset": -18000,
        "timezone": "EST",
        "exchangeTimezoneName": "America/New_York",
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    quote = {name: [row[name] for row in bars] for name in ("open", "high", "low", "close", "volume")}
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
    if bars:
        result["timestamp"] = [opening(row["date"]) for row in bars]
        result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": [row["adj_close"] for row in bars]}]}
    if acted:
        result["events"] = acted
    return {"chart": {"result": [result], "error": None}}


WIRES: dict[str, Wire] = {
    r"^/yahoo/[^/]+/v8/finance/chart/[^/]+$": yahoo,
    r"^/yahoo/(?!.*/v8/finance/chart/).*$": yahoo_other,
}
