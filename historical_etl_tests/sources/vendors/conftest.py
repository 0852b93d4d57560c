"""A server for each test, a clock that nobody waits for, and no key from outside."""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

# When first imported it adds a warning filter; inside a test that would go before ours.
import yfinance  # noqa: F401  # pyright: ignore[reportUnusedImport]
from pytest_httpserver import HTTPServer

from historical_etl.sources.base import ACTIONS, FetchRequest, FetchResult
from historical_etl.vendor_settings import VENDOR_GROUPS
from historical_etl_tests.scenario import SHORT
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, VENDORS, Clockwork, Loopback, Truth, fixed_clock

#: The real keys, for the live tests; taken now, since no other test may see them.
KEYS = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
START, END = date(2012, 10, 15), date(2013, 2, 5)
#: On the first session of a year a split, in between a dividend of another symbol, then one after the split.
ACTED = pl.DataFrame(
    [
        ("BRK.B", date(2012, 11, 12), 1.0, 0.25),
        ("SPLT", date(2012, 12, 3), 1.0, 0.5),
        ("SPLT", date(2013, 1, 2), 2.0, 0.0),
        ("SPLT", date(2013, 2, 1), 1.0, 0.125),
    ],
    schema=ACTIONS,
    orient="row",
)
TRUTH = Truth(SHORT.bars(), ACTED).adjusted()
SYMBOLS = ("BRK.B", "GONE", "HALT", "SPLT")


def with_keys() -> list[str]:
    """The vendors that can be asked for real."""
    return [name for name, group in VENDOR_GROUPS.items() if set(group.variables) <= set(KEYS)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the live tests out, also with `-m 'not slow'`: only `-m live` asks a vendor."""
    if str(config.option.markexpr).strip() == "live":
        return
    live = [item for item in items if item.get_closest_marker("live")]
    if live:
        config.hook.pytest_deselected(items=live)
        items[:] = [item for item in items if item not in live]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if str(config.option.markexpr).strip() != "live":
        return
    for name in sorted(set(VENDOR_GROUPS) - set(with_keys())):
        missing = " and ".join(key for key in VENDOR_GROUPS[name].variables if key not in KEYS)
        terminalreporter.write_line(f"{name} was not asked: {missing} not in the environment")


@pytest.fixture(autouse=True)
def _quiet_and_keyless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no .env
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for noisy in ("werkzeug", "filelock", "peewee"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def listening() -> Iterator[list[HTTPServer]]:
    """Servers that are free. They are kept, since one takes half a second to stop."""
    free: list[HTTPServer] = []
    yield free
    for server in free:
        server.stop()


@pytest.fixture
def serve(listening: list[HTTPServer]) -> Iterator[Callable[..., Loopback]]:
    """Start a server with a truth and a fault schedule."""
    used: list[tuple[Loopback, HTTPServer]] = []

    def start(truth: Truth = TRUTH, **settings: Any) -> Loopback:
        http = listening.pop() if listening else HTTPServer(threaded=True)
        used.append((Loopback(truth, http=http, **settings), http))
        return used[-1][0]

    yield start
    for server, http in used:
        server.close()
        listening.append(http)


@pytest.fixture
def clock() -> Clockwork:
    return fixed_clock()


@pytest.fixture
def ask(tmp_path: Path, clock: Clockwork) -> Iterator[Callable[..., FetchResult]]:
    """Fetch from a server by a vendor's own client; `settings` are the vendor's."""
    sources = []

    def fetch(
        server: Loopback,
        vendor: str,
        symbols: tuple[str, ...] = SYMBOLS,
        start: date = START,
        end: date = END,
        **settings,
    ) -> FetchResult:
        source = server.source(vendor, state_folder=tmp_path / "turns", pace=clock.pace, **settings)
        sources.append(source)
        return source.fetch(FetchRequest(symbols, start, end))

    yield fetch
    for source in sources:
        source.close()
