"""What Tiingo answers; see `tiingo.md` beside this folder for each source."""

from typing import Any

from werkzeug import Request

from historical_etl_tests.sources.vendors.loopback import KEY, Loopback, as_json
from historical_etl_tests.sources.vendors.wires.common import Wire, day_of, events, known, rows


def tiingo(server: Loopback, request: Request) -> Any:
    if "Authorization" not in request.headers:
        return as_json({"detail": "Please supply a token"}, 403)
    if request.headers["Authorization"] != f"Token {KEY}":
        return as_json({"detail": "Invalid token."}, 403)
    ticker = request.path.split("/")[3]
    symbol = ticker if known(server, ticker) else ticker.replace("-", ".")
    if not known(server, symbol):
        return as_json({"detail": f"Error: Ticker '{ticker}' not found"}, 404)
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


WIRES: dict[str, Wire] = {
    r"^/tiingo/daily/[^/]+/prices$": tiingo,
}
