"""Massive's splits and dividends: two requests bring those of a hundred tickers, also where bars come one by one."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from historical_etl.clock import Clock
from historical_etl.sources.base import FOREIGN
from historical_etl.sources.vendors.event_rows import Mark, VendorEvent, actions_frame
from historical_etl.sources.vendors.frames import VendorRow
from historical_etl.sources.vendors.massive_client import MassiveClient

__all__ = ["MOST_TICKERS", "MassiveEvents", "NamedEvents"]

#: Tickers of one request: its address must not grow too long.
MOST_TICKERS: Final = 100
_CURRENCY, _SPLITS = "USD", "splits"
#: So long an answer serves the tickers that come after: their bars are asked for within minutes.
_FRESH: Final = timedelta(hours=1)
#: Answers that are kept: threads at work may stand in two groups.
_MOST_CACHED: Final = 2


@dataclass(frozen=True)
class NamedEvents:
    """Splits and dividends, dividends in other currencies, the notes on them, and the first requested day."""

    actions: pl.DataFrame
    foreign: pl.DataFrame
    notes: tuple[str, ...]
    since: date


@dataclass(frozen=True)
class _Answer:
    """Rows of some tickers as fetched, and when they were asked for."""

    asked: datetime
    splits: Sequence[VendorRow]
    dividends: Sequence[VendorRow]


class MassiveEvents:
    """Asks for splits and dividends, and keeps for a while those of other tickers. Safe to use from several threads.

    Args:
        client: asks.
        clock: of the run.
    """

    def __init__(self, client: MassiveClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[tuple[Sequence[str], date, date], _Answer] = {}

    def of(self, ours: Mapping[str, str], group: Sequence[str], start: date, end: date) -> NamedEvents:
        """The events of some tickers from `start` to `end`.

        Args:
            ours: our symbols by the tickers.
            group: these, and others that will be asked for in turn with the same range; at most `MOST_TICKERS`, or
                these alone.
            start: the first ex-date.
            end: the last ex-date.

        Raises: as the client.
        """
        if len(group) > len(ours):
            answer = self._shared(tuple(group), start, end)
        else:
            answer = self._ask(tuple(ours) if len(ours) <= MOST_TICKERS else None, start, end)
        return _read(answer, ours, start, end)

    def _shared(self, group: Sequence[str], start: date, end: date) -> _Answer:
        """The answer for a group, asked for by whoever comes first; the others wait for it."""
        with self._lock:
            cached = self._cache.get((group, start, end))
            if cached is None or not timedelta() <= self._clock() - cached.asked <= _FRESH:
                self._cache.pop((group, start, end), None)
                cached = self._cache[group, start, end] = self._ask(group, start, end)
                for oldest in list(self._cache)[:-_MOST_CACHED]:
                    del self._cache[oldest]
            return cached

    def _ask(self, tickers: Sequence[str] | None, start: date, end: date) -> _Answer:
        now = self._clock()
        return _Answer(now, self._client.splits(tickers, start, end), self._client.dividends(tickers, start, end))


def _read(answer: _Answer, ours: Mapping[str, str], start: date, end: date) -> NamedEvents:
    splits: list[VendorEvent] = []
    paid: dict[str, list[VendorEvent]] = {_CURRENCY: []}
    for row in answer.splits:
        ratio = (row.get("split_to"), row.get("split_from"))
        splits.append((_owner(row, ours), row.get("execution_date"), ratio, None, _mark(row, "adjustment_type")))
    for row in answer.dividends:
        owner = _owner(row, ours)
        currency = str(row.get("currency") or _CURRENCY).upper() if owner else _CURRENCY
        mark = _mark(row, "distribution_type")
        paid.setdefault(currency, []).append((owner, row.get("ex_dividend_date"), None, row.get("cash_amount"), mark))
    read = {name: actions_frame(events, start, end) for name, events in {**paid, _SPLITS: splits}.items()}
    own = [read.pop(_SPLITS), read.pop(_CURRENCY)]
    foreign = [
        events.frame.select("symbol", "date", "dividend", pl.lit(currency).alias("currency"))
        for currency, events in read.items()
    ]
    return NamedEvents(
        pl.concat(events.frame for events in own).sort("symbol", "date", maintain_order=True),
        pl.concat([pl.DataFrame(schema=FOREIGN), *foreign]),
        tuple(note for events in (*own, *read.values()) for note in events.notes),
        start,
    )


def _owner(row: VendorRow, ours: Mapping[str, str]) -> str | None:
    """Whose an event is; None: of nobody who was asked for."""
    ticker = row.get("ticker")
    return ours.get(ticker) if isinstance(ticker, str) else None


def _mark(row: VendorRow, kind: str) -> Mark:
    """What tells an event from others of its day; a kind that the vendor does not know is none."""
    stated = str(row.get(kind) or "")
    return Mark("" if stated == "unknown" else stated, str(row.get("id") or ""))
