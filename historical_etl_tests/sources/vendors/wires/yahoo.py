"""What Yahoo answers; see `yahoo.md` beside this folder for each source."""

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import Wire, known, rows


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
    symbol = ticker if known(server, ticker) else ticker.replace("-", ".")
    if not known(server, symbol):
        return refusal(404, "Not Found", "No data found, symbol may be delisted")
    facts = server.facts.get(symbol, {})
    reported = rows(server, "yfinance", symbol, date.min, date.max)
    moments = [moment_of(row["date"], facts) for row in reported]
    live = facts.get("last_trade")
    if live is not None:
        moments[-1] = int(live.timestamp())
    first, behind = 0, 0
    if "period1" in request.args:
        first, behind = int(request.args["period1"]), int(request.args["period2"])
        if first > behind:
            text = f"Invalid input - start date cannot be after end date. startDate = {first}, endDate = {behind}"
            return refusal(400, "Bad Request", text)
        if not moments or behind <= moments[0]:
            return refusal(
                400, "Bad Request", f"Data doesn't exist for startDate = {first}, endDate = {behind}", facts.get("key")
            )
    # The latest price may be there although it lies behind the range.
    inside = [first <= moment < behind or moment == facts.get("appended") for moment in moments]
    bars = [row for row, is_inside in zip(reported, inside, strict=True) if is_inside]
    acted = acted_of(server, request, symbol, facts, first, behind)
    meta = {
        "currency": facts.get("currency", "USD") if bars or acted else None,
        "symbol": facts.get("named", ticker),
        "exchangeName": "NYQ",
        "instrumentType": facts.get("instrument", "EQUITY"),
        "firstTradeDate": moments[0] if bars else None,
        "regularMarketTime": int(live.timestamp()) if live else moments[-1] + 23400 if moments else None,
        "gmtoffset": -18000,  # of now, whatever the bar
        "timezone": "EST",
        "exchangeTimezoneName": facts.get("zone", "America/New_York"),
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
    if bars:
        names = ["open", "high", "low", "close", "volume"]
        random.Random(f"{symbol} {first}").shuffle(names)
        result["timestamp"] = [moment for moment, is_inside in zip(moments, inside, strict=True) if is_inside]
        result["indicators"] = {
            "quote": [{name: [row[name] for row in bars] for name in names}],
            "adjclose": [{"adjclose": [row["adj_close"] for row in bars]}],
        }
        if facts.get("without_adjclose"):
            del result["indicators"]["adjclose"]
    if acted:
        result["events"] = acted
    return {"chart": {"result": [result], "error": None}}


def refusal(status: int, code: str, text: str, key: str | None = None) -> Response:
    return as_json({key or "chart": {"result": None, "error": {"code": code, "description": text}}}, status)


def moment_of(day: date, facts: Mapping[str, Any]) -> int:
    """When the session of a day opens."""
    zone = ZoneInfo(facts.get("zone", "America/New_York"))
    return int(datetime.combine(day, facts.get("opens", time(9, 30)), zone).timestamp())


def acted_of(
    server: Loopback, request: Request, symbol: str, facts: Mapping[str, Any], first: int, behind: int
) -> dict[str, Any]:
    """The events between two moments, of the kinds that are asked for, on days with and without a bar."""
    asked = request.args.get("events", "").replace("|", ",").split(",")
    found: dict[str, dict[str, dict[str, Any]]] = {"dividends": {}, "capitalGains": {}, "splits": {}}
    for row in server.truth.expected_actions("yfinance", [symbol], date.min, date.max).to_dicts():
        at = moment_of(row["date"], facts)
        if not first <= at < behind:
            continue
        # The key is the beginning of a row, whose day need not be the event's.
        key = str(int(datetime.combine(row["date"] - timedelta(days=1), time(), UTC).timestamp()))
        if row["dividend"]:
            kind = "capitalGains" if row["date"] in facts.get("gains", ()) else "dividends"
            found[kind][key] = {"amount": row["dividend"], "date": at}
            if (paid_in := facts.get("paid_in", {}).get(row["date"])) is not None:
                found[kind][key]["currency"] = paid_in
        if row["split"] != 1:
            words = f"{row['split']:g}:1"
            found["splits"][key] = {"date": at, "numerator": row["split"], "denominator": 1, "splitRatio": words}
    wanted = {"dividends": {"div"}, "capitalGains": {"capitalGains"}, "splits": {"split", "splits"}}
    # Their maps have no order that one may rely on.
    return {
        kind: dict(reversed(events.items())) for kind, events in found.items() if events and wanted[kind] & set(asked)
    }


WIRES: dict[str, Wire] = {
    r"^/yahoo/[^/]+/v8/finance/chart/[^/]+$": yahoo,
    r"^/yahoo/(?!.*/v8/finance/chart/).*$": yahoo_other,
}
