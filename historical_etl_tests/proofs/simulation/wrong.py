"""A schedule of the faults of `bars`: bars and events that are there and wrong."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from historical_etl_tests.proofs.simulation.bars import (
    ColumnGone,
    Frozen,
    HalfSplit,
    NullHoles,
    OutsideRange,
    Spike,
    WrongDividend,
    ZeroOpen,
)
from historical_etl_tests.proofs.simulation.draw import SMALL, Draw
from historical_etl_tests.proofs.simulation.faults import Fault, PhantomDays

__all__ = ["wrong_bars", "wrong_events"]

#: Shares of the price: a dividend that nobody pays, and the range of those that show when they are counted twice.
_PHANTOM, _TWICE = 0.2, (0.012, 0.025)
_MISSING = 0.012
#: So many times off, but never so that nothing of the price is left.
_TIMES, _MOST = (100, 25), 0.85


def wrong_bars(draw: Draw) -> Iterator[Fault]:
    """Holes, spikes, ranges and frozen feeds."""
    day, rng = draw.day, draw.rng

    def some(begin: int, end: int, share: float) -> tuple[date, ...]:
        return tuple(sorted({day(begin), *(day(i) for i in range(begin, end) if rng.random() < share)}))

    def holes(*columns: str) -> Callable[[str, int, int], Fault]:
        return lambda s, b, e: NullHoles(s, columns, some(b - 4, e, 0.5), start=day(b), until=day(e))

    def spike(factor: float) -> Callable[[str, int, int], Fault]:
        return lambda s, b, e: Spike(s, day(b), factor, start=day(b), until=day(e))

    def frozen(count: int) -> Callable[[str, int, int], Fault]:
        return lambda s, b, _: Frozen(s, start=day(b), until=day(b + count))

    grave: list[tuple[int, bool, Callable[[str, int, int], Fault]]] = [
        (9, False, holes("adj_close")),
        (9, False, holes("open", "high", "low")),
        (9, False, holes("volume")),
        (9, False, holes("adj_close", "high")),
        (6, False, lambda s, b, e: NullHoles(s, ("adj_close",), start=day(b), until=day(e))),
        (1, True, spike(10.0)),
        (3, True, spike(190.0)),
        (2, True, spike(1 / 1500)),
        (4, True, spike(19110.0)),
        *((count, True, frozen(count)) for count in (2, 4, 8)),
    ]
    for longest, calm, fault in grave:
        if found := draw.grave(longest, draw.is_calm if calm else None):
            yield fault(*found)
    yield from _for_good(draw)
    begin, end = draw.window(3)
    yield ColumnGone("adj_close", start=day(begin), until=day(end))
    begin, end = draw.common(2)
    yield NullHoles(None, ("open",), start=day(begin), until=day(end))
    if (still := _without_events(draw, 3)) is not None:
        yield Frozen(None, start=day(still), until=day(still + 3))
    begin, end = draw.window(8, 3)
    saturday = day(begin) + timedelta(days=(5 - day(begin).weekday()) % 7)
    days = tuple(d for d in (saturday, saturday + timedelta(days=1)) if d not in draw.market.opened)
    yield PhantomDays(None, days, start=day(begin), until=day(end))


def _for_good(draw: Draw) -> Iterator[Fault]:
    """What the vendor never puts right; such a symbol is left alone from then on."""
    day, rng, last = draw.day, draw.rng, len(draw.market.sessions) - 1

    def some(begin: int, share: float) -> tuple[date, ...]:
        return tuple(day(i) for i in range(begin, last + 1) if i == begin or rng.random() < share)

    kinds: list[Callable[[str, int], Fault]] = [
        lambda s, b: Spike(s, day(b), 12.0, start=day(b)),
        lambda s, b: OutsideRange(s, some(b, 0.25), start=day(b)),
        lambda s, b: ZeroOpen(s, some(b, 0.1), start=day(b)),
    ]

    def fits(symbol: str, begin: int, end: int) -> bool:
        return _is_alone(draw, symbol, begin) and draw.is_calm(symbol, begin, end)

    for fault in kinds:
        if found := draw.grave(2, fits):
            symbol, begin, _ = found
            draw.take(symbol, begin, last)
            yield fault(symbol, begin)


def _is_alone(draw: Draw, symbol: str, begin: int) -> bool:
    """Whether no fault comes later, and no other company."""
    listing = next(x for x in draw.market.listings if x.symbol == symbol)
    return listing.again is None and all(high + 12 < begin for _, high in draw.taken.get(symbol, []))


def _without_events(draw: Draw, count: int) -> int | None:
    """A session from which on nobody splits or pays for a while."""
    indices = list(range(draw.first, draw.last - count))
    draw.rng.shuffle(indices)
    return next((i for i in indices if not draw.market.has_events(draw.day(i - 1), draw.day(i + count + 1))), None)


@dataclass(frozen=True)
class _Event:
    """A split or dividend, its session's number, the closes before it and on it, and until when an error may last."""

    symbol: str
    day: date
    split: float
    cash: float
    begin: int
    end: int
    before: float
    close: float

    @property
    def share(self) -> float:
        """The dividend as a share of the price before."""
        return self.cash * self.split / self.before


