"""Price levels: does what came stand on the basis of what is stored, and does it follow on from it?

The level of a bar is its `adj_close`, or its `close` where there is none: so a split or a dividend that the source has
adjusted for is no jump, and a crash is one. Judged are ratios only, symbol by symbol: new to stored on the same
session, and each session to the one before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import log, prod
from typing import Final, Literal

import polars as pl

from historical_etl.quality.spikes import BOUND, Move, half_applied, is_turned_round, proposal, taken_back
from historical_etl.quality.splits import read_move
from historical_etl.schema import symbols_in
from historical_etl.sessions import SessionCalendar

__all__ = [
    "HELD_BACK",
    "LEVELS",
    "TOLERANCE",
    "Code",
    "Comparison",
    "HistoryVerdict",
    "Jumps",
    "Suspicion",
    "compare",
    "judge_history",
    "jumps",
    "of_unknown_basis",
]

#: What a level is judged by.
LEVELS: Final = ("symbol", "date", "close", "adj_close")
#: A ratio further from 1 than this is another level (Yahoo and Tiingo round adjusted prices to six digits or more).
TOLERANCE: Final = 1e-4
#: Moves below this are no candidates for a wrong split.
_LARGE: Final = 1.9
_BREAK: Final = 1.5
_SEAM: Final = 1.2
#: What a named split leaves of a move is told from here on: the ratio may be the wrong one.
_BEYOND_SPLIT: Final = 1.3
_NEAR_SPLIT, _NEAR_HUNDRED = 0.02, 0.05
#: Ticks of exchanges whose prices go down to a few of them, and how far a price may be off from a whole one.
_TICKS: Final = (1e-3, 1e-4, 1e-5, 1e-6)
_TICK_OFF: Final = 0.01
_ROWS_AT_ONCE: Final = 200_000
#: A jump is suspicious only where it stands out from the symbol's own moves: from a few by so many times their median,
#: from many by so many times the tenth that is largest, as logarithms.
_TIMES_MEDIAN, _A_FEW = 5.0, 3
_TIMES_LARGEST_TENTH, _MANY = 3.0, 20
_MOST_SHARES: Final = 50
#: The prices of the bars before and after.
_SIDES: Final = ("close_b", "adj_close_b", "close_a", "adj_close_a")
_BOTH_ADJUSTED: Final = pl.col("adj_close").is_not_null() & pl.col("adj_close_0").is_not_null()
#: Where the comparison of a symbol's levels begins, and where that of its adjusted ones does.
_BEGINNINGS: Final = (
    pl.col("date").min().alias("first"),
    pl.col("date").filter("adjusted").min().alias("first_adjusted"),
)
#: A smaller share of other closes is corrections.
_FEW_CLOSES: Final = 0.1
#: Two histories are of one security if this share of their daily returns agree, up to rounding; one may always differ.
_AGREEING, _SAME_RETURN, _ROUNDING = 0.9, 0.02, 0.011

Code = Literal[
    "level_jump",
    "break_after_gap",
    "no_overlap",
    "other_history",
    "incomplete_history",
    "stale",
    "unexplained_event",
    "adj_close",
    "refused",
    "other_basis",
]
#: The one code under which rows are stored: without their `adj_close`.
HELD_BACK: Final = "adj_close"


@dataclass(frozen=True)
class Suspicion:
    """Why a symbol's rows are held: the rule, what was seen, the ratio of levels, and the session of a jump.

    `against` is the session that the jump was seen against: without the bars of both nothing new is learnt of it.
    """

    code: Code
    evidence: str
    ratio: float | None = None
    session: date | None = None
    against: date | None = None

    def same_as(self, other: "Suspicion") -> bool:
        """Whether both speak of the same thing; the words may differ."""
        if (self.code, self.session) != (other.code, other.session):
            return False
        if self.ratio is None or other.ratio is None:
            return self.ratio is other.ratio
        return abs(self.ratio / other.ratio - 1) <= _NEAR_SPLIT


@dataclass(frozen=True)
class Comparison:
    """New against stored on shared sessions: symbols whose level is another from the earliest one on, and odd ones."""

    moved: frozenset[str]
    suspects: Mapping[str, Suspicion]


@dataclass(frozen=True)
class Jumps:
    """Large moves in new rows: the first suspicious one of each symbol, and the others in words."""

    suspects: Mapping[str, Suspicion]
    moves: tuple[str, ...]


@dataclass(frozen=True)
class HistoryVerdict:
    """What a whole new history is against the stored one; `ratio` and `close_ratio` are of the earliest session.

    `unexplained` says, in words, that the close moved as no split makes it.
    """

    kind: Literal["restated", "corrected", "suspect"]
    evidence: str = ""
    ratio: float | None = None
    close_ratio: float | None = None
    suspicion: Suspicion | None = None
    unexplained: str = ""


def compare(came: pl.DataFrame, stored: pl.DataFrame) -> Comparison:
    """Hold new rows against stored ones on the sessions that both have.

    A level that differs from the earliest shared session on has moved: whether the history was restated shows only
    in the whole of it. One that differs later is a correction, unless by a factor that splits and units have.

    Args:
        came: columns `LEVELS`, keys unique.
        stored: likewise.
    """
    shared = _with_fit(_shared(came, stored))
    off = shared.filter(_is_off("ratio") | _is_off("close_ratio"))
    if off.is_empty():
        return Comparison(frozenset(), {})
    symbols = off.get_column("symbol").unique()
    earliest = shared.filter(pl.col("symbol").is_in(symbols.implode())).group_by("symbol").agg(_BEGINNINGS)
    moved = frozenset(off.join(earliest, on="symbol").filter(_is_from_the_beginning()).get_column("symbol"))
    suspects: dict[str, Suspicion] = {}
    large = off.filter(pl.any_horizontal(_is_beyond(name, _SEAM) for name in ("ratio", "close_ratio")))
    columns = ("symbol", "date", "ratio", "close_ratio", "worse")
    mended = _mended(large, came) if large.height else frozenset[tuple[str, date]]()
    for symbol, day, ratio, close_ratio, worse in large.select(columns).iter_rows():
        if (symbol, day) in mended:
            continue
        odd = next(
            (r for r in (ratio, close_ratio) if r is not None and (_factor(r) or (worse and _size(r) > _SEAM))), None
        )
        if odd is not None and symbol not in moved and symbol not in suspects:
            evidence = f"the new price of {day} is {odd:.6g} times the stored one, and the days before it agree"
            suspects[symbol] = Suspicion("level_jump", evidence + proposal(day, odd), odd, day, day)
    return Comparison(moved, suspects)


def of_unknown_basis(came: pl.DataFrame, stored: pl.DataFrame) -> frozenset[str]:
    """Symbols that bring an `adj_close` which nothing stored can be compared with: only the whole history can tell.

    So it is where an `adj_close` begins to come, or comes again on the earliest shared session; and where it comes
    with new bars and with none of the shared ones.

    Args:
        came: columns `LEVELS`, keys unique.
        stored: likewise.
    """
    given = came.get_column("adj_close").is_not_null()
    if not given.any() or not (
        came.get_column("adj_close").null_count() or stored.get_column("adj_close").null_count()
    ):
        return frozenset()
    givers = came.filter(given).get_column("symbol").unique()
    shared = _shared(came.filter(pl.col("symbol").is_in(givers.implode())), stored)
    first = pl.col("adj_close").sort_by("date").first().is_not_null()
    first_0 = pl.col("adj_close_0").sort_by("date").first().is_null()
    unknown = shared.group_by("symbol").agg(~pl.col("adjusted").any() | (first & first_0)).filter("adjusted")
    return frozenset(unknown.get_column("symbol"))


def jumps(
    came: pl.DataFrame,
    stored: pl.DataFrame,
    calendar: SessionCalendar,
    *,
    long_gap: int,
    splits: Mapping[tuple[str, date], float],
    split_adjusted: bool = False,
    accepted: Callable[[str, Suspicion], bool],
    known_between: Callable[[str, date, date], bool],
) -> Jumps:
    """Large moves into, inside or out of new rows, and which of them only an error or another security makes.

    Args:
        came: columns `LEVELS`, sorted by (symbol, date).
        stored: likewise: the stored rows around and among them.
        calendar: the exchange's sessions.
        long_gap: more sessions than this without a bar make a price break suspicious.
        splits: (symbol, ex-date) → ratio of splits that the source names. They explain a jump of an unadjusted price;
            an adjusted one must not have it.
        split_adjusted: whether the close itself is adjusted for splits.
        accepted: whether a person has let a suspicion of a symbol pass.
        known_between: whether the source was asked for the sessions between two dates of a symbol. What happened
            while nobody looked is no jump.
    """
    found: dict[str, Suspicion] = {}
    moves: list[str] = []
    unpaired: dict[str, list[Move]] = {}
    named = {(symbol, day): split for (symbol, day), split in splits.items() if split > 0}
    of_symbol: dict[str, list[tuple[date, float]]] = {}
    for (symbol, day), split in named.items():
        of_symbol.setdefault(symbol, []).append((day, split))
    parts = _by_symbols(came, stored)
    for pair in (pair for part in parts for pair in _large_moves(_pairs(*part), calendar, long_gap, list(named))):
        if pair.symbol in found:
            continue
        of_mine = of_symbol.get(pair.symbol, ())
        inside = [one for one in of_mine if pair.day_before < one[0] <= pair.day]
        split = prod(ratio for _, ratio in inside)  # an ex-date may have no bar, or be no session
        adjusted = pair.adjusted or split_adjusted
        rest = pair.without(split) if not adjusted and _is_by_split(pair, split) else pair
        words = _in_words(rest, split)
        if rest is not pair and rest.size <= _LARGE:
            moves += words
            continue
        if not known_between(pair.symbol, pair.day_before, pair.day):
            continue
        suspicion = _of_named_split(rest, split, adjusted=adjusted) if rest is pair else None
        if suspicion is None:
            near = [one for one in of_mine if one not in inside]
            suspicion = _suspect(rest, long_gap, unpaired.setdefault(pair.symbol, []), near)
        if suspicion is not None and not accepted(pair.symbol, suspicion):
            found[pair.symbol] = suspicion
        else:
            moves += words
    return Jumps(found, tuple(moves))


@dataclass(frozen=True)
class _Pair:
    """Two neighbouring rows of a symbol, at least one of them new, and the ratio of the later level to the earlier.

    `known` says that the symbol is stored, `unmet` that one row is stored and the other not, and that no stored row
    came again; `apart` counts the sessions between them. `is_new` and `was_new` say of the later and the earlier row
    whether it is new.
    """

    symbol: str
    day: date
    day_before: date
    ratio: float
    size: float
    adjusted: bool
    known: bool
    unmet: bool
    is_new: bool
    was_new: bool
    apart: int

    def without(self, split: float) -> "_Pair":
        """The same pair as if a split were adjusted for."""
        ratio = self.ratio * split
        return replace(self, ratio=ratio, size=max(ratio, 1 / ratio))


def _in_words(pair: _Pair, split: float) -> list[str]:
    """What is told of a move that is stored: a large one, or more than the split that is named for it."""
    times = f"{pair.ratio:.4g} times the one before"
    if split != 1 and pair.size > _BEYOND_SPLIT:
        return [f"{pair.symbol} {pair.day}: the source names a split of {split:g}, and beyond it the level is {times}"]
    return [f"{pair.symbol} {pair.day}: the level is {times}"] if pair.size > _LARGE else []


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
    pair: _Pair, long_gap: int, unpaired: list[Move], splits: Sequence[tuple[date, float]]
) -> Suspicion | None:
    times = f"the level of {pair.day} is {pair.ratio:.4g} times the one before"
    if pair.apart > long_gap and pair.size > _BREAK:
        words = f"after {pair.apart} sessions without a bar {times}"
        return Suspicion("break_after_gap", words, pair.ratio, pair.day, pair.day_before)
    if (half := half_applied(pair.day, pair.ratio, splits)) is not None:
        words = f"{times}, by the ratio of the split of {half[1]:g} on {half[0]}, which is applied in part"
        return Suspicion("level_jump", words, pair.ratio, pair.day, pair.day_before)
    factor = _factor(pair.ratio)
    if factor == "100" or (factor and pair.known) or pair.size >= BOUND:
        words = f"{times}; no event explains it{proposal(pair.day, pair.ratio)}"
        return Suspicion("level_jump", words, pair.ratio, pair.day, pair.day_before)
    if pair.unmet and pair.size > _SEAM:
        words = f"no stored session came again, and {times}"
        return Suspicion("no_overlap", words, pair.ratio, pair.day, pair.day_before)
    if pair.size > _LARGE:  # real moves have any size up to the bound; one that is taken back is none
        back = taken_back(pair.day, pair.ratio, unpaired, _NEAR_SPLIT) if pair.was_new else None
        if back is not None:
            words = f"the level of {back.day} is {back.ratio:.4g} times the one before, and {pair.day} takes it back"
            return Suspicion("level_jump", f"{words}; no event explains them", pair.ratio, back.day, pair.day)
        if pair.is_new:
            unpaired.append(Move(pair.day, pair.ratio, bool(factor)))
    return None


def judge_history(new: pl.DataFrame, stored: pl.DataFrame, splits: Mapping[date, float]) -> HistoryVerdict:
    """Judge the whole history of one symbol, as it came now, against all that is stored of it.

    Args:
        new: columns `LEVELS`, sorted by date.
        stored: likewise, at least one row.
        splits: ex-date → ratio of splits that the source names.
    """
    lost = stored.join(new, on="date", how="anti").get_column("date").sort()
    shared = _shared(new, stored).sort("date")
    off = shared.filter(_is_off("ratio") | _is_off("close_ratio"))
    if (words := _without_basis(new, stored, shared)) is not None:
        return HistoryVerdict("suspect", suspicion=Suspicion("incomplete_history", words))
    if off.is_empty():
        gains = stored.get_column("adj_close").is_null().all() and new.get_column("adj_close").is_not_null().any()
        if gains and lost.is_empty():
            return HistoryVerdict("restated", "adj_close comes for the first time")
        return HistoryVerdict("corrected")
    first, last = off.row(0, named=True), off.row(-1, named=True)
    ratio = first["ratio"]
    evidence = (
        f"the level is {ratio:.6g} times the stored one on {off.height} of {shared.height} sessions, "
        f"{first['date']} to {last['date']}"
    )

    def suspect(code: Code, words: str, session: date | None = None) -> HistoryVerdict:
        return HistoryVerdict("suspect", suspicion=Suspicion(code, words, ratio, session))

    if not off.join(shared.select(_BEGINNINGS), how="cross").select(_is_from_the_beginning().any()).item():
        odd = off.filter(pl.any_horizontal(_is_beyond(name, _LARGE) for name in ("ratio", "close_ratio")))
        words = f"{evidence}; the earlier history is unchanged"
        return HistoryVerdict("corrected") if odd.is_empty() else suspect("level_jump", words, first["date"])
    doubt = _doubt(shared, lost, ratio, splits)
    if doubt is None:
        return HistoryVerdict(
            "restated", evidence, ratio, first["close_ratio"], unexplained=_unexplained(shared, splits)
        )
    code, words, session = doubt
    return suspect(code, f"{evidence}; {words}", session)


def _doubt(
    shared: pl.DataFrame, lost: pl.Series, ratio: float, splits: Mapping[date, float]
) -> tuple[Code, str, date | None] | None:
    """Why a history that differs from its first session on may still not replace what is stored."""
    if lost.len():
        return "incomplete_history", f"but {lost.len()} stored session(s) did not come, {lost[0]} to {lost[-1]}", None
    bare = shared.filter(pl.col("adj_close").is_null() & pl.col("adj_close_0").is_not_null()).get_column("date")
    if bare.len():
        words = f"but adj_close did not come on {bare.len()} session(s) that have it stored, {bare[0]} to {bare[-1]}"
        return "incomplete_history", words, None
    if (leap := _leap(shared)) is not None:
        return "level_jump", f"and on {leap} it jumps to another level, which the stored one does not", leap
    if _factor(ratio) == "100" and not _any_near(splits, ratio):
        return "level_jump", "no split explains a factor near 100", None
    if not _is_same_security(shared):
        return "other_history", "its daily returns are not the stored ones", None
    return None


def _unexplained(shared: pl.DataFrame, splits: Mapping[date, float]) -> str:
    """That the close of a series with `adj_close` became another one, and no split says why: another currency or basis.

    Without `adj_close` a close may be adjusted for dividends, and moves with each of them.
    """
    moved = shared.filter(_is_off("close_ratio"), "adjusted")
    if moved.height <= max(1, _FEW_CLOSES * shared.height):
        return ""
    ratio = float(moved.item(0, "close_ratio"))
    read = read_move(1 / ratio, TOLERANCE)
    if _any_near(splits, ratio) or (read is not None and read[0] != 1):
        return ""
    return (
        f"its close is {ratio:.6g} times the stored one on {moved.item(0, 'date')}, and no split explains it: "
        f"another currency, or an adjusted price in place of the traded one"
    )


def _without_basis(new: pl.DataFrame, stored: pl.DataFrame, shared: pl.DataFrame) -> str | None:
    """Why a new `adj_close` cannot stand beside the stored one: there is no session that has both."""
    came, known = new.get_column("adj_close"), stored.get_column("adj_close")
    if not came.is_not_null().any() or not known.is_not_null().any() or shared.get_column("adjusted").any():
        return None
    return "adj_close came on none of the sessions that have it stored: whether the new one has its basis is not known"


def _any_near(splits: Mapping[date, float], ratio: float) -> bool:
    """Whether a split, or its reverse, has about this ratio."""
    size = max(ratio, 1 / ratio)
    return any(abs(max(split, 1 / split) / size - 1) <= _NEAR_HUNDRED for split in splits.values() if split > 0)


def _shared(came: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    both = came.join(stored, on=("symbol", "date"), how="inner", suffix="_0")
    by_close = (pl.col("close") / pl.col("close_0")).alias("close_ratio")
    return both.with_columns(_ratio().alias("ratio"), by_close, _BOTH_ADJUSTED.alias("adjusted"))


def _mended(large: pl.DataFrame, came: pl.DataFrame) -> frozenset[tuple[str, date]]:
    """Sessions whose new bar stands between its neighbours, while the stored one was far from both: an error mended.

    Args:
        large: shared sessions with another price.
        came: all that came, so that the bar after the last stored session tells, too.
    """
    line = came.filter(pl.col("symbol").is_in(large.get_column("symbol").unique().implode())).sort("symbol", "date")
    known = pl.col("symbol")
    sides = [
        pl.when(known == known.shift(step)).then(pl.col(name).shift(step)).alias(f"{name}_{side}")
        for step, side in ((1, "b"), (-1, "a"))
        for name in ("close", "adj_close")
    ]
    fits, off = pl.lit(value=True), pl.lit(value=True)
    for side in ("b", "a"):
        for name in ("close", "adj_close"):
            now = (pl.col(name) / pl.col(f"{name}_{side}")).log().abs()
            fits &= (now <= log(_SEAM)).fill_null(value=name == "adj_close")
        stored = (pl.col("close_0") / pl.col(f"close_{side}")).log().abs()
        off &= (stored > pl.col("close_ratio").log().abs() / 2).fill_null(value=False)
    found = large.join(line.with_columns(sides).select("symbol", "date", *_SIDES), on=("symbol", "date"))
    return frozenset(found.filter(fits & off).select("symbol", "date").iter_rows())


def _with_fit(shared: pl.DataFrame) -> pl.DataFrame:
    """Whether a new close lies further from the close of the session before than the stored one does: `worse`."""
    before = pl.when(pl.col("symbol") == pl.col("symbol").shift(1)).then(pl.col("close_0").shift(1))
    new, stored = (pl.col("close") / before).log().abs(), (pl.col("close_0") / before).log().abs()
    return shared.with_columns((new > stored).fill_null(value=False).alias("worse"))


def _ratio() -> pl.Expr:
    """The level to the level `_0`: of adj_close where both have it, else of close."""
    return pl.coalesce(pl.col("adj_close") / pl.col("adj_close_0"), pl.col("close") / pl.col("close_0"))


def _is_from_the_beginning() -> pl.Expr:
    """Whether what is off is so on the earliest session that both have, or the earliest on which both are adjusted."""
    return (pl.col("date") == pl.col("first")) | ((pl.col("date") == pl.col("first_adjusted")) & _is_off("ratio"))


def _is_off(column: str) -> pl.Expr:
    return ((pl.col(column) - 1).abs() > TOLERANCE).fill_null(value=False)


def _is_beyond(column: str, size: float) -> pl.Expr:
    return (pl.max_horizontal(pl.col(column), 1 / pl.col(column)) > size).fill_null(value=False)


def _by_symbols(came: pl.DataFrame, stored: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows in parts of whole symbols: a year of thousands of symbols at once would take a lot of memory."""
    symbol = came.get_column("symbol")
    start = 0
    while start < came.height:
        end = min(start + _ROWS_AT_ONCE, came.height)
        first, last = str(symbol[start]), str(symbol[end - 1])
        if end < came.height:
            end = int(symbol.search_sorted(last, side="right"))
        part = came.slice(start, end - start)
        inside = pl.col("symbol").is_between(pl.lit(first), pl.lit(last))
        yield part, stored.filter(inside) if stored.height else stored
        start = end


