"""Jumps: does each bar follow on from the one before it, in levels?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import log, prod
from typing import Final

import polars as pl

from historical_etl.quality.outlier_runs import Days, Jump, with_runs
from historical_etl.quality.price_levels import BOTH_ADJUSTED, LARGE_RATIO, LEVELS, SEAM, factor_of, ratio_of_levels
from historical_etl.quality.spikes import BOUND, PriceMove, half_applied, is_turned_round, proposal, taken_back
from historical_etl.quality.suspicion import NEAR_SPLIT, Suspicion
from historical_etl.schema import ORDER, symbols_in
from historical_etl.sessions import SessionCalendar

__all__ = ["Jumps", "jumps", "with_large_moves"]

#: After a long gap a smaller move counts.
_BREAK: Final = 1.5
#: A move this far from 1 may be one beyond a seam, however it is rounded.
_LOOKED_AT: Final = 0.999 * SEAM
#: What a named split leaves of a move is reported from here on: the ratio may be the wrong one.
_BEYOND_SPLIT: Final = 1.3
#: Ticks of exchanges whose prices go down to a few of them, and how far a price may be off from a whole one.
_TICKS: Final = (1e-3, 1e-4, 1e-5, 1e-6)
_TICK_OFF: Final = 0.01
_ROWS_AT_ONCE: Final = 200_000
#: A jump is suspicious only where it differs from the symbol's own moves: from a few by so many times their median,
#: from many by so many times the tenth that is largest, as logarithms.
_TIMES_MEDIAN, _A_FEW = 5.0, 3
_TIMES_LARGEST_TENTH, _MANY = 3.0, 20
#: A move has the ratio of a split if what is left of it is no more than 2 %, or so many median moves up to a bound.
_TIMES_NEAR, _NEAREST = 3.0, 0.035
#: So many jumps of a symbol are reported, and decided, at once.
_MOST_HELD: Final = 10


@dataclass(frozen=True)
class Jumps:
    """Large moves in new rows.

    Attributes:
        suspects: the suspicious ones of each symbol, by date.
        moves: the others, in words.
        passed: suspicious ones that a person has let pass: the last one of each symbol.
    """

    suspects: Mapping[str, Sequence[Suspicion]]
    moves: tuple[str, ...]
    passed: Mapping[str, Suspicion]


def with_large_moves(line: pl.DataFrame) -> pl.Series:
    """The symbols of which a level may have moved enough to be looked at; of all others `jumps` finds nothing.

    Args:
        line: all rows, new and stored, columns `LEVELS`, sorted by (symbol, date).
    """
    symbol = pl.col("symbol")
    ratio = pl.coalesce(pl.col(name) / pl.col(name).shift() for name in ("adj_close", "close"))
    moved = ~ratio.is_between(1 / _LOOKED_AT, _LOOKED_AT)
    return line.select(symbol.filter(moved & (symbol == symbol.shift())).unique()).to_series()


def jumps(
    fetched: pl.DataFrame,
    stored: pl.DataFrame,
    calendar: SessionCalendar,
    *,
    long_gap: int,
    splits: Mapping[tuple[str, date], float],
    split_adjusted: bool = False,
    accepted: Callable[[str, Suspicion], bool],
    known_between: Callable[[str, date, date], bool],
    again: pl.DataFrame | None = None,
) -> Jumps:
    """Large moves into, inside or out of new rows, and which of them only an error or another security makes.

    Args:
        fetched: columns `LEVELS`, sorted by (symbol, date).
        stored: likewise: the stored rows around and among them.
        calendar: the exchange's sessions.
        long_gap: more sessions than this without a bar make a price break suspicious.
        splits: (symbol, ex-date) → ratio of splits that the source names. They explain a jump of an unadjusted price;
            an adjusted one must not have it.
        split_adjusted: whether the close itself is adjusted for splits.
        accepted: whether a person has let a suspicion of a symbol pass.
        known_between: whether the source was asked for the sessions between two dates of a symbol. What happened
            while nobody looked is no jump.
        again: columns symbol and date of stored rows that are judged as new ones are.
    """
    found: dict[str, list[Jump]] = {}
    moves: list[str] = []
    unpaired: dict[str, list[PriceMove]] = {}
    named = {(symbol, day): split for (symbol, day), split in splits.items() if split > 0}
    of_symbol: dict[str, list[tuple[date, float]]] = {}
    for (symbol, day), split in named.items():
        of_symbol.setdefault(symbol, []).append((day, split))
    parts = _by_symbols(fetched, stored)
    for pair in (
        pair for part in parts for pair in _large_moves(_pairs(*part, again), calendar, long_gap, list(named))
    ):
        of_mine = of_symbol.get(pair.symbol, ())
        inside = [one for one in of_mine if pair.day_before < one[0] <= pair.day]
        split = prod(ratio for _, ratio in inside)  # an ex-date may have no bar, or be no session
        adjusted = pair.adjusted or split_adjusted
        rest = pair.without(split) if not adjusted and _is_by_split(pair, split) else pair
        words = _in_words(rest, split)
        if rest is not pair and rest.size <= LARGE_RATIO:
            moves += words
            continue
        if not known_between(pair.symbol, pair.day_before, pair.day):
            continue
        near = [one for one in of_mine if one not in inside]
        suspicion = _of_named_split(rest, split, adjusted=adjusted) if rest is pair else None
        suspicion = suspicion or _way_back(rest, found.get(pair.symbol, ()))
        suspicion = suspicion or _suspect(rest, long_gap, unpaired.setdefault(pair.symbol, []), near)
        if suspicion is not None:
            of_itself = suspicion.code == "level_jump" and suspicion.session == rest.day
            is_plain = split == 1 and of_itself and half_applied(rest.day, rest.ratio, near) is None
            found.setdefault(pair.symbol, []).append(Jump(suspicion, words, is_plain))
        else:
            moves += words
    suspects: dict[str, list[Suspicion]] = {}
    passed: dict[str, Suspicion] = {}
    for symbol, jumped in found.items():
        for jump in with_runs(jumped, lambda symbol=symbol: _days_of(symbol, fetched, stored)):
            if accepted(symbol, jump.suspicion):
                moves += jump.words
                passed[symbol] = jump.suspicion
            else:
                suspects.setdefault(symbol, []).append(jump.suspicion)
    return Jumps({symbol: reasons[:_MOST_HELD] for symbol, reasons in suspects.items()}, tuple(moves), passed)


def _days_of(symbol: str, fetched: pl.DataFrame, stored: pl.DataFrame) -> Days:
    mine = [frame.filter(pl.col("symbol") == symbol).get_column("date") for frame in (fetched, stored)]
    return Days(sorted({*mine[0], *mine[1]}), frozenset(mine[1]))


@dataclass(frozen=True)
class _Pair:
    """Two neighbouring rows of a symbol, at least one of them new, and the ratio of the later level to the earlier.

    `known` says that the symbol is stored, `has_no_overlap` that one row is stored and the other not, and that no
    stored row was fetched again; `apart` counts the sessions between them. `is_new` and `was_new` say of the later and
    the earlier row whether it is new. `near` is how near to the ratio of a split a move is of one.
    """

    symbol: str
    day: date
    day_before: date
    ratio: float
    size: float
    adjusted: bool
    known: bool
    has_no_overlap: bool
    is_new: bool
    was_new: bool
    apart: int
    near: float

    def without(self, split: float) -> "_Pair":
        """The same pair as if a split were adjusted for."""
        ratio = self.ratio * split
        return replace(self, ratio=ratio, size=max(ratio, 1 / ratio))


def _in_words(pair: _Pair, split: float) -> list[str]:
    """The warning about a move that is stored: a large one, or more than the split that is named for it."""
    times = f"{pair.ratio:.4g} times the one before"
    if split != 1 and pair.size > _BEYOND_SPLIT:
        return [f"{pair.symbol} {pair.day}: the source names a split of {split:g}, and beyond it the level is {times}"]
    return [f"{pair.symbol} {pair.day}: the level is {times}"] if pair.size > LARGE_RATIO else []


def _of_named_split(pair: _Pair, split: float, *, adjusted: bool) -> Suspicion | None:
    """What contradicts a split that is named for a move and does not explain it."""
    if is_turned_round(pair.ratio, split, adjusted=adjusted):
        words = f"the source names a split of {split:g} on {pair.day}, and the price moved as by {1 / split:g}"
    elif split != 1 and adjusted and _is_by_split(pair, split):
        words = f"the source names a split of {split:g} on {pair.day} and has not adjusted its history for it"
    else:
        return None
    return Suspicion("level_jump", words, pair.ratio, pair.day, pair.day_before)


def _suspect(
    pair: _Pair, long_gap: int, unpaired: list[PriceMove], splits: Sequence[tuple[date, float]]
) -> Suspicion | None:
    times = _of_times(pair)
    if pair.apart > long_gap and pair.size > _BREAK:
        words = f"after {pair.apart} sessions without a bar {times}"
        return Suspicion("break_after_gap", words, pair.ratio, pair.day, pair.day_before)
    if (half := half_applied(pair.day, pair.ratio, splits)) is not None:
        words = f"{times}, by the ratio of the split of {half[1]:g} on {half[0]}, which is applied in part"
        return Suspicion("level_jump", words, pair.ratio, pair.day, pair.day_before)
    factor = factor_of(pair.ratio, pair.near)
    if factor == "100" or (factor and pair.known) or pair.size >= BOUND:
        words = f"{times}; no event explains it{proposal(f'the bars from {pair.day} on', pair.ratio)}"
        return Suspicion("level_jump", words, pair.ratio, pair.day, pair.day_before)
    if pair.has_no_overlap and pair.size > SEAM:
        words = f"no stored session was fetched again, and {times}"
        return Suspicion("no_overlap", words, pair.ratio, pair.day, pair.day_before)
    if pair.size > LARGE_RATIO:  # real moves have any size up to the bound; one that is taken back is none
        back = taken_back(pair.day, pair.ratio, unpaired, pair.near) if pair.was_new else None
        if back is not None:
            words = f"the level of {back.day} is {back.ratio:.4g} times the one before, and {pair.day} takes it back"
            return Suspicion("level_jump", f"{words}; no event explains them", pair.ratio, back.day, pair.day)
        if pair.is_new:
            unpaired.append(PriceMove(pair.day, pair.ratio, bool(factor)))
    return None


def _way_back(pair: _Pair, jumped: Sequence[Jump]) -> Suspicion | None:
    """A move that is none of its own, and takes back the jump before it."""
    plain = [one.suspicion for one in jumped[-1:] if one.is_plain]
    away = [PriceMove(one.session, one.ratio, near=False) for one in plain if one.session and one.ratio]
    if not pair.was_new or taken_back(pair.day, pair.ratio, away, pair.near) is None:
        return None
    return Suspicion("level_jump", _of_times(pair), pair.ratio, pair.day, pair.day_before)


def _of_times(pair: _Pair) -> str:
    return f"the level of {pair.day} is {pair.ratio:.4g} times the one before"


def _by_symbols(fetched: pl.DataFrame, stored: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows in parts of whole symbols: a year of thousands of symbols at once would take a lot of memory."""
    symbol = fetched.get_column("symbol")
    start = 0
    while start < fetched.height:
        end = min(start + _ROWS_AT_ONCE, fetched.height)
        first, last = str(symbol[start]), str(symbol[end - 1])
        if end < fetched.height:
            end = int(symbol.search_sorted(last, side="right"))
        part = fetched.slice(start, end - start)
        inside = pl.col("symbol").is_between(pl.lit(first), pl.lit(last))
        yield part, stored.filter(inside) if stored.height else stored
        start = end


