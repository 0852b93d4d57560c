"""What Alpaca answers; see `alpaca.md` beside this folder for each source."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from werkzeug import Request, Response

from historical_etl_tests.sources.vendors.loopback import KEY, SECRET, Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import Wire, day_of, events, midnight, rows


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


WIRES: dict[str, Wire] = {
    r"^/v2/stocks/bars$": alpaca_bars,
    r"^/v1/corporate-actions$": alpaca_actions,
}
