"""Alpaca's corporate actions: which to ask for, and what its rows mean.

Alpaca selects them by the day on which it processes them, never by the ex-date: a split on its ex-date, a dividend on
the day of its payment. A company of the United States pays within about 60 days of the ex-date; ADRs pay after months,
some of Brazil in the next year. So the days up to a year after the range are asked for as well, and the ex-date is
looked at here. That costs no request: a page holds a thousand events, and the days to come have few.

The days before the range bring what was processed lately of ex-dates before it. They are some months, since an event
may also be entered late.
"""

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, cast

import polars as pl

from historical_etl.schema import ORDER
from historical_etl.sources.base import FOREIGN, SHARES_OF
from historical_etl.sources.vendors import event_rows
from historical_etl.sources.vendors.event_rows import Mark, amount_of, counted, event_day
from historical_etl.sources.vendors.frames import FormError, VendorRow

__all__ = ["ENTERED_WITHIN", "LEAD", "PAID_USUALLY", "AlpacaEvents", "query_of", "read"]

_log = logging.getLogger(__name__)
ENTERED_WITHIN, _PAID_WITHIN = timedelta(days=90), timedelta(days=366)
#: Bars from so long before a range on tell whether adj_close contains an event of its first day.
LEAD: Final = timedelta(days=10)
#: So long after the ex-date a company of the United States pays at the latest.
PAID_USUALLY: Final = timedelta(days=60)
#: The share of what an event makes adj_close move by that tells that it contains it, whatever rounding does.
_CONTAINED: Final = 0.5
#: A spin-off makes adj_close move by more than this, and rounding by less.
_WORTH: Final = 1e-3
_PAGE: Final = 1_000
_SPLITS: Final = ("forward_splits", "reverse_splits")
_SPIN_OFFS: Final = "spin_offs"
_KINDS: Final = (*_SPLITS, "stock_dividends", "cash_dividends", _SPIN_OFFS)
#: Prices are asked for in this currency, which an empty one means too.
_CURRENCY: Final = "USD"
#: So many rows that cannot be read are named; the others are counted.
_NAMED: Final = 5


@dataclass(frozen=True)
class AlpacaEvents:
    """Splits and dividends, those in another currency than the prices with the spin-offs, and what was passed over."""

    actions: pl.DataFrame
    foreign: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Event:
    symbol: str
    day: date
    split: float
    cash: float
    currency: str
    processed: date
    mark: Mark


def query_of(symbols: Collection[str], start: date, end: date) -> dict[str, object]:
    """The parameters that bring all events with an ex-date from `start` to `end`, and those entered late."""
    return {
        "symbols": ",".join(symbols),
        "types": ",".join(kind.removesuffix("s") for kind in _KINDS),
        "start": (start - ENTERED_WITHIN).isoformat(),
        "end": (end + _PAID_WITHIN).isoformat(),
        "limit": _PAGE,
        "sort": "asc",
    }


def read(
    pages: Iterable[Mapping[str, object]],
    symbols: Collection[str],
    start: date,
    end: date,
    *,
    bars: pl.DataFrame,
    today: date,
) -> AlpacaEvents:
    """The events of some symbols with an ex-date up to `end`, also those of before `start` that were processed lately.

    A dividend that is announced counts once adj_close contains it, at the latest on the day after it was processed. No
    public source tells on which of the two days Alpaca adjusts for it, and before that it would contradict adj_close.

    Args:
        pages: answers, each an object with kinds of events.
        symbols: whose events are wanted. Rows of others are not looked at.
        start: the first date of the range.
        end: its last date.
        bars: from `LEAD` before `start` on: symbol, date, close, adj_close, sorted.
        today: the day in New York.

    Raises:
        FormError: a kind of events is no list.
    """
    events: list[_Event] = []
    odd: list[str] = []
    for kind, row in _rows(pages, odd):
        symbol = row.get("source_symbol" if kind == _SPIN_OFFS else "symbol")
        if not isinstance(symbol, str) or symbol not in symbols:
            continue
        try:
            day = event_day(row.get("ex_date"))
        except FormError as error:
            odd.append(f"{symbol} on {row.get('ex_date')!r:.20} ({kind}: {error})")
            continue
        try:
            event = _event(kind, symbol, day, row) if start - _PAID_WITHIN <= day <= end else None
        except FormError as error:
            odd += [f"{symbol} on {day} ({kind}: {error})"] if day >= start else []
            continue
        events += [event] if event is not None else []
    waiting = [event for event in events if event.processed >= today and not _is_contained(event, events, bars)]
    if waiting:
        names = ", ".join(f"{event.symbol} of {event.day}" for event in waiting)
        _log.info("Alpaca has announced and not yet processed %s", names)
    usable = [event for event in events if event not in waiting]
    by_currency = {
        currency: _counted(usable, currency) for currency in sorted({_CURRENCY, *(e.currency for e in usable)})
    }
    more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
    note = f"alpaca: splits or dividends that cannot be read are passed over: {', '.join(odd[:_NAMED])}{more}"
    twice = tuple(note for found in by_currency.values() for note in found.notes)
    ours = by_currency.pop(_CURRENCY)
    others = [
        found.frame.select(*ORDER, "dividend", pl.lit(currency).alias("currency"))
        for currency, found in by_currency.items()
    ]
    foreign = pl.concat([pl.DataFrame(schema=FOREIGN), *(frame.select(FOREIGN.names()) for frame in others)])
    return AlpacaEvents(ours.frame, foreign.sort(ORDER, maintain_order=True), (*((note,) if odd else ()), *twice))


