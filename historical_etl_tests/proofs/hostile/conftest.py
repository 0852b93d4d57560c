"""Nothing of the outside is seen: no key, no `.env`, no state folder of a user."""

import logging

import pytest

# When first imported it adds a warning filter; inside a test that would go before ours.
import yfinance  # noqa: F401  # pyright: ignore[reportUnusedImport]

from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True, scope="session")
def _quiet():
    for noisy in ("werkzeug", "filelock", "peewee", "yfinance"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
