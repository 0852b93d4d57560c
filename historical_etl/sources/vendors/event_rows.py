"""From the splits and dividends that a vendor tells to actions: each once, and what cannot be read apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, cast

import polars as pl

from historical_etl.schema import ORDER
from historical_etl.sources.base import ACTIONS
from historical_etl.sources.vendors.frames import FormError

__all__ = [
    "Events",
    "Mark",
    "VendorEvent",
    "actions_frame",
    "amount_of",
    "counted",
    "empty_actions",
    "event_day",
    "ratio_of",
]


class Mark(NamedTuple):
    """What tells events of one symbol, day and value apart; both empty where the vendor does not say."""

    kind: str = ""
    id: str = ""


#: Symbol (None: of nobody who was asked for), ex-date in ISO, new shares for each old one, cash for each share; None
#: where there is no split or no dividend. A split may also be a pair of numbers: new shares, and old ones.
VendorEvent = tuple[str | None, object, object, object] | tuple[str | None, object, object, object, Mark]
#: Parts of an event that bears a mark.
_MARKED: Final = 5
#: Amounts closer than this are one that is written in two ways.
_SAME: Final = 1e-3
#: So many events are named in a note; the others are counted.
_NAMED: Final = 5


@dataclass(frozen=True)
class Events:
    """Events as actions; `notes` name those that cannot be read, and those that are entered several times."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()


def empty_actions() -> pl.DataFrame:
    """Zero actions: the vendor was asked, and named none."""
    return pl.DataFrame(schema=ACTIONS)


def actions_frame(events: Iterable[VendorEvent], start: date, end: date) -> Events:
    """Events as actions, as `counted` has them, within `start` to `end`.

    Args:
        events: as the vendor tells them. One with neither a split nor a dividend cannot be read.
        start: the first date.
        end: the last date.

    Raises:
        FormError: there are several, and none can be read.
    """
    found: list[tuple[str, date, float, float, Mark]] = []
    odd: list[str] = []
    readable, unreadable = 0, list[FormError]()
    for stated in events:
        symbol, day, split, dividend, mark = stated if len(stated) == _MARKED else (*stated, Mark())
        try:
            on = event_day(day)
            event = _event(split, dividend) if start <= on <= end else (1.0, 0.0)
        except FormError as error:
            unreadable.append(error)
            odd += [f"{symbol} on {day!s:.20} ({error})"] if symbol is not None else []
            continue
        readable += 1
        if symbol is not None and event != (1.0, 0.0):
            found.append((symbol, on, *event, mark))
    if len(unreadable) > 1 and not readable:  # of a single one nothing tells whether all are like it
        raise unreadable[0]
    read = counted(found)
    return Events(read.frame, (*_noted("Splits or dividends that cannot be read are left out", odd), *read.notes))


def counted(events: Iterable[tuple[str, date, float, float, Mark]]) -> Events:
    """Events as actions, sorted by (symbol, date), of which each counts as often as it happened.

    Dividends of one symbol, day and amount that are of different kinds are so many payments: they add up in one row,
    since equal rows count once. Those of one kind, or of an unknown kind, are one that is entered several
    times; so are equal splits of any kind. If their ids differ, `notes` tell.

    Args:
        events: symbol, ex-date, new shares for each old one, cash for each share, and what tells them apart.
    """
    alike: dict[tuple[str, date, float], list[list[tuple[float, Mark]]]] = {}
    for symbol, day, split, cash, mark in events:
        groups = alike.setdefault((symbol, day, split), [])
        group = next((group for group in groups if abs(group[0][0] - cash) <= _SAME * abs(cash)), None)
        if group is None:
            groups.append(group := [])
        group.append((cash, mark))
    found: list[tuple[str, date, float, float]] = []
    twice: list[str] = []
    for (symbol, day, split), groups in alike.items():
        for group in groups:
            paid = {mark.kind: cash for cash, mark in reversed(group)}
            known = [cash for kind, cash in paid.items() if kind] if split == 1 else []
            found.append((symbol, day, split, sum(known) if len(known) > 1 else group[0][0]))
            entries, payments = len({mark.id for _, mark in group}), max(1, len(known))
            if entries > payments:
                what = f"a split of {split:g}" if split != 1 else f"a dividend of {group[0][0]:g}"
                twice.append(f"{symbol} on {day} ({what}: {entries} entries, {payments} counted)")
    frame = pl.DataFrame(found, schema=ACTIONS, orient="row").sort(ORDER, maintain_order=True)
    return Events(frame, _noted("Splits or dividends that are entered several times count once", twice))


def _noted(what: str, events: Sequence[str]) -> tuple[str, ...]:
    more = f" and {len(events) - _NAMED} more" if len(events) > _NAMED else ""
    return (f"{what}: {', '.join(events[:_NAMED])}{more}",) if events else ()


def event_day(value: object) -> date:
    """The date that an ISO text begins with.

    Raises:
        FormError: it is none.
    """
    text = value[:10] if isinstance(value, str) else ""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise FormError("no date") from None
    if day.isoformat() != text:  # 20130102 and 2013-W01-3 are dates too, and not as this vendor writes them
        raise FormError("no date")
    return day


def amount_of(value: object, what: str) -> float:
    """A finite number; `what` it is, for the error.

    Raises:
        FormError: it is none.
    """
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise FormError(f"{what} is {f'{value!r}'[:40]}")
    return number


def ratio_of(split: object) -> float:
    """New shares for each old one, from a number or from both; 1 where there is no split.

    Raises:
        FormError: it is none.
    """
    if split is None:
        return 1.0
    if not isinstance(split, tuple):
        return amount_of(split, "a split")
    new, old = cast("tuple[object, object]", split)
    shares = amount_of(new, "the new shares of a split"), amount_of(old, "the old shares of a split")
    try:
        return amount_of(shares[0] / shares[1], "the ratio of a split")
    except ArithmeticError:
        raise FormError(f"a split from {old!r} to {new!r}") from None


def _event(split: object, dividend: object) -> tuple[float, float]:
    if split is None and dividend is None:
        raise FormError("neither a split nor a dividend")
    return ratio_of(split), 0.0 if dividend is None else amount_of(dividend, "a dividend")
