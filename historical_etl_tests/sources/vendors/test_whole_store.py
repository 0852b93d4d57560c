"""A whole store from each vendor: a backfill and daily increments, while requests fail, end in the truth of the server.

`python -m historical_etl_tests.sources.vendors.whole_store` runs it at full size and prints what was asked.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ProviderError
from historical_etl.etl.fetch.year_range import request_hash
from historical_etl.store.layout import Layout
from historical_etl.store.staging import Staging
from historical_etl_tests.proofs.simulation.market import with_returns
from historical_etl_tests.scenario import KEYS, daily_bytes, sessions, store, stored, tree
from historical_etl_tests.sources.vendors.loopback import (
    ENVIRONMENT,
    KEY,
    SECRET,
    VENDORS,
    Fault,
    Faults,
    Loopback,
    Truth,
)
from historical_etl_tests.sources.vendors.whole_store import check_events, filled, halted_on_events, market_of, truth_of

FIRST, BACKFILLED, LAST = date(2016, 6, 1), date(2017, 12, 21), date(2017, 12, 29)
MARKET = market_of(symbols=6, first=FIRST, last=LAST)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_store_equals_what_the_server_holds(root, tmp_path, vendor):
    counts = filled(MARKET, vendor, root, tmp_path, backfilled=BACKFILLED, share=0.2)
    assert counts.repeated == {}, "no unit of the backfill is asked for again once it was served"
    assert counts.backfill_served <= counts.units, "one unit for each symbol, however many years"


def test_a_backfill_by_symbol_asks_for_the_events_of_all_at_once(root, tmp_path):
    """Massive's: the bars of each symbol, two requests for events, and one that tells an edge from a first bar."""
    counts = filled(MARKET, "massive", root, tmp_path, backfilled=BACKFILLED, share=0.0)
    assert counts.backfill_asked == len(MARKET.names) + 2 + 1


def test_a_symbol_that_failed_is_asked_for_again_with_its_events(root, tmp_path):
    truth = truth_of(MARKET).until(BACKFILLED)
    late = next(symbol for symbol in reversed(truth.symbols) if symbol in set(truth.actions["symbol"]))
    with Loopback(truth, faults=lambda unit: Fault.ERROR if f"/ticker/{late}/" in unit else None) as server:
        etl = store(root, server.source("massive", state_folder=tmp_path, attempts=1), BACKFILLED)
        assert etl.run_full_etl(truth.symbols, FIRST, BACKFILLED).outcomes[late] == "error"
        server.faults = Faults()
        server.asked.clear()
        assert etl.run_full_etl(truth.symbols, FIRST, BACKFILLED).complete
        kinds = [unit.split(" ")[0].rsplit("/", 1)[1] for unit in server.asked]
        assert kinds == [str(BACKFILLED), "splits", "dividends"]
        check_events(etl, truth, "massive")