def _pairs(fetched: pl.DataFrame, stored: pl.DataFrame, again: pl.DataFrame | None) -> pl.LazyFrame:
    line = fetched.select(*LEVELS, is_new=pl.lit(value=True))
    shared: pl.Series = stored.get_column("symbol").clear()
    if stored.height:
        matched = stored.select(*ORDER, matched=pl.lit(value=True))
        line = fetched.join(matched, on=ORDER, how="left", maintain_order="left").select(
            *LEVELS, is_new=pl.col("matched").is_null()
        )
        old = line.filter(~pl.col("is_new"))
        shared = symbols_in(old)
        if old.height < stored.height:
            alone = stored.join(fetched, on=ORDER, how="anti").select(*LEVELS, is_new=pl.lit(value=False))
            line = pl.concat([line, alone]).sort(ORDER)
    judged = pl.col("is_new") | pl.col("is_new_0")
    if again is not None and again.height:
        line = line.join(again.with_columns(again=pl.lit(value=True)), on=ORDER, how="left", maintain_order="left")
        judged |= pl.col("again").is_not_null()
    known = pl.col("symbol").is_in(symbols_in(stored).implode())
    before = [pl.col(name).shift(1).alias(f"{name}_0") for name in ("symbol", "date", "close", "adj_close", "is_new")]
    return (
        line.lazy()
        .with_columns(before)
        .filter(pl.col("symbol") == pl.col("symbol_0"))
        .with_columns(
            ratio_of_levels().alias("ratio"),
            judged.alias("judged"),
            BOTH_ADJUSTED.alias("adjusted"),
            known.alias("known"),
            (known & ~pl.col("symbol").is_in(shared.implode()) & (pl.col("is_new") != pl.col("is_new_0"))).alias(
                "unmet"
            ),
        )
    )


