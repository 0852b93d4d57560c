"""Named events as they are fetched: invalid values are left out, and the rows of one day are merged."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from math import prod
from typing import Final

import polars as pl

from historical_etl.quality.event_sessions import in_words
from historical_etl.quality.price_series import Line
from historical_etl.schema import ORDER

__all__ = ["ALIKE", "NEARBY", "NamedDays", "named_days"]

#: A name within so many days of another, and off by no more than this share of its value, may be the same one.
NEARBY, ALIKE = timedelta(days=10), 0.1
_NOTHING: Final = {"split": 1.0, "dividend": 0.0}
#: Two values closer than this are one that is written in two ways.
_SAME: Final = 1e-3


@dataclass(frozen=True)
class NamedDays:
    """Named events, one for each symbol and day.

    Attributes:
        events: columns `ACTIONS`.
        invalid: rows with an invalid value, as fetched.
        chosen: days of whose rows only some are meant: the symbol, the event, and why.
    """

    events: pl.DataFrame
    invalid: pl.DataFrame
    chosen: list[tuple[str, date, float, float, str]]


def named_days(named: pl.DataFrame, *, in_close: bool, line: Callable[[str], Line]) -> NamedDays:
    """The events that some rows name. Null and NaN are no value, as in the bars.

    Args:
        named: columns `ACTIONS`.
        in_close: whether the close jumps with a split.
        line: gives the bars of a symbol.
    """
    split, dividend = pl.col("split"), pl.col("dividend")
    is_event = (split != 1) | (dividend != 0)
    fine = {"split": split.is_finite() & (split > 0), "dividend": dividend.is_finite() & (dividend >= 0)}
    is_plain = pl.all_horizontal(*fine.values(), is_event, ~pl.struct(ORDER).is_duplicated()).fill_null(value=False)
    if named.select(is_plain.all()).item():
        return NamedDays(named, named.clear(), [])
    values = [pl.when(is_fine).then(name).otherwise(_NOTHING[name]).alias(name) for name, is_fine in fine.items()]
    is_wrong = pl.any_horizontal(pl.col(name).is_not_nan() & ~is_fine for name, is_fine in fine.items())
    is_empty = pl.any_horizontal(pl.col(name).is_nan() for name in fine) & ~pl.any_horizontal(
        (pl.col(name) != nothing) & fine[name] for name, nothing in _NOTHING.items()
    )
    invalid = named.filter((is_wrong | is_empty).fill_null(value=False))
    events = named.with_columns(values).filter(is_event).unique(maintain_order=True)
    is_twice = events.select(pl.struct(ORDER).is_duplicated()).to_series()
    chosen: list[tuple[str, date, float, float, str]] = []
    if is_twice.any():
        rows = events.filter(is_twice).group_by(ORDER, maintain_order=True).agg("split", "dividend")
        bars_of = cache(line)
        together: list[tuple[str, date, float, float]] = []
        for symbol, day, splits, paid in rows.iter_rows():
            event, words = _one(day, *_meant(splits, paid), in_close=in_close, line=partial(bars_of, symbol))
            together.append((symbol, day, *event))
            chosen += [(symbol, day, *event, words)] if words else []
        events = pl.concat([events.filter(~is_twice), pl.DataFrame(together, schema=named.schema, orient="row")])
    return NamedDays(events, invalid, chosen)


def _meant(splits: Iterable[float], paid: Iterable[float]) -> tuple[list[float], list[float]]:
    return _different(split for split in splits if split != 1), _different(cash for cash in paid if cash != 0)


def _different(values: Iterable[float]) -> list[float]:
    found: list[float] = []
    for value in values:
        if all(abs(value / other - 1) > _SAME for other in found):
            found.append(value)
    return found


def _one(
    day: date, splits: list[float], paid: list[float], *, in_close: bool, line: Callable[[], Line]
) -> tuple[tuple[float, float], str]:
    """The event of a day: all that is named, unless adj_close or the price fits a part of it better."""
    some = [(s, d) for s in dict.fromkeys([prod(splits), *splits]) for d in dict.fromkeys([sum(paid), *paid])]
    whole = some[0]
    bars = line() if len(some) > 1 else None
    at = bars.at(day) if bars else None
    if bars is None or at is None:
        return whole, ""
    shown = {event: (event[0] if in_close else 1.0, event[1]) for event in some}
    off = {event: bars.fits_factor(at, *as_shown) for event, as_shown in shown.items()}
    fitting = {event: size for event, size in off.items() if size is not None}
    by_price = {event: bars.off_price(at, *as_shown) for event, as_shown in shown.items()}
    best = min(fitting or by_price, key=lambda event: (fitting or by_price)[event])
    if best == whole or not (fitting or by_price[whole] - by_price[best] > bars.decisive > by_price[best]):
        return whole, ""
    parts = [in_words(split, 0.0) for split in splits] + [in_words(1.0, cash) for cash in paid]
    witness = "adj_close contains" if fitting else "the price shows"
    return best, f"{', '.join(parts)} are named in several rows of {day}, and {witness} {in_words(*best)}"
