"""Yahoo's answer about prices, read by us: bars by the exchange's days, and events on their own dates. No network here.

The client makes a table of it in which an event without a bar moves to another day or is lost.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import inf, isfinite, isnan, nan
from typing import Final, cast
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.sources.base import FOREIGN
from historical_etl.sources.vendors.event_rows import ratio_of
from historical_etl.sources.vendors.frames import FormError, VendorRow

__all__ = ["Chart", "Event", "read_chart", "result_of"]

#: Symbol, ex-date in ISO, new shares for each old one, cash.
Event = tuple[str, str, float | None, float | None]
_PRICES: Final = ("open", "high", "low", "close")
#: Units in which exchanges quote, and the currency of which each is a hundredth.
_HUNDREDTHS: Final = {"GBp": "GBP", "ZAc": "ZAR", "ILA": "ILS"}
#: Some bars begin an hour or two before their day: their offset is that of another season.
_BEFORE_MIDNIGHT: Final = 22
#: From this hour on trade in futures is of the next day.
_FUTURES_BEGIN: Final = 18
#: Numbers that JSON cannot hold otherwise.
_WORDS: Final = {"Infinity": inf, "-Infinity": -inf, "NaN": nan}
_SHOWN: Final = 100


@dataclass(frozen=True)
class Chart:
    """What an answer holds: bars and events of all days in it, whatever was asked for.

    Attributes:
        bars: one for each day, by `date` in ISO and the names of the schema.
        events: splits and cash in the unit of the prices, each as fetched.
        foreign: cash in another currency, columns `FOREIGN`.
        notes: what was converted, and what cannot be read.
    """

    bars: list[VendorRow]
    events: list[Event]
    foreign: pl.DataFrame
    notes: tuple[str, ...]


def result_of(answer: object) -> Mapping[str, object] | str | None:
    """The chart of an answer, or the reason in its place; None where there is neither.

    Raises:
        FormError: the answer is none about prices.
    """
    if not isinstance(answer, dict) or not (answer.keys() & {"chart", "finance"}):
        raise FormError("the answer holds no chart")
    whole = cast("dict[str, object]", answer)
    found = whole.get("chart") or whole.get("finance")
    if found is None:
        return None
    chart = _object(found, "chart")
    results = chart.get("result")
    if isinstance(results, list) and results:
        return _object(cast("list[object]", results)[0], "result")
    error = chart.get("error")
    if not error:
        return None
    fields = cast("dict[str, object]", error) if isinstance(error, dict) else {"description": error}
    return ": ".join(str(fields[name]) for name in ("code", "description") if fields.get(name)) or str(fields)


def read_chart(result: Mapping[str, object], symbol: str) -> Chart:
    """The bars and the events of a chart.

    Raises:
        FormError: it has another form than it should.
    """
    meta = _object(result.get("meta"), "meta")
    try:
        zone = ZoneInfo(str(meta.get("exchangeTimezoneName")))
    except (ValueError, OSError, LookupError):
        raise FormError(f"there is no time zone {meta.get('exchangeTimezoneName')!r}") from None
    if meta.get("dataGranularity") not in (None, "1d"):
        raise FormError(f"the bars are not of days but of {meta['dataGranularity']!r}")
    named = meta.get("symbol")  # Yahoo repeats the name that it is asked for
    if isinstance(named, str) and _spelt(named) != _spelt(symbol):
        raise FormError(f"it is of {named!r}, and {symbol} was asked for; where that is its new name, tell the rename")
    # The newest bar may have the moment of the last trade, which is of its own day at any hour.
    live = meta.get("regularMarketTime")
    evening = _FUTURES_BEGIN if meta.get("instrumentType") == "FUTURE" else None

    def day_of(moment: object) -> date:
        return _day(moment, zone, evening if moment == live else _BEFORE_MIDNIGHT, is_live=moment == live)

    notes: list[str] = []
    events = [*_splits(result, symbol, day_of, notes)]
    paid, foreign = _cash(result, symbol, meta.get("currency"), day_of, notes)
    return Chart(_bars(result, day_of), events + paid, foreign, tuple(dict.fromkeys(notes)))


def _spelt(symbol: str) -> str:
    return symbol.upper().replace(".", "-").replace("/", "-")


def _bars(result: Mapping[str, object], day_of: Callable[[object], date]) -> list[VendorRow]:
    moments = _values(result, "timestamp")
    if not moments:
        return []
    indicators = _object(result.get("indicators"), "indicators")
    quote = _object(_first(indicators, "quote"), "quote")
    adjusted = _object(_first(indicators, "adjclose") or {}, "adjclose")
    if "close" not in quote:
        raise FormError("the bars have no 'close'")
    columns = {name: _values(quote, name) for name in (*_PRICES, "volume")} | {
        "adj_close": _values(adjusted, "adjclose")
    }
    if any(values and len(values) != len(moments) for values in columns.values()):
        raise FormError("a column has more or fewer values than there are days")
    # A day that comes twice, as a bar and as the live price (ranaroussi/yfinance#573), is the newest that has a price.
    by_day: dict[str, VendorRow] = {}
    for moment, at in sorted((_moment(moment), at) for at, moment in enumerate(moments)):
        day = day_of(moment).isoformat()
        row = {"date": day} | {name: _number(values[at]) if values else None for name, values in columns.items()}
        if day not in by_day or not _is_none(row["close"]):
            by_day[day] = row
    return list(by_day.values())


def _splits(
    result: Mapping[str, object], symbol: str, day_of: Callable[[object], date], notes: list[str]
) -> Iterator[Event]:
    for entry in _entries(result, "splits"):
        try:
            ratio = ratio_of((_amount(entry, "numerator"), _amount(entry, "denominator")))
            yield symbol, day_of(_moment(entry.get("date"))).isoformat(), ratio, None
        except FormError as error:
            notes.append(_unreadable("split", symbol, entry, error))


def _cash(
    result: Mapping[str, object], symbol: str, currency: object, day_of: Callable[[object], date], notes: list[str]
) -> tuple[list[Event], pl.DataFrame]:
    """Dividends and capital gains: those in the currency of the prices, in its unit, and apart from them the others.

    A gain beside a dividend of the same day counts alone: the dividend may hold it already
    (yfinance's `_repair_capital_gains`), which `adj_close` tells.
    """
    own: list[Event] = []
    foreign: list[tuple[str, date, float, str]] = []
    for kind in ("dividends", "capitalGains"):
        for entry in _entries(result, kind):
            try:
                amount, day = _amount(entry, "amount"), day_of(_moment(entry.get("date")))
            except FormError as error:
                notes.append(_unreadable("dividend" if kind == "dividends" else "capital gain", symbol, entry, error))
                continue
            paid_in = entry.get("currency")
            if not isinstance(paid_in, str) or not paid_in.strip() or paid_in == currency:
                own.append((symbol, day.isoformat(), None, amount))
                continue
            times = _times(paid_in, currency)
            if times is None:
                foreign.append((symbol, day, amount, paid_in.strip()))
                continue
            own.append((symbol, day.isoformat(), None, float(Decimal(repr(amount)) * times)))
            notes.append(
                f"Yahoo gives dividends of {symbol} in {paid_in} and its prices in {currency}: "
                f"their amounts are taken times {times.normalize():f}"
            )
    return own, pl.DataFrame(foreign, schema=FOREIGN, orient="row").sort("symbol", "date", maintain_order=True)


def _times(paid_in: str, currency: object) -> Decimal | None:
    """By what an amount is multiplied to be in the unit of the prices; None: it is in another currency."""
    if not isinstance(currency, str) or _HUNDREDTHS.get(paid_in, paid_in) != _HUNDREDTHS.get(currency, currency):
        return None
    return (Decimal(100) if currency in _HUNDREDTHS else Decimal(1)) / (100 if paid_in in _HUNDREDTHS else 1)


def _day(moment: object, zone: ZoneInfo, evening: int | None, *, is_live: bool) -> date:
    """The day of a moment; from the hour `evening` on it is of the next one: a bar at the full hour only."""
    try:
        local = datetime.fromtimestamp(cast("int", moment), zone)
        is_early = evening is not None and local.hour >= evening and (is_live or not (local.minute or local.second))
        return local.date() + timedelta(days=is_early)
    except (OverflowError, ValueError, OSError):
        raise FormError(f"no day has the moment {moment}") from None


def _moment(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormError(f"a moment is no number of seconds but {value!r}"[:_SHOWN])
    return value


def _amount(entry: VendorRow, name: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormError(f"{name!r} is no number")
    try:
        amount = float(value)
    except OverflowError:
        amount = inf
    if not isfinite(amount):
        raise FormError(f"{name!r} is no finite number")
    return amount


def _is_none(price: object) -> bool:
    return price is None or price == 0 or (isinstance(price, float) and isnan(price))


def _number(value: object) -> object:
    return _WORDS.get(value, value) if isinstance(value, str) else value


def _entries(result: Mapping[str, object], kind: str) -> list[VendorRow]:
    """The events of a kind. The keys of their map may be other days than theirs."""
    events = result.get("events")
    found = _object(events, "events").get(kind) if events else None
    values = list(_object(found, kind).values()) if found else []
    if not all(isinstance(value, dict) for value in values):
        raise FormError(f"{kind!r} holds something else than events")
    return cast("list[VendorRow]", values)


def _unreadable(what: str, symbol: str, entry: VendorRow, error: FormError) -> str:
    return f"A {what} that Yahoo names of {symbol} is left out: {error}, in {json.dumps(entry)[:_SHOWN]}"


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise FormError(f"{what!r} is no object but {type(value).__name__}")
    return cast("dict[str, object]", value)


def _values(holder: Mapping[str, object], name: str) -> Sequence[object]:
    values = holder.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise FormError(f"{name!r} is no array but {type(values).__name__}")
    return cast("list[object]", values)


def _first(holder: Mapping[str, object], name: str) -> object:
    values = _values(holder, name)
    return values[0] if values else None
