"""A large backfill from a vendor over loopback: peak memory, and the share of the time that is the vendor's own pace.

    python -m benchmarks.vendor_backfill [--symbols 5000] [--years 20] [--rate 25]

The server answers in Tiingo's wire format and runs in a process of its own, so that its work is not counted as ours;
the client is the real one. At its stated rate the server needs symbols / rate seconds, however fast anybody is.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from historical_etl import HistoricalETL, Settings, get_calendar
from historical_etl.sources.vendors.tiingo import TiingoSource
from historical_etl.vendor_settings import TiingoSettings

__all__ = ["main"]


def main() -> None:
    """Run it and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vendor_backfill", description=__doc__)
    parser.add_argument("--symbols", type=int, default=5000)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--rate", type=int, default=25, help="requests a second that the vendor allows")
    options = parser.parse_args()
    first, last = date(2024 - options.years, 1, 1), date(2023, 12, 29)
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs, first, last), daemon=True)
    server.start()
    port: int = ours.recv()
    names = [f"S{number:04d}" for number in range(options.symbols)]
    with tempfile.TemporaryDirectory() as folder:
        given = {"api_key": "benchmark", "base_url": f"http://127.0.0.1:{port}", "daily_budget": None}
        settings = TiingoSettings.model_validate({**given, "rate": f"{options.rate}/second"})
        source = TiingoSource(settings, state_folder=Path(folder) / "state")
        etl = HistoricalETL.open(
            Path(folder) / "data",
            source,
            clock=lambda: datetime(2023, 12, 30, tzinfo=UTC),
            settings=Settings(_env_file=None),  # pyright: ignore[reportCallIssue]
        )
        fetched: list[float] = []
        began = time.perf_counter()
        result = etl.run_full_etl(
            names,
            first,
            last,
            progress=lambda event: fetched.append(time.perf_counter()) if event.step == "fetching" else None,
        )
        seconds = time.perf_counter() - began
    server.terminate()
    pace = options.symbols / options.rate
    facts = {
        "symbols": options.symbols,
        "years": options.years,
        "rows": result.total_rows,
        "requests": result.requests,
        "seconds": round(seconds, 1),
        "fetch_seconds": round(fetched[-1] - began, 1),
        "vendor_pace_seconds": round(pace, 1),
        "share_of_vendor_pace": round(pace / seconds, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(facts))


def _serve(pipe: Connection, first: date, last: date) -> None:
    days = get_calendar("XNYS").between(first, last).to_list()
    draw = random.Random(1)
    rows: list[dict[str, object]] = []
    price = 50.0
    for day in days:
        price = round(price * (1 + draw.gauss(0.0003, 0.01)), 2)
        bar = {"open": price, "high": round(price * 1.01, 2), "low": round(price * 0.99, 2), "close": price}
        volume = {"volume": draw.randrange(100_000, 9_000_000)}
        adjusted = {f"adj{name.capitalize()}": value for name, value in {**bar, **volume}.items()}
        actions = {"divCash": 0.0, "splitFactor": 1.0}
        rows.append({"date": f"{day}T00:00:00.000Z", **bar, **volume, **adjusted, **actions})
    body = json.dumps(rows).encode()  # one history for all symbols: only its size matters

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Nothing: a line for each request would be most of the output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    pipe.send(server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