def wrong_events(draw: Draw, *, named: bool) -> Iterator[Fault]:
    """Splits that are half applied, and dividends that cannot be."""
    wanted = {"half", "times", "twice"} | ({"missing"} if named else set[str]())
    for event in _calm_events(draw):
        fault = _half_applied(draw, event) if event.split != 1 else _impossible(draw, event, wanted)
        kind = "half" if isinstance(fault, HalfSplit) else fault.kind if fault else ""
        if fault is not None and kind in wanted:
            wanted.remove(kind)
            draw.take(event.symbol, event.begin, event.end)
            yield fault
    if found := draw.grave(9, draw.is_calm):
        symbol, begin, end = found
        day = draw.day(begin)
        yield WrongDividend(symbol, "phantom", day, _PHANTOM, 0.0, start=day, until=draw.day(end))


def _calm_events(draw: Draw) -> Iterator[_Event]:
    """Events in any order, with no other near them, on days on which the price hardly moved for another reason."""
    market, day = draw.market, draw.day
    index = {session: i for i, session in enumerate(market.sessions)}
    events = market.events.filter(pl.col("symbol").is_in(draw.names)).select("symbol", "date", "split", "dividend")
    rows = events.rows()
    draw.rng.shuffle(rows)
    for symbol, ex, split, cash in rows:
        begin = index[ex]
        end = begin + draw.rng.randint(1, 9)
        if not draw.first <= begin <= draw.last - 12 or not draw.is_free(symbol, begin, end):
            continue
        moves = market.moves(symbol)
        near = [(day(begin - 9), day(begin - 1)), (day(begin + 1), day(end + 1))]
        calm = all(abs(moves.get(day(i), 1.0)) < SMALL for i in (begin, begin + 1))
        if calm and not any(market.has_events(*span, symbol) for span in near):
            last = max(session for session in moves if session < ex)
            closes = [market.bars([symbol], at, at, at)["close"][0] for at in (last, ex)]
            yield _Event(symbol, ex, split, cash, begin, end, *closes)


def _half_applied(draw: Draw, event: _Event) -> HalfSplit | None:
    if event.cash or not max(event.split, 1 / event.split).is_integer():
        return None
    days = [day for day in draw.market.moves(event.symbol) if day < event.day][-draw.rng.randint(2, 9) :]
    return HalfSplit(event.symbol, tuple(days), event.split, start=event.day, until=draw.day(event.end))


def _impossible(draw: Draw, event: _Event, wanted: Collection[str]) -> WrongDividend | None:
    symbol, until, share = event.symbol, draw.day(event.end), event.share
    low, high = _TWICE
    if "twice" in wanted and low < share < high:
        again = draw.day(event.begin + 1)
        until = draw.day(event.end + 1)
        return WrongDividend(symbol, "twice", again, event.cash / event.close, 0.0, start=again, until=until)
    if "missing" in wanted and share > _MISSING:
        return WrongDividend(symbol, "missing", event.day, 0.0, share, start=event.day, until=until)
    if "times" in wanted:
        wrong = share * next(many for many in _TIMES if share * many < _MOST)
        return WrongDividend(symbol, "times", event.day, wrong, share, start=event.day, until=until)
    return None