def _large_moves(
    pairs: pl.LazyFrame, calendar: SessionCalendar, long_gap: int, named: Sequence[tuple[str, date]]
) -> list[_Pair]:
    size, apart = pl.col("size"), pl.col("apart")
    sized = pairs.with_columns(pl.max_horizontal("ratio", 1 / pl.col("ratio")).alias("size"))
    moved = sized.filter("judged", size > SEAM).collect()
    if moved.is_empty():
        return []
    split = pl.DataFrame({"symbol": sorted({symbol for symbol, _ in named})}, schema={"symbol": pl.String})
    between = (calendar.positions(pl.col("date")) - calendar.positions(pl.col("date_0")) - 1).alias("apart")
    tick = pl.any_horizontal(_is_one_tick(unit) for unit in _TICKS)
    odd = (
        ((size > LARGE_RATIO) & ~tick)
        | ((apart > long_gap) & (size > _BREAK))
        | pl.col("unmet")
        | pl.col("named").is_not_null()
    )
    large = (
        moved.with_columns(between)
        .join(split.with_columns(named=pl.lit(value=True)), on="symbol", how="left")
        .filter(odd)
        .join(_usual_moves(sized, moved), on="symbol", how="left")
        .filter(pl.col("usual").is_null() | (size.log() > pl.col("usual")))
        .select(
            *("symbol", "date", "date_0", "ratio", "size", "adjusted", "known", "unmet", "is_new", "is_new_0", "apart"),
            pl.col("near").fill_null(NEAR_SPLIT),
        )
    )
    return [_Pair(*row) for row in large.sort("symbol", "date").iter_rows()]


