"""What the wire formats have in common: days, and which rows and events of the truth are asked for."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from werkzeug import Request

from historical_etl_tests.sources.vendors.loopback import Loopback

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
