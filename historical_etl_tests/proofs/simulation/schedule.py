"""A schedule of faults for a market: every kind, at random, over well before the market's last session."""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from typing import get_args

import polars as pl

from historical_etl_tests.proofs.simulation.draw import SMALL, Draw
from historical_etl_tests.proofs.simulation.faults import (
    ContradictoryDuplicate,
    DuplicateLastRow,
    Errors,
    Fault,
    Garbage,
    GarbageKind,
    ImpossibleRows,
    IncompleteHistory,
    LateCorrection,
    LateRestatement,
    LostDays,
    NotFound,
    OpenBar,
    Outage,
    Pence,
    PhantomDays,
    RateLimited,
    WrongSplit,
)
from historical_etl_tests.proofs.simulation.market import SimMarket
from historical_etl_tests.proofs.simulation.wrong import wrong_bars, wrong_events

__all__ = ["QUIET_END", "faults_of", "random_faults"]

#: Sessions at the end without any fault: pauses between attempts may be as long as 20.
QUIET_END = 42
#: A correction later than the overlap of an increment reaches cannot be noticed.
_REACH = 4


def random_faults(
    market: SimMarket, seed: int, since: date, *, rounds: int = 1, named: bool = False
) -> tuple[Fault, ...]:
    """Every kind of fault, `rounds` times, from some sessions after `since` on.

    A kind that needs an event (a split that is adjusted late) is left out if the market has none at that time, or if
    it needs a vendor that names its events and this one has them not `named`.
    """
    sessions = market.sessions
    first = next(i for i, day in enumerate(sessions) if day > since) + 8
    draw = Draw(market, random.Random(f"{seed} {market.seed}"), first, len(sessions) - QUIET_END - 2)
    return tuple(fault for _ in range(rounds) for fault in faults_of(draw, named=named))


def faults_of(draw: Draw, *, named: bool) -> Iterator[Fault]:
    """Every kind of fault once, as far as they find room."""
    for kind in (_events, partial(wrong_events, named=named), wrong_bars, _of_symbols, _of_days):
        yield from kind(draw)


def _of_symbols(draw: Draw) -> Iterator[Fault]:
    day = draw.day

    def calm(symbol: str, begin: int, end: int) -> bool:
        del end
        # A store that does not know of a session yet sees the move over it and the next one.
        unknown = day(begin) in draw.market.opened
        return abs(draw.market.moves(symbol).get(day(begin), 1.0)) < SMALL and not unknown

    def lost(begin: int, end: int) -> tuple[date, ...]:
        return tuple(day(i) for i in range(begin, draw.rng.randint(begin, end - 1) + 1))

    # How long at most, and the fault of a symbol from one session to another.
    grave: list[tuple[int, Callable[[str, int, int], Fault]]] = [
        (9, lambda s, b, e: LostDays(s, lost(b, e), start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: LateCorrection(s, day(b), "volume", 0.73, start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: LateCorrection(s, day(b), "close", 1.013, start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: LateCorrection(s, day(b), "high", 1.01, start=day(b), until=day(e))),
        (2, lambda s, b, e: NotFound(s, start=day(b), until=day(e))),
        (30, lambda s, b, e: NotFound(s, start=day(b), until=day(e))),
        (6, lambda s, b, e: ContradictoryDuplicate(s, day(b), start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: ImpossibleRows(s, day(b), "high", 0.001, start=day(b), until=day(e))),
        (5, lambda s, b, e: ImpossibleRows(s, day(b), "close", float("nan"), start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: ImpossibleRows(s, day(b), "low", -3.0, start=day(b), until=day(e))),
        (_REACH, lambda s, b, e: ImpossibleRows(s, day(b), "volume", None, start=day(b), until=day(e))),
        (8, lambda s, b, e: PhantomDays(s, (_weekend(day(b)),), start=day(b), until=day(e))),
        (2, lambda s, b, e: Garbage("nan", s, start=day(b), until=day(e))),
        (2, lambda s, b, e: Garbage("infinite", s, start=day(b), until=day(e))),
        (2, lambda s, b, e: Garbage("tenfold", s, start=day(b), until=day(e))),
        (2, lambda s, b, e: Garbage("lower_case", s, start=day(b), until=day(e))),
    ]
    of_levels: list[tuple[int, Callable[[str, int, int], Fault]]] = [
        (12, lambda s, b, e: Pence(s, day(b), start=day(b), until=day(e))),
        (12, lambda s, b, e: WrongSplit(s, day(b), start=day(b), until=day(e))),
        (5, lambda s, b, e: Pence(s, day(b - draw.rng.randint(1, 4)), start=day(b), until=day(e))),
    ]
    for fits, faults in ((calm, of_levels), (None, grave)):
        for longest, fault in faults:
            if found := draw.grave(longest, fits):
                yield fault(*found)
    begin, end = draw.window(10)
    yield OpenBar(draw.rng.choice(draw.market.names), start=day(begin), until=day(end))


def _events(draw: Draw) -> Iterator[Fault]:
    index = {session: i for i, session in enumerate(draw.market.sessions)}
    events = draw.market.events.filter(pl.col("symbol").is_in(draw.names)).select("symbol", "date", "split", "dividend")
    events = events.rows()
    draw.rng.shuffle(events)
    wanted = ["late split", "late dividend", "incomplete"]
    for symbol, ex, split, dividend in events:
        begin = index[ex]
        if not wanted or not draw.first <= begin <= draw.last - 12:
            continue
        is_split = split != 1.0
        name = next((n for n in wanted if n == "incomplete" or (n == "late split") == is_split), None)
        # The overlap must still reach over the ex-date: a dividend's jump is no larger than any day's.
        end = begin + draw.rng.randint(1, 9 if is_split and split in {2.0, 3.0, 4.0, 7.0} else _REACH - 1)
        if name is None or not draw.is_free(symbol, begin, end):
            continue
        # Three for two, adjusted late and named by nobody, is a fall by a third: nothing tells it from a real one.
        whole = max(split, 1 / split).is_integer()
        if name == "late split" and (dividend or not whole or abs(draw.market.moves(symbol)[ex]) >= SMALL):
            continue
        wanted.remove(name)
        draw.take(symbol, begin, end)
        if name == "incomplete":
            traded = [d for d in draw.market.moves(symbol) if d < draw.day(begin - 15)]
            some = tuple(sorted(draw.rng.sample(traded, min(3, len(traded)))))
            yield IncompleteHistory(symbol, some, start=ex, until=draw.day(end))
        else:
            yield LateRestatement(symbol, start=ex, until=draw.day(end))


def _of_days(draw: Draw) -> Iterator[Fault]:
    day, market = draw.day, draw.market
    for share in (1.0, 0.4):
        begin, end = draw.window(3)
        yield Outage(share, start=day(begin), until=day(end))
    begin, end = draw.common(2)
    yield LostDays(None, (day(begin),), start=day(begin), until=day(end))
    for after in (0, 2):
        begin, end = draw.window(2)
        yield RateLimited(after, start=day(begin), until=day(end))
    for symbol in (None, draw.rng.choice(market.names)):
        begin, end = draw.window(2)
        yield Errors(symbol, start=day(begin), until=day(end))
    begin, end = draw.window(20)
    yield DuplicateLastRow(start=day(begin), until=day(end))
    for kind in get_args(GarbageKind):
        if kind not in {"nan", "infinite"}:
            begin, end = draw.window(2)
            yield Garbage(kind, start=day(begin), until=day(end))


def _weekend(day: date) -> date:
    """The first Saturday after a day."""
    return day + timedelta(days=(5 - day.weekday()) % 7 or 7)
