"""A schedule of the faults of `simulation_bars`: bars and events that are there and wrong."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import polars as pl

from historical_etl_tests.simulation_bars import (
    ColumnGone,
    Frozen,
    HalfSplit,
    NullHoles,
    OutsideRange,
    Spike,
    WrongDividend,
    ZeroOpen,
)
from historical_etl_tests.simulation_draw import SMALL, Draw
from historical_etl_tests.simulation_faults import Fault, PhantomDays

__all__ = ["wrong_bars", "wrong_events"]

#: Shares of the price: a dividend that nobody pays, and the range of those that show when they are counted twice.
_PHANTOM, _TWICE = 0.2, (0.012, 0.025)
_MISSING = 0.012


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
    begin, end = draw.window(2)
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

    kinds: list[tuple[bool, Callable[[str, int], Fault]]] = [
        (True, lambda s, b: Spike(s, day(b), 12.0, start=day(b))),
        (False, lambda s, b: OutsideRange(s, some(b, 0.25), start=day(b))),
        (False, lambda s, b: ZeroOpen(s, some(b, 0.1), start=day(b))),
    ]
    for calm, fault in kinds:
        if found := draw.grave(2, lambda s, b, e, calm=calm: _is_alone(draw, s, b) and (not calm or draw.is_calm(s, b, e))):
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


def wrong_events(draw: Draw, *, named: bool) -> Iterator[Fault]:
    """Splits that are half applied, and dividends that cannot be."""
    market, day = draw.market, draw.day
    index = {session: i for i, session in enumerate(market.sessions)}
    rows = market.events.filter(pl.col("symbol").is_in(draw.names)).select("symbol", "date", "split", "dividend").rows()
    draw.rng.shuffle(rows)
    wanted = ["half", "times", "twice", *(["missing"] if named else [])]
    for symbol, ex, split, cash in rows:
        begin = index[ex]
        end = begin + draw.rng.randint(1, 9)
        if not draw.first <= begin <= draw.last - 12 or not draw.is_free(symbol, begin, end):
            continue
        dates = market._by_symbol[symbol]["date"].to_list()  # noqa: SLF001 - the market is ours
        before = _close(draw, symbol, dates[dates.index(ex) - 1])
        calm = all(abs(market.moves(symbol).get(day(i), 1.0)) < SMALL for i in (begin, begin + 1))
        others = market.has_events(day(begin - 9), day(begin - 1), symbol) or market.has_events(
            day(begin + 1), day(end + 1), symbol
        )
        if not calm or others:
            continue
        fault: Fault | None = None
        share = cash * split / before
        if split != 1 and not cash and max(split, 1 / split).is_integer() and "half" in wanted:
            wanted.remove("half")
            days = tuple(d for d in dates if d < ex)[-draw.rng.randint(2, 9) :]
            fault = HalfSplit(symbol, days, split, start=ex, until=day(end))
        elif split == 1 and cash:
            fits = {"times": True, "twice": _TWICE[0] < share < _TWICE[1], "missing": share > _MISSING}
            kind = next((kind for kind in wanted if fits.get(kind)), None)
            if kind == "times":
                many = 100 if share < 0.0085 else 25  # noqa: PLR2004 - the price would be gone
                fault = WrongDividend(symbol, "times", ex, share * many, share, start=ex, until=day(end))
            elif kind == "twice":
                again = cash / _close(draw, symbol, ex)
                fault = WrongDividend(symbol, "twice", day(begin + 1), again, 0.0, start=day(begin + 1), until=day(end + 1))
            elif kind == "missing":
                fault = WrongDividend(symbol, "missing", ex, 0.0, share, start=ex, until=day(end))
            wanted = [other for other in wanted if other != kind]
        if fault is not None:
            draw.take(symbol, begin, end)
            yield fault
    if found := draw.grave(9, draw.is_calm):
        symbol, begin, end = found
        yield WrongDividend(symbol, "phantom", day(begin), _PHANTOM, 0.0, start=day(begin), until=day(end))


def _close(draw: Draw, symbol: str, session: date) -> float:
    return draw.market.bars([symbol], session, session, session)["close"][0]
