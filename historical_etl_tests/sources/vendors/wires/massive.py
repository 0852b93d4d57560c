"""What Massive answers; see `massive.md` beside this folder for each source."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlencode

import polars as pl
from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import Wire, day_of, events, midnight, rows


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
    r"^/v2/aggs/ticker/[^/]+/range/1/day/[^/]+/[^/]+$": massive_bars,
    r"^/v2/aggs/grouped/locale/us/market/stocks/[^/]+$": massive_day,
    r"^/stocks/v1/(splits|dividends)$": massive_actions,
    r"^/v3/reference/tickers$": massive_tickers,
}