def _pairs(came: pl.DataFrame, stored: pl.DataFrame) -> pl.LazyFrame:
    line = came.select(*LEVELS, is_new=pl.lit(value=True))
    shared: pl.Series = stored.get_column("symbol").clear()
    if stored.height:
        keys = ["symbol", "date"]
        met = stored.select(*keys, met=pl.lit(value=True))
        line = came.join(met, on=keys, how="left", maintain_order="left")
        line = line.select(*LEVELS, is_new=pl.col("met").is_null())
        again = line.filter(~pl.col("is_new"))
        shared = symbols_in(again)
        if again.height < stored.height:
            alone = stored.join(came, on=keys, how="anti").select(*LEVELS, is_new=pl.lit(value=False))
            line = pl.concat([line, alone]).sort(keys)
    known = pl.col("symbol").is_in(symbols_in(stored).implode())
    before = [pl.col(name).shift(1).alias(f"{name}_0") for name in ("symbol", "date", "close", "adj_close", "is_new")]
    return (
        line.lazy()
        .with_columns(before)
        .filter(pl.col("symbol") == pl.col("symbol_0"))
        .with_columns(
            _ratio().alias("ratio"),
            (pl.col("is_new") | pl.col("is_new_0")).alias("judged"),
            _BOTH_ADJUSTED.alias("adjusted"),
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
    moved = sized.filter("judged", size > _SEAM).collect()
    if moved.is_empty():
        return []
    split = pl.DataFrame({"symbol": sorted({symbol for symbol, _ in named})}, schema={"symbol": pl.String})
    between = (calendar.positions(pl.col("date")) - calendar.positions(pl.col("date_0")) - 1).alias("apart")
    tick = pl.any_horizontal(_is_one_tick(unit) for unit in _TICKS)
    odd = (
        ((size > _LARGE) & ~tick)
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
            "symbol", "date", "date_0", "ratio", "size", "adjusted", "known", "unmet", "is_new", "is_new_0", "apart"
        )
    )
    return [_Pair(*row) for row in large.sort("symbol", "date").iter_rows()]


def _is_one_tick(unit: float) -> pl.Expr:
    """Whether both prices are whole numbers of such a tick, and neighbours: no smaller move could be quoted."""
    now, then = pl.col("close") / unit, pl.col("close_0") / unit
    whole = pl.max_horizontal((now - now.round()).abs(), (then - then.round()).abs()) < _TICK_OFF
    return whole & ((now - then).abs().round() == 1)


def _usual_moves(sized: pl.LazyFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """The largest move that is not exceptional for a symbol, as a logarithm; for symbols of which a few are in view."""
    mine = pl.col("symbol").is_in(moved.get_column("symbol").unique().implode())
    move, seen = pl.col("size").log(), pl.len()
    of_many = pl.when(seen >= _MANY).then(_TIMES_LARGEST_TENTH * move.quantile(0.9)).otherwise(0.0)
    return (
        sized.filter(mine)
        .group_by("symbol")
        .agg(pl.max_horizontal(_TIMES_MEDIAN * move.median(), of_many).alias("usual"), seen.alias("seen"))
        .filter(pl.col("seen") >= _A_FEW)
        .select("symbol", "usual")
        .collect()
    )


def _factor(ratio: float) -> Literal["split", "100", ""]:
    """Whether a ratio is near one that units (100) or splits (n:1) have."""
    size = max(ratio, 1 / ratio) if ratio > 0 else 0.0
    if abs(size / 100 - 1) <= _NEAR_HUNDRED:
        return "100"
    shares = round(size)
    return "split" if 1 < shares <= _MOST_SHARES and abs(size / shares - 1) <= _NEAR_SPLIT else ""


def _size(ratio: float) -> float:
    return max(ratio, 1 / ratio) if ratio > 0 else 0.0


def _is_by_split(pair: _Pair, split: float) -> bool:
    """Whether a level moved by a split rather than not at all: 1 / split is nearer to its ratio than 1 is."""
    return abs(log(pair.ratio * split)) < abs(log(pair.ratio))


def _leap(shared: pl.DataFrame) -> date | None:
    """The first session where the new history jumps, and the stored one does not."""
    new, old = _moves()
    moves = shared.select("date", pl.max_horizontal(new, 1 / new).alias("move"), (new / old).alias("step"))
    steps = moves.filter(pl.col("move") > _LARGE)
    return next((day for day, _, step in steps.iter_rows() if step and (_factor(step) or _size(step) > _LARGE)), None)


def _moves() -> tuple[pl.Expr, pl.Expr]:
    """The new and the stored level to the one of the session before, both of adj_close or both of close."""
    names = ("adj_close", "adj_close_0")
    new, old = (pl.col(name) / pl.col(name).shift(1) for name in names)
    close, close_0 = (pl.col(name) / pl.col(name).shift(1) for name in ("close", "close_0"))
    adjusted = new.is_not_null() & old.is_not_null()
    return pl.when(adjusted).then(new).otherwise(close), pl.when(adjusted).then(old).otherwise(close_0)


def _is_same_security(shared: pl.DataFrame) -> bool:
    new, old = _moves()
    rounding = _ROUNDING / pl.min_horizontal(pl.coalesce("adj_close", "close"), pl.coalesce("adj_close_0", "close_0"))
    agree = ((new / old - 1).abs() <= pl.max_horizontal(_SAME_RETURN, rounding)).drop_nulls()
    told, agreeing = shared.select(agree.count().alias("told"), agree.sum().alias("agreeing")).row(0)
    return told - agreeing <= max(1, (1 - _AGREEING) * told)