@pytest.mark.parametrize("vendor", ["tiingo", "yfinance"])
def test_events_of_symbols_that_were_halted_then_are_as_they_happened(root, tmp_path, vendor):
    """Yahoo names them on their days; Tiingo has no row to name them in, and its adjusted close shows them."""
    counts = filled(MARKET, vendor, root, tmp_path, backfilled=BACKFILLED, share=0.2, change=halted_on_events)
    assert counts.repeated == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_nothing_that_a_run_leaves_holds_a_key(root, tmp_path, vendor, caplog):
    """Data, manifests, ledgers, staging, quarantine, catalog, notes of failures, the limiter's state, and the log."""
    truth = truth_of(MARKET).until(BACKFILLED)
    caplog.set_level("DEBUG")
    with Loopback(truth, faults=Faults(0.5, streak=10_000), retry_after="0") as server:
        etl = store(root, server.source(vendor, state_folder=tmp_path, attempts=1), BACKFILLED)
        with suppress(ProviderError):
            etl.run_full_etl(truth.symbols, FIRST, BACKFILLED)
        server.faults = Faults()
        store(root, server.source(vendor, state_folder=tmp_path), BACKFILLED).run_full_etl(
            truth.symbols, FIRST, date(2017, 12, 20)
        )
    keys = [key.encode() for secret in (KEY, SECRET) for key in (secret, quote(secret, safe=""))]
    left = [path for folder in (root, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert len(left) > 10
    assert [path.name for path in left for key in keys if key in path.read_bytes()] == []
    assert not any(key.decode() in caplog.text for key in keys)


def test_what_was_staged_is_cleared_once_it_is_committed(root, tmp_path):
    filled(MARKET, "tiingo", root, tmp_path, backfilled=BACKFILLED, share=0.0)
    assert not any(Layout(root).staging.glob("*/*"))


def test_one_symbol_that_fails_is_all_that_is_asked_again(root, tmp_path):
    """The others are committed, and stay staged for the same request."""
    truth = truth_of(MARKET).until(BACKFILLED)
    broken = "X" + truth.symbols[0]

    def failing(unit: str):
        return Faults(1.0, streak=10_000)(unit) if f"/{truth.symbols[0]}/" in unit else None

    with Loopback(truth, faults=failing) as server:
        source = server.source("tiingo", state_folder=tmp_path, attempts=1)
        etl = store(root, source, BACKFILLED)
        result = etl.run_full_etl(truth.symbols, FIRST, BACKFILLED)
        assert result.outcomes[truth.symbols[0]] in ("error", "rate_limited"), broken
        assert result.symbols_processed == len(truth.symbols) - 1
        server.faults = Faults()
        server.asked.clear()
        etl.run_full_etl(truth.symbols, FIRST, BACKFILLED)
        assert [unit.split("/")[3] for unit in server.asked] == [truth.symbols[0]]
    assert_frame_equal(stored(etl), with_returns(truth.expected("tiingo").drop("ret")).sort(KEYS), check_exact=True)


def test_another_request_never_uses_what_was_staged_for_one(root, tmp_path):
    truth = truth_of(MARKET).until(BACKFILLED)
    with Loopback(truth) as server:
        etl = store(root, server.source("tiingo", state_folder=tmp_path), BACKFILLED)
        info = etl.source.info
        names = {
            request_hash(truth.symbols, FIRST, BACKFILLED, info),
            request_hash(truth.symbols[1:], FIRST, BACKFILLED, info),
            request_hash(truth.symbols, FIRST, date(2017, 12, 20), info),
        }
        assert len({Staging(etl.layout, name).folder for name in names}) == 3


BACKFILL = """
import os
import sys
from datetime import date
from pathlib import Path
from historical_etl_tests.scenario import store
from historical_etl.settings import Settings
from historical_etl.sources.vendors.tiingo import TiingoSource
from historical_etl.vendor_settings import TiingoSettings
root, url, state, *symbols = sys.argv[1:]
key = os.environ["TIINGO_API_KEY"]
settings = TiingoSettings(api_key=key, base_url=url, rate="60/second", attempts=3, breaker_failures=1000)
etl = store(Path(root), TiingoSource(settings, state_folder=Path(state)), date(2017, 12, 21))
etl.run_full_etl(symbols, date(2016, 6, 1), date(2017, 12, 21))
"""


@pytest.mark.crash
def test_killed_ten_times_it_asks_for_nothing_that_was_staged(root, tmp_path):
    market = market_of(symbols=40, first=FIRST, last=LAST)
    truth = truth_of(market).until(BACKFILLED)
    with Loopback(truth) as server:
        command = [sys.executable, "-c", BACKFILL, str(root), server.url, str(tmp_path / "state"), *truth.symbols]
        layout = Layout(root)
        kills, before, finished = 0, dict[str, int](), False
        while kills < 10 and not finished:
            child = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.DEVNULL)
            goal = len(staged(layout)) + 3
            deadline = time.monotonic() + 60
            while child.poll() is None and len(staged(layout)) < goal and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            finished = child.wait() == 0  # on a slow machine it may be faster than we are
            if not finished:
                kills += 1
                before = {symbol: served(server, symbol) for symbol in staged(layout)}
                assert all(count >= 1 for count in before.values())
        if not finished:
            last = subprocess.run(
                command, check=False, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE, text=True
            )
            assert last.returncode == 0, last.stderr
        again = {symbol for symbol, count in before.items() if served(server, symbol) > count}
        assert kills >= 8
        assert again == set(), "staged, and asked for again"
    etl = store(root, object(), BACKFILLED)
    assert_frame_equal(stored(etl), with_returns(truth.expected("tiingo").drop("ret")).sort(KEYS), check_exact=True)
    undisturbed = undisturbed_bytes(truth, tmp_path)
    assert daily_bytes(etl) == undisturbed
    assert not any("staging" in name for name in tree(root))


def staged(layout: Layout) -> set[str]:
    return {
        symbol
        for folder in layout.staging.glob("*")
        for unit in Staging(layout, folder.name).units()
        for symbol in unit.symbols
    }


def served(server: Loopback, symbol: str) -> int:
    return sum(count for unit, count in server.served.items() if f"/{symbol}/" in unit)


def undisturbed_bytes(truth: Truth, tmp_path: Path) -> dict[str, bytes]:
    with Loopback(truth) as server:
        etl = store(tmp_path / "undisturbed", server.source("tiingo", state_folder=tmp_path / "other"), BACKFILLED)
        etl.run_full_etl(truth.symbols, FIRST, BACKFILLED)
        return daily_bytes(etl)


def test_sessions_are_those_of_the_exchange():
    assert pl.Series(sessions(BACKFILLED, LAST)).len() == 6