def _counted(events: Iterable[_Event], currency: str) -> event_rows.Events:
    """The events in one currency, each as often as it happened."""
    return counted((e.symbol, e.day, e.split, e.cash, e.mark) for e in events if e.currency == currency)


def _rows(pages: Iterable[Mapping[str, object]], odd: list[str]) -> Iterator[tuple[str, VendorRow]]:
    for page in pages:
        found: object = page.get("corporate_actions") or {}
        if not isinstance(found, dict):
            raise FormError("corporate_actions is no object")
        kinds = cast("Mapping[str, object]", found)
        for kind in _KINDS:
            rows: object = kinds.get(kind) or []
            if not isinstance(rows, list):
                raise FormError(f"{kind} is no array but {type(rows).__name__}")
            for row in cast("list[object]", rows):
                if isinstance(row, dict):
                    yield kind, cast("VendorRow", row)
                else:
                    odd.append(f"a row of {kind} that is no object")


def _event(kind: str, symbol: str, day: date, row: VendorRow) -> _Event | None:
    """What a row tells; None if it changes nothing, as a split of 1:1.

    Raises:
        FormError: it cannot be read.
    """
    split, cash, currency, processed = 1.0, 0.0, _CURRENCY, date.min
    if kind == _SPIN_OFFS:
        cash = amount_of(_rate(row, "new_rate") / _rate(row, "source_rate"), "the shares of a spin-off")
        currency, processed = SHARES_OF + _new_symbol(row), _processed(row)
    elif kind in _SPLITS:
        split = amount_of(_rate(row, "new_rate") / _rate(row, "old_rate"), "the ratio of a split")
    else:
        rate = _rate(row, "rate")
        split, cash = (1 + rate, 0.0) if kind == "stock_dividends" else (1.0, rate)
        processed = _processed(row)
    if kind == "cash_dividends":
        currency = _currency(row)
    is_none = (split, cash) == (1.0, 0.0)
    return None if is_none else _Event(symbol, day, split, cash, currency, processed, _mark(kind, row))


def _mark(kind: str, row: VendorRow) -> Mark:
    """What tells an event from another one of its day: a dividend may be special, of capital or of interest."""
    if kind == "cash_dividends":
        special = row.get("special")
        regular = ("special" if special else "regular") if isinstance(special, bool) else ""
        kind = f"{regular} {row.get('sub_type') or ''}".strip()
    return Mark(kind, str(row.get("id") or ""))


def _is_contained(event: _Event, events: Sequence[_Event], bars: pl.DataFrame) -> bool:
    """Whether adj_close moves against close as the event makes it move."""
    mine = bars.filter(pl.col("symbol") == event.symbol)
    now, before = (mine.filter(is_side) for is_side in (pl.col("date") >= event.day, pl.col("date") < event.day))
    if now.is_empty() or before.is_empty():
        return False
    (close, adj_close), (close_0, adj_close_0) = (
        side.select("close", "adj_close").row(at) for side, at in ((now, 0), (before, -1))
    )
    if not all(price is not None and price > 0 for price in (close, adj_close, close_0, adj_close_0)):
        return False
    beside = math.prod(
        other.split for other in events if other is not event and (other.symbol, other.day) == (event.symbol, event.day)
    )
    moved = math.log(adj_close / close * close_0 / adj_close_0 / beside) if 0 < beside < math.inf else 0.0
    if event.currency.startswith(SHARES_OF):  # nobody says what they are worth
        return moved > _WORTH
    share = event.cash * beside / close_0
    if not (0 < beside < math.inf and event.split > 0 and 0 <= share < 1):
        return True  # the rules for events have the word
    makes = math.log(event.split) - math.log(1 - share)
    return moved / makes >= _CONTAINED


def _processed(row: VendorRow) -> date:
    """The day of its processing; where it cannot be read, long ago: the event itself can."""
    try:
        return event_day(row.get("process_date"))
    except FormError:
        return date.min


def _currency(row: VendorRow) -> str:
    currency = row.get("currency") or _CURRENCY
    if not (isinstance(currency, str) and re.fullmatch("[A-Za-z]{3}", currency)):
        raise FormError(f"currency is {f'{currency!a}'[:40]}")
    return currency.upper()


def _new_symbol(row: VendorRow) -> str:
    symbol = row.get("new_symbol")
    if not (isinstance(symbol, str) and re.fullmatch("[!-~]{1,20}", symbol)):
        raise FormError(f"new_symbol is {f'{symbol!a}'[:40]}")
    return symbol


def _rate(row: VendorRow, name: str) -> float:
    rate = amount_of(row.get(name), name)
    if not rate:
        raise FormError(f"{name} is 0")
    return rate
