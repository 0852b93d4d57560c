"""What Massive answers; see `massive.md` beside this folder for each source.

`Loopback.plan` is "" for a paid plan that gives all, or "basic" for the free one: two years, cut without a word, and
never the running day. No public source tells of a range across an edge what becomes of it, so words are added:
"strict" refuses a range that begins before the two years, "lenient" leaves the running day out of a range. "eventless"
and "dayless" are plans without splits and dividends, and without whole market days.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import polars as pl
from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import NEW_YORK, Wire, day_of, events, known, midnight, rows

TOO_OLD = "Your plan doesn't include this data timeframe"
NOT_OVER = "Attempted to request today's data before end of day"
NOT_ENTITLED = "You are not entitled to this data"


def massive_denied(request: Request) -> Response | None:
    if request.headers.get("Authorization") == f"Bearer {KEY}":
        return None
    return as_json(
        {"status": "ERROR", "request_id": "6a7e466379af0a71039d60cc78e72282", "error": "Unknown API Key"}, 401
    )


def massive_forbids(message: str) -> Response:
    words = f"{message}. Please upgrade your plan at https://massive.com/pricing"
    return as_json(
        {"status": "NOT_AUTHORIZED", "request_id": "2f9ff5a04a0a4f1a9f2e0c1d2b3a4c5d", "message": words}, 403
    )


def today_of(server: Loopback) -> date:
    return (server.now or datetime.now(UTC)).astimezone(NEW_YORK).date()


def edge_of(server: Loopback) -> date:
    """The first day that the plan gives."""
    today = today_of(server)
    leap = (today.month, today.day) == (2, 29)
    return today.replace(year=today.year - 2, day=28 if leap else today.day) if "basic" in server.plan else date.min


def withheld(server: Loopback, start: date, end: date) -> Response | None:
    """What the plan says to a range of days."""
    today = today_of(server)
    if end < edge_of(server) or start > today or ("strict" in server.plan and start < edge_of(server)):
        return massive_forbids(TOO_OLD)
    if "basic" in server.plan and end >= today and ("lenient" not in server.plan or start >= today):
        return massive_forbids(NOT_OVER)
    return None


def given(server: Loopback, day: date) -> bool:
    return edge_of(server) <= day and ("basic" not in server.plan or day < today_of(server))


def massive_page(server: Loopback, request: Request, found: list[Any], path: str, most: int) -> Any:
    """A page of rows; what was asked for is in the cursor, but that a limit beside it counts."""
    query = dict(request.args) | held_in(request.args.get("cursor", ""))
    first = int(query.pop("page_marker", "0"))
    size = min(int(request.args.get("limit") or query.get("limit", 100)), most, server.page or most)
    answer: dict[str, Any] = {"status": "OK", "request_id": "1", "results": found[first : first + size]}
    if first + size < len(found):
        query.pop("cursor", None)
        cursor = cursor_of(sorted(query.items() | {("page_marker", str(first + size))}))
        answer["next_url"] = f"{server.url}{path}?{urlencode({'cursor': cursor})}"
    return answer


def cursor_of(query: Any) -> str:
    return b64encode(urlencode(query).encode()).decode()


def held_in(cursor: str) -> dict[str, str]:
    return dict(parse_qsl(b64decode(cursor).decode()))


def massive_bars(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    parts = request.path.split("/")
    ticker, start, end = parts[4], day_of(parts[8]), day_of(parts[9])
    if not known(server, ours(ticker)) and any(theirs(name).upper() == ticker for name in server.truth.symbols):
        return Response("404 page not found", 404, content_type="text/plain")
    if refused := withheld(server, start, end):
        return refused
    raw = request.args.get("adjusted") == "false"
    factors = {} if raw else dict(server.truth.split_factors().select(key_of(), "factor").iter_rows())
    found = [
        massive_bar(row, factors.get(f"{row['symbol']} {row['date']}", 1.0))
        for row in rows(server, "massive", ours(ticker), start, end)
        if given(server, row["date"])
    ]
    query = dict(request.args) | held_in(request.args.get("cursor", ""))
    size = min(int(query.get("limit", 5_000)), 50_000, server.page or 50_000)
    count = len(found[:size])
    answer: dict[str, Any] = {"ticker": ticker, "queryCount": count, "resultsCount": count, "adjusted": not raw}
    answer |= {"status": "OK", "request_id": "1", "count": count} | ({"results": found[:size]} if found else {})
    if len(found) > size:
        # The next page begins in the path, the cursor holds no place; that prices are raw is in neither.
        path = f"/v2/aggs/ticker/{ticker}/range/1/day/{found[size]['t']}/{parts[9]}"
        cursor = cursor_of({"limit": query.get("limit", "5000"), "sort": "asc"})
        answer["next_url"] = f"{server.url}{path}?{urlencode({'cursor': cursor})}"
    return answer


def key_of() -> pl.Expr:
    return pl.format("{} {}", "symbol", "date").alias("key")


def massive_bar(row: Mapping[str, Any], factor: float = 1.0) -> dict[str, Any]:
    prices = {
        name: row[of] and row[of] / factor for name, of in zip("ohlc", ("open", "high", "low", "close"), strict=True)
    }
    volume = row["volume"] and row["volume"] * factor
    return {**prices, "v": volume, "vw": row["close"], "t": int(midnight(row["date"]).timestamp() * 1000), "n": 17}


def massive_day(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    if "dayless" in server.plan:
        return massive_forbids(NOT_ENTITLED)
    day = day_of(request.path.rsplit("/", 1)[1])
    if refused := withheld(server, day, day):
        return refused
    assert request.args["adjusted"] == "false"
    bars = server.truth.basis("massive").bars.filter(pl.col("date") == day).sort("symbol").to_dicts()
    if request.args.get("include_otc") != "true":
        bars = [row for row in bars if not server.facts.get(row["symbol"], {}).get("otc")]
    # The close of the session, not its beginning.
    found = [
        {**bar, "t": bar["t"] + 16 * 3_600_000, "T": theirs(row["symbol"])}
        for row in bars
        for bar in [massive_bar(row)]
    ]
    found += [dict(row) for row in server.strange.get("day", ())]
    answer = {"queryCount": len(found), "resultsCount": len(found), "adjusted": False, "status": "OK"}
    return answer | ({"results": found} if found else {})


def massive_actions(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    if "eventless" in server.plan:
        return massive_forbids(NOT_ENTITLED)
    args = dict(request.args) | held_in(request.args.get("cursor", ""))
    kind = request.path.rsplit("/", 1)[1]
    name = "execution_date" if kind == "splits" else "ex_dividend_date"
    tickers = args["ticker.any_of"].split(",") if "ticker.any_of" in args else None
    start, end = day_of(args[f"{name}.gte"]), day_of(args[f"{name}.lte"])
    acted = [row for row in events(server, start, end) if is_entered(server, row)]
    found = [massive_event(row, name, at) for at, row in enumerate(acted)]
    found = [row for row in [*found, *server.strange.get(kind, ())] if "cash_amount" in row or kind == "splits"]
    found = [row for row in found if (tickers is None or row["ticker"] in tickers) and name in row]
    assert args["sort"] == f"{name}.asc"
    return massive_page(server, request, sorted(found, key=lambda row: row[name]), request.path, 5_000)


def is_entered(server: Loopback, row: Mapping[str, Any]) -> bool:
    """Events are known before their day, but for dividends that are entered late."""
    late = server.delays(row["symbol"], row["date"]) if server.delays and row["dividend"] else 0
    return late <= 0 or row["date"] + timedelta(days=late) <= today_of(server)


def massive_event(row: Mapping[str, Any], name: str, at: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": f"E{at}", "ticker": theirs(row["symbol"])}
    if row["split"] != 1 and name == "execution_date":
        kind = "forward_split" if row["split"] > 1 else "reverse_split"
        return facts | {name: str(row["date"]), "split_from": 1, "split_to": row["split"], "adjustment_type": kind}
    if row["dividend"] and name == "ex_dividend_date":
        cash = {"cash_amount": row["dividend"], "currency": "USD", "distribution_type": "recurring", "frequency": 4}
        return facts | {name: str(row["date"])} | cash
    return facts


def massive_tickers(server: Loopback, request: Request) -> Any:
    if denied := massive_denied(request):
        return denied
    args = dict(request.args) | held_in(request.args.get("cursor", ""))
    day = day_of(args["date"]) if "date" in args else date.max
    if day < edge_of(server):
        return massive_forbids(TOO_OLD)
    assert args["market"] == "stocks"
    lives = server.truth.bars.group_by("symbol").agg(first=pl.col("date").min(), last=pl.col("date").max())
    ends = max(lives["last"].to_list())
    listed = lives.filter(pl.col("first") <= day).sort("symbol").to_dicts()
    # A symbol whose bars end before the others' is delisted.
    gone = {row["symbol"] for row in listed if row["last"] < min(day, ends)}
    active = args.get("active", "true") == "true"
    found = [
        {
            "ticker": theirs(row["symbol"]),
            "name": row["symbol"],
            "market": "stocks",
            "locale": "us",
            "type": args["type"],
            "active": active,
            "currency_name": "usd",
            **({} if active else {"delisted_utc": f"{row['last']}T00:00:00Z"}),
        }
        for row in listed
        if (row["symbol"] not in gone) is active
    ]
    found += [dict(row) for row in server.strange.get("tickers", ()) if active]
    return massive_page(server, request, found, request.path, 1_000)


def theirs(symbol: str) -> str:
    """Preferred shares have a small p."""
    root, dot, series = symbol.partition(".PR")
    return f"{root}p{series}" if dot and len(series) <= 1 else symbol


def ours(ticker: str) -> str:
    root, small, series = ticker.partition("p")
    return f"{root}.PR{series}" if small else ticker


WIRES: dict[str, Wire] = {
    r"^/v2/aggs/ticker/[^/]+/range/1/day/[^/]+/[^/]+$": massive_bars,
    r"^/v2/aggs/grouped/locale/us/market/stocks/[^/]+$": massive_day,
    r"^/stocks/v1/(splits|dividends)$": massive_actions,
    r"^/v3/reference/tickers$": massive_tickers,
}
