"""The wire formats: what each vendor's server answers, from shapes as recorded and documented (2026-11)."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import polars as pl
from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, SECRET, Loopback, as_json

NEW_YORK = ZoneInfo("America/New_York")
Wire = Callable[[Loopback, Request], Any]


def day_of(text: str) -> date:
    """A date, a moment, or ms since 1970."""
    if text.isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC).astimezone(NEW_YORK).date()
    if "T" in text:
        return datetime.fromisoformat(text).astimezone(NEW_YORK).date()
    return date.fromisoformat(text)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK)


def rows(server: Loopback, vendor: str, symbol: str, start: date, end: date) -> list[dict[str, Any]]:
    return [row for row in server.truth.rows(vendor, symbol) if start <= row["date"] <= end]


def events(server: Loopback, start: date, end: date, symbols: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        row
        for row in server.truth.events()
        if start <= row["date"] <= end and (symbols is None or row["symbol"] in symbols)
    ]


def known(server: Loopback, symbol: str) -> bool:
    return symbol in server.truth.symbols


# ── Tiingo ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tiingo(server: Loopback, request: Request) -> Any:
    if request.headers.get("Authorization") != f"Token {KEY}":
        return as_json({"detail": "Invalid token."}, 401)
    symbol = request.path.split("/")[3].replace("-", ".")
    if not known(server, symbol):
        return as_json({"detail": "Not found."}, 404)
    start, end = day_of(request.args["startDate"]), day_of(request.args["endDate"])
    acted = {row["date"]: row for row in events(server, start, end, [symbol])}
    return [
        {
            "date": f"{row['date']}T00:00:00.000Z",
            **{name: row[name] for name in ("close", "high", "low", "open", "volume")},
            "adjClose": row["adj_close"],
            "adjHigh": row["high"],
            "adjLow": row["low"],
            "adjOpen": row["open"],
            "adjVolume": row["volume"],
            "divCash": acted.get(row["date"], {}).get("dividend", 0.0),
            "splitFactor": acted.get(row["date"], {}).get("split", 1.0),
        }
        for row in rows(server, "tiingo", symbol, start, end)
    ]


# ── EODHD ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── Yahoo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── Alpaca ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def alpaca_denied(request: Request) -> Response | None:
    if (request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")) == (KEY, SECRET):
        return None
    return as_json({"message": "forbidden."}, 403)


def alpaca_bars(server: Loopback, request: Request) -> Any:
    if denied := alpaca_denied(request):
        return denied
    args = request.args
    assert "feed" not in args
    assert args["timeframe"] == "1Day"
    symbols = args["symbols"].split(",")
    invalid = [symbol for symbol in symbols if symbol.startswith("0")]
    if invalid:
        return as_json({"message": f"invalid symbol: {invalid[0]}"}, 400)
    start, end = day_of(args["start"]), day_of(args["end"])
    close = {"raw": "close", "all": "adj_close"}[args["adjustment"]]
    flat = server.truth.once(
        f"alpaca {args['symbols']} {start} {end} {close}",
        lambda: [
            (symbol, alpaca_bar(row, close))
            for symbol in sorted(symbols)
            for row in rows(server, "alpaca", symbol, start, end)
            if row[close] is not None or close == "close"
        ],
    )
    first = int(args.get("page_token", 0))
    size = min(int(args["limit"]), server.page or 10_000)
    page: dict[str, list[Any]] = {}
    for symbol, bar in flat[first : first + size]:
        page.setdefault(symbol, []).append(bar)
    return {"bars": page, "next_page_token": str(first + size) if first + size < len(flat) else None}


def alpaca_bar(row: Mapping[str, Any], close: str) -> dict[str, Any]:
    moment = midnight(row["date"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    prices = {"o": row["open"], "h": row["high"], "l": row["low"], "c": row[close]}
    return {"t": moment, **prices, "v": row["volume"], "n": 17, "vw": row["close"]}


def alpaca_actions(server: Loopback, request: Request) -> Any:
    if denied := alpaca_denied(request):
        return denied
    args = request.args
    acted = events(server, day_of(args["start"]), day_of(args["end"]), args["symbols"].split(","))
    flat: list[tuple[str, dict[str, Any]]] = []
    for row in acted:
        common = {"symbol": row["symbol"], "cusip": "000000000"}
        days = {"ex_date": str(row["date"]), "process_date": str(row["date"])}
        if row["split"] != 1:
            kind = "forward_splits" if row["split"] > 1 else "reverse_splits"
            flat.append((kind, common | {"new_rate": row["split"], "old_rate": 1} | days))
        if row["dividend"]:
            flat.append(("cash_dividends", common | {"rate": row["dividend"], "special": False} | days))
    first = int(args.get("page_token", 0))
    size = min(int(args["limit"]), server.page or 1_000)
    page: dict[str, list[Any]] = {}
    for kind, event in flat[first : first + size]:
        page.setdefault(kind, []).append(event)
    return {"corporate_actions": page, "next_page_token": str(first + size) if first + size < len(flat) else None}


# ── Massive ────────────────────────────────────────────────────────────────────────────────────────────────────────


def massive_denied(request: Request) -> Response | None:
    if request.headers.get("Authorization") == f"Bearer {KEY}":
        return None
    return as_json({"status": "ERROR", "request_id": "1", "error": "Unknown API Key"}, 401)


def massive_page(server: Loopback, request: Request, found: list[Any], path: str) -> Any:
    first = int(request.args.get("cursor", 0))
    size = min(int(request.args.get("limit", 50_000)), server.page or 50_000)
    answer: dict[str, Any] = {"status": "OK", "request_id": "1", "results": found[first : first + size]}
    if first + size < len(found):
        kept = {name: value for name, value in request.args.items() if name not in {"limit", "cursor"}}
        answer["next_url"] = f"{server.url}{path}?{urlencode(kept | {'cursor': first + size})}"
    return answer


def massive_bars(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    parts = request.path.split("/")
    symbol, start, end = parts[4], day_of(parts[8]), day_of(parts[9])
    if "cursor" not in request.args:
        assert request.args["adjusted"] == "false"
    found = [massive_bar(row) for row in rows(server, "massive", symbol, start, end)]
    if not found:
        return {"ticker": symbol, "queryCount": 0, "resultsCount": 0, "adjusted": False, "status": "OK"}
    # As the vendor does, the next page's path has its range in ms.
    ms = [int(midnight(day).timestamp() * 1000) for day in (start, end)]
    path = f"/v2/aggs/ticker/{symbol}/range/1/day/{ms[0]}/{ms[1]}"
    return massive_page(server, request, found, path) | {"ticker": symbol, "adjusted": False}


def massive_bar(row: Mapping[str, Any]) -> dict[str, Any]:
    prices = {"o": row["open"], "h": row["high"], "l": row["low"], "c": row["close"], "v": row["volume"]}
    return {**prices, "vw": row["close"], "t": int(midnight(row["date"]).timestamp() * 1000), "n": 17}


def massive_day(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    assert request.args["adjusted"] == "false"
    day = day_of(request.path.rsplit("/", 1)[1])
    bars = server.truth.basis("massive").bars.filter(pl.col("date") == day).sort("symbol").to_dicts()
    found = [{"T": row["symbol"], **massive_bar(row)} for row in bars]
    # The close of the session, not its beginning.
    found = [bar | {"t": bar["t"] + 16 * 3_600_000} for bar in found]
    return {"status": "OK", "resultsCount": len(found)} | ({"results": found} if found else {})


def massive_actions(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    args = request.args
    splits = request.path.endswith("/splits")
    name = "execution_date" if splits else "ex_dividend_date"
    tickers = args["ticker.any_of"].split(",") if "ticker.any_of" in args else None
    acted = events(server, day_of(args[f"{name}.gte"]), day_of(args[f"{name}.lte"]), tickers)
    found = [
        {"ticker": row["symbol"], name: str(row["date"]), "id": f"E{at}"}
        | (
            {"split_from": 1, "split_to": row["split"]}
            if splits
            else {"cash_amount": row["dividend"], "currency": "USD"}
        )
        for at, row in enumerate(acted)
        if (row["split"] != 1 if splits else row["dividend"])
    ]
    return massive_page(server, request, found, request.path)


def massive_tickers(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    args = request.args
    assert args["market"] == "stocks"
    day = day_of(args["date"]) if "date" in args else date.max
    lives = server.truth.bars.group_by("symbol").agg(first=pl.col("date").min(), last=pl.col("date").max())
    ends = max(lives["last"].to_list())
    listed = lives.filter(pl.col("first") <= day).sort("symbol").to_dicts()
    # A symbol whose bars end before the others' is delisted.
    gone = {row["symbol"] for row in listed if row["last"] < min(day, ends)}
    active = args["active"] == "true"
    found = [
        {"ticker": row["symbol"], "type": args["type"], "market": "stocks", "locale": "us", "active": active}
        | ({} if active else {"delisted_utc": f"{row['last']}T00:00:00Z"})
        for row in listed
        if (row["symbol"] not in gone) is active
    ]
    odd = [{"ticker": "ABRpD", "type": args["type"], "market": "stocks", "locale": "us", "active": True}]
    return massive_page(server, request, found + odd if active else found, request.path)


WIRES: dict[str, Wire] = {
    r"^/tiingo/daily/[^/]+/prices$": tiingo,
    r"^/api/(eod|div|splits|eod-bulk-last-day)/[^/]+$": eodhd,
    r"^/yahoo/[^/]+/v8/finance/chart/[^/]+$": yahoo,
    r"^/yahoo/(?!.*/v8/finance/chart/).*$": yahoo_other,
    r"^/v2/stocks/bars$": alpaca_bars,
    r"^/v1/corporate-actions$": alpaca_actions,
    r"^/v2/aggs/ticker/[^/]+/range/1/day/[^/]+/[^/]+$": massive_bars,
    r"^/v2/aggs/grouped/locale/us/market/stocks/[^/]+$": massive_day,
    r"^/stocks/v1/(splits|dividends)$": massive_actions,
    r"^/v3/reference/tickers$": massive_tickers,
}