def _is_one_tick(unit: float) -> pl.Expr:
    """Whether both prices are whole numbers of such a tick, and neighbours: no smaller move could be quoted."""
    now, then = pl.col("close") / unit, pl.col("close_0") / unit
    whole = pl.max_horizontal((now - now.round()).abs(), (then - then.round()).abs()) < _TICK_OFF
    return whole & ((now - then).abs().round() == 1)


def _usual_moves(sized: pl.LazyFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """By symbol of which a few moves are in view: the largest `usual` one, as a logarithm, and what is `near`."""
    mine = pl.col("symbol").is_in(moved.get_column("symbol").unique().implode())
    move, seen = pl.col("size").log(), pl.len()
    of_many = pl.when(seen >= _MANY).then(_TIMES_LARGEST_TENTH * move.quantile(0.9)).otherwise(0.0)
    return (
        sized.filter(mine)
        .group_by("symbol")
        .agg(
            pl.max_horizontal(_TIMES_MEDIAN * move.median(), of_many).alias("usual"),
            (_TIMES_NEAR * move.median()).clip(NEAR_SPLIT, _NEAREST).alias("near"),
            seen.alias("seen"),
        )
        .filter(pl.col("seen") >= _A_FEW)
        .select("symbol", "usual", "near")
        .collect()
    )


def _is_by_split(pair: _Pair, split: float) -> bool:
    """Whether a level moved by a split rather than not at all: 1 / split is nearer to its ratio than 1 is."""
    return abs(log(pair.ratio * split)) < abs(log(pair.ratio))
