"""What Alpaca answers; see `alpaca.md` beside this folder for each source."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zlib import crc32

from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, SECRET, Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import NEW_YORK, Wire, midnight

#: An event that is announced is given so many days before its ex-date.
ANNOUNCED = timedelta(days=20)
RECENT = timedelta(minutes=15)
#: The share of the volume that IEX has.
IEX = 0.025
#: A bar or event with what it is sorted and found by.
Sorted = tuple[str, str, dict[str, Any]]


def alpaca_denied(request: Request) -> Response | None:
    keys = request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY")
    if keys == (KEY, SECRET):
        return None
    return as_json({"message": "forbidden."}, 403) if all(keys) else as_json({"message": "unauthorized"}, 401)


# ── bars ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def alpaca_bars(server: Loopback, request: Request) -> Any:
    if denied := alpaca_denied(request):
        return denied
    args = request.args
    assert args["timeframe"] == "1Day"
    symbols = sorted(set(args["symbols"].split(",")))
    invalid = [symbol for symbol in symbols if symbol.startswith("0")]
    if invalid:
        return as_json({"message": f"invalid symbol: {invalid[0]}"}, 400)
    start, end = moment_of(args["start"]), moment_of(args["end"])
    share = 1.0
    if server.plan == "free" and server.now is not None and end > server.now - RECENT:
        if args.get("feed") == "sip":
            return as_json({"message": "subscription does not permit querying recent SIP data"}, 403)
        share = IEX
    asof, adjustment = args.get("asof", ""), args.get("adjustment", "raw")
    close = {"raw": "close", "all": "adj_close"}[adjustment]
    flat = server.truth.once(
        f"alpaca {symbols} {start} {end} {asof} {close} {share}",
        lambda: [
            (symbol, bar["t"], bar)
            for symbol in symbols
            for row in named_rows(server, symbol, asof)
            if start <= midnight(row["date"]) <= end and (row[close] is not None or close == "close")
            for bar in [alpaca_bar(row, close, share)]
        ],
    )
    found, token = turned(flat, args, server.page, most=10_000, usual=1_000, middle="D")
    bars: dict[str, list[Any]] = {}
    for symbol, _, bar in found:
        bars.setdefault(symbol, []).append(bar)
    return {"bars": bars or None, "next_page_token": token}


def alpaca_bar(row: Mapping[str, Any], close: str, share: float) -> dict[str, Any]:
    prices = {"o": row["open"], "h": row["high"], "l": row["low"], "c": row[close]}
    volume = row["volume"] if share == 1 or row["volume"] is None else int(row["volume"] * share)
    moment = midnight(row["date"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"t": moment, **prices, "v": volume, "n": 17, "vw": row["close"]}


def named_rows(server: Loopback, symbol: str, asof: str) -> list[dict[str, Any]]:
    """The bars of a name: with `-` those that bore it, else all of the company that bore it on a day."""
    bore = [(symbol, date.min, date.max)]
    if asof != "-":
        day = date.fromisoformat(asof) if asof else today(server)
        spells = server.truth.spells
        company = next((s.company for s in spells if s.ticker == symbol and s.first <= day <= s.last), None)
        bore = [(s.ticker, s.first, s.last) for s in spells if s.company == company] or bore
    found = [
        row
        for ticker, first, last in bore
        for row in server.truth.rows("alpaca", ticker)
        if first <= row["date"] <= last
    ]
    return sorted(found, key=lambda row: row["date"])


# ── corporate actions ──────────────────────────────────────────────────────────────────────────────────────────────


def alpaca_actions(server: Loopback, request: Request) -> Any:
    if denied := alpaca_denied(request):
        return denied
    if server.plan == "no events":
        return as_json({"message": "forbidden."}, 403)
    args = request.args
    start, end = (date.fromisoformat(args.get(name) or str(today(server))) for name in ("start", "end"))
    symbols, types = set(args["symbols"].split(",")), set(args["types"].split(","))
    flat = sorted(
        (
            (*(event.get("cusip") or event["new_cusip"], event["process_date"]), {"kind": kind, **event})
            for kind, event in events_of(server)
            if event.get("symbol", event.get("source_symbol")) in symbols
            and kind.removesuffix("s") in types
            and str(start) <= event["process_date"] <= str(end)
        ),
        key=lambda one: (*one[:2], one[2]["id"]),
    )
    found, token = turned(flat, args, server.page, most=1_000, usual=100)
    kinds: dict[str, list[Any]] = {}
    for _, _, event in found:
        kinds.setdefault(event.pop("kind"), []).append(event)
    return {"corporate_actions": kinds, "next_page_token": token}


def events_of(server: Loopback) -> list[tuple[str, dict[str, Any]]]:
    """The events that are given by now, each with its kind."""
    day = today(server)
    strange = [(kind, dict(event)) for kind, rows in server.strange.items() for event in rows]
    return strange + [
        (kind, dict(event))
        for row in server.truth.events()
        for kind, event in alpaca_events(server, row)
        if event["process_date"] <= str(day) or (server.announces and row["date"] - ANNOUNCED <= day)
    ]


def alpaca_events(server: Loopback, row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    symbol, ex_date = row["symbol"], row["date"]
    cusip = f"{crc32(symbol.encode()):09d}"[:9]
    common = {"symbol": symbol, "ex_date": str(ex_date), "record_date": str(ex_date)}
    paid = str(processed(server, symbol, ex_date))
    found: list[tuple[str, dict[str, Any]]] = []
    if row["split"] != 1:
        ratio = Fraction(row["split"]).limit_denominator(10_000)
        rates = {"new_rate": ratio.numerator, "old_rate": ratio.denominator, "process_date": str(ex_date)}
        if ratio < 1:
            found.append(("reverse_splits", {**common, **rates, "old_cusip": cusip, "new_cusip": cusip}))
        elif ratio < Fraction(6, 5):
            rate = {"rate": row["split"] - 1, "process_date": paid, "payable_date": paid}
            found.append(("stock_dividends", {**common, **rate, "cusip": cusip}))
        else:
            found.append(("forward_splits", {**common, **rates, "cusip": cusip, "payable_date": str(ex_date)}))
    if row["dividend"]:
        facts = {"rate": row["dividend"], "special": False, "foreign": False, "sub_type": "", "currency": ""}
        found.append(
            ("cash_dividends", {**common, **facts, "cusip": cusip, "process_date": paid, "payable_date": paid})
        )
    return [(kind, {"id": f"{kind} {symbol} {ex_date}", **event}) for kind, event in found]


def processed(server: Loopback, symbol: str, ex_date: date) -> date:
    """The day on which a dividend is processed: that of its payment, usually 5 to 25 days after its ex-date."""
    delay = server.delays(symbol, ex_date) if server.delays else 5 + crc32(f"{symbol} {ex_date}".encode()) % 21
    return ex_date + timedelta(days=delay)


# ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def today(server: Loopback) -> date:
    return server.now.astimezone(NEW_YORK).date() if server.now else date(2100, 1, 1)


def moment_of(text: str) -> datetime:
    """A moment, or the midnight of a date in UTC: before the midnight of New York that a bar bears."""
    return datetime.fromisoformat(text) if "T" in text else datetime.combine(date.fromisoformat(text), time(), UTC)


def turned(
    flat: Sequence[Sorted], args: Mapping[str, str], page: int | None, *, most: int, usual: int, middle: str = ""
) -> tuple[Sequence[Sorted], str | None]:
    """A page, and the token of the next one. A page that is full has one, also where nothing follows."""
    size = min(int(args.get("limit", usual)), most, page or most)
    first = int(b64decode(args.get("page_token", "")).decode().rpartition("|")[2] or 0)
    found = flat[first : first + size]
    if len(found) < size:
        return found, None
    name, when, _ = found[-1]
    parts = [name, middle, when, str(first + size)] if middle else [name, when, str(first + size)]
    return found, b64encode("|".join(parts).encode()).decode()


WIRES: dict[str, Wire] = {
    r"^/v2/stocks/bars$": alpaca_bars,
    r"^/v1/corporate-actions$": alpaca_actions,
}
