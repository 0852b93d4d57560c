"""The whole history of one symbol, as fetched now, against all that is stored of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import log, prod
from typing import Final, Literal

import polars as pl

from historical_etl.quality.partial_restatements import other_parts
from historical_etl.quality.price_levels import (
    BEGINNINGS,
    LARGE_RATIO,
    LEVEL_TOLERANCE,
    LEVELS,
    NEAR_HUNDRED,
    factor_of,
    is_beyond,
    is_from_the_beginning,
    is_off,
    on_shared_sessions,
    size_of,
)
from historical_etl.quality.rewritten import has_same_returns, how_it_differs, is_as_a_day_late, rewritten
from historical_etl.quality.split_ratios import read_move
from historical_etl.quality.suspicion import NEAR_SPLIT, Code, Suspicion
from historical_etl.quality.uniform_moves import moved_uniformly

__all__ = ["HistoryVerdict", "judge_history", "nearer"]

#: A smaller share of other closes is corrections.
_FEW_CLOSES: Final = 0.1
#: A price that moved by less may be rounded to what it was.
_CENT: Final = 0.011


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


def judge_history(new: pl.DataFrame, stored: pl.DataFrame, splits: Mapping[date, float]) -> HistoryVerdict:
    """Judge the whole history of one symbol, as fetched now, against all that is stored of it.

    Args:
        new: columns `LEVELS`, sorted by date.
        stored: likewise, at least one row.
        splits: ex-date → ratio of splits that the source names.
    """
    lost = stored.join(new, on="date", how="anti").get_column("date").sort()
    shared = on_shared_sessions(new, stored).sort("date")
    off = shared.filter(is_off("ratio") | is_off("close_ratio"))
    if (words := _without_basis(new, stored, shared)) is not None:
        return HistoryVerdict("suspect", suspicion=Suspicion("incomplete_history", words))
    if off.is_empty():
        off = moved_uniformly(shared)
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

    is_most = bool(rewritten(shared))
    if _is_from_the_beginning(shared, off, is_most=is_most):
        doubt = _doubt(new, shared, lost, ratio, splits)
        corrected = HistoryVerdict(
            "restated", evidence, ratio, first["close_ratio"], unexplained=_unexplained(shared, splits)
        )
    else:
        doubt = _no_correction(shared, off, splits, is_most=is_most)
        corrected = HistoryVerdict("corrected")
    if doubt is None:
        return corrected
    code, words, session = doubt
    if code == "other_history":
        evidence = f"{off.height} of {shared.height} stored closes are others, {first['date']} to {last['date']}"
    return HistoryVerdict("suspect", suspicion=Suspicion(code, f"{evidence}; {words}", ratio, session))


def nearer(one: pl.DataFrame, other: pl.DataFrame, stored: pl.DataFrame) -> dict[str, bool]:
    """Whether one history of a symbol is nearer to the stored one than another, for symbols that can be compared.

    Nearer is the one with the returns that are stored, and of equal ones that with the levels.

    Args:
        one: columns `LEVELS`, and perhaps others.
        other: likewise, of the same symbols.
        stored: likewise.
    """
    keys = ("symbol", "date")
    common = stored.join(one, on=keys, how="semi").join(other, on=keys, how="semi").select(LEVELS)
    first, second = (_distances(rows.select(LEVELS), common) for rows in (one, other))
    return {symbol: distance < second[symbol] for symbol, distance in first.items() if symbol in second}


def _distances(fetched: pl.DataFrame, stored: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """How far returns typically are from the stored ones, to a hundredth of a percent, and levels; by symbol."""
    shared = (
        on_shared_sessions(fetched.unique(("symbol", "date"), keep="first", maintain_order=True), stored)
        .drop_nulls("ratio")
        .sort("symbol", "date")
    )
    off = pl.col("ratio").log()
    distances = shared.group_by("symbol").agg(
        off.diff().abs().median().fill_null(0.0).round(4).alias("returns"), off.abs().median().alias("levels")
    )
    return {symbol: (returns, levels) for symbol, returns, levels in distances.iter_rows()}


def _is_from_the_beginning(shared: pl.DataFrame, off: pl.DataFrame, *, is_most: bool) -> bool:
    """Whether a history differs from its first session on; or where most of it does, from the first that shows it.

    Of a price of a few cents a ratio near 1 makes the same price again.
    """
    if off.join(shared.select(BEGINNINGS), how="cross").select(is_from_the_beginning().any()).item():
        return True
    earlier = shared.filter(pl.col("date") < off.item(0, "date"))
    ratio, close_ratio = off.select("ratio", "close_ratio").row(0)
    change = [pl.col("close_0") * (close_ratio - 1), pl.coalesce("adj_close_0", "close_0") * (ratio - 1)]
    return is_most and earlier.select((pl.max_horizontal(one.abs() for one in change) <= _CENT).all()).item()


def _no_correction(
    shared: pl.DataFrame, off: pl.DataFrame, splits: Mapping[date, float], *, is_most: bool
) -> tuple[Code, str, date | None] | None:
    """Why what differs later than in the first session is no correction."""
    if is_as_a_day_late(shared) or (is_most and not has_same_returns(shared)):
        return "other_history", how_it_differs(shared), None
    if (part := _other_part(shared, splits)) is not None:
        return part
    if is_most:
        return "other_history", how_it_differs(shared), None
    odd = off.filter(pl.any_horizontal(is_beyond(name, LARGE_RATIO) for name in ("ratio", "close_ratio")))
    return None if odd.is_empty() else ("level_jump", "the earlier history is unchanged", off.item(0, "date"))


def _doubt(
    new: pl.DataFrame, shared: pl.DataFrame, lost: pl.Series, ratio: float, splits: Mapping[date, float]
) -> tuple[Code, str, date | None] | None:
    """Why a history that differs from its first session on may still not replace what is stored."""
    if lost.len():
        return "incomplete_history", f"but {lost.len()} stored session(s) did not come, {lost[0]} to {lost[-1]}", None
    bare = shared.filter(pl.col("adj_close").is_null() & pl.col("adj_close_0").is_not_null()).get_column("date")
    if bare.len():
        words = f"but adj_close did not come on {bare.len()} session(s) that have it stored, {bare[0]} to {bare[-1]}"
        return "incomplete_history", words, None
    if not has_same_returns(shared):
        return "other_history", how_it_differs(shared), None
    if (leap := _leap(shared) or _other_part(shared, splits)) is not None:
        return leap
    if factor_of(ratio) == "100" and not _any_near(splits, ratio) and not _has_split(new, shared, ratio):
        return "level_jump", "no split explains a factor near 100", None
    return None


def _has_split(new: pl.DataFrame, shared: pl.DataFrame, ratio: float) -> bool:
    """Whether the new history itself contains a split of this ratio, after all that is stored.

    Its adj_close is restated by the ratio, its closes are as they were, and those of the new bars have moved by it.
    """
    factor = (pl.col("adj_close") / pl.col("close")).alias("factor")
    now, then = (rows.sort("date").select(factor).tail(1).item() for rows in (new, shared.select(new.columns)))
    closes = shared.filter(is_off("close_ratio")).is_empty()
    return closes and bool(now and then) and abs(then / now / ratio - 1) <= NEAR_HUNDRED


def _unexplained(shared: pl.DataFrame, splits: Mapping[date, float]) -> str:
    """That the close of a series with `adj_close` became another one, and no split says why: another currency or basis.

    Without `adj_close` a close may be adjusted for dividends, and moves with each of them.
    """
    moved = shared.filter(is_off("close_ratio"), "adjusted")
    if moved.height <= max(1, _FEW_CLOSES * shared.height):
        return ""
    ratio = float(moved.item(0, "close_ratio"))
    read = read_move(1 / ratio, LEVEL_TOLERANCE)
    if _any_near(splits, ratio) or (read is not None and read[0] != 1):
        return ""
    return (
        f"its close is {ratio:.6g} times the stored one on {moved.item(0, 'date')}, and no split explains it: "
        f"another currency, or an adjusted price in place of the traded one"
    )


def _without_basis(new: pl.DataFrame, stored: pl.DataFrame, shared: pl.DataFrame) -> str | None:
    """Why a new `adj_close` cannot stand beside the stored one: there is no session that has both."""
    fetched, known = new.get_column("adj_close"), stored.get_column("adj_close")
    if not fetched.is_not_null().any() or not known.is_not_null().any() or shared.get_column("adjusted").any():
        return None
    return "no session with a stored adj_close was fetched with one: whether the new one has its basis is not known"


def _any_near(splits: Mapping[date, float], ratio: float) -> bool:
    """Whether a split, or its reverse, has about this ratio."""
    size = max(ratio, 1 / ratio)
    return any(abs(max(split, 1 / split) / size - 1) <= NEAR_HUNDRED for split in splits.values() if split > 0)


def _leap(shared: pl.DataFrame) -> tuple[Code, str, date] | None:
    """The first session where the new history jumps, and the stored one does not."""
    new, old = _moves()
    moves = shared.select("date", pl.max_horizontal(new, 1 / new).alias("move"), (new / old).alias("step"))
    for day, _, step in moves.filter(pl.col("move") > LARGE_RATIO).iter_rows():
        if step and (factor_of(step) or size_of(step) > LARGE_RATIO):
            return "level_jump", f"and on {day} it jumps to another level, which the stored one does not", day
    return None


def _other_part(shared: pl.DataFrame, splits: Mapping[date, float]) -> tuple[Code, str, date] | None:
    """The first session from which on a part of the history is restated, and no split of that day explains it."""
    for _, day, before, ratio, step in other_parts(shared).iter_rows():
        explained = prod(split for on, split in splits.items() if before < on <= day and split > 0) * step
        if abs(log(explained)) > log(1 + NEAR_SPLIT):
            words = f"from {day} on it is {ratio:.6g} times the stored one and {ratio / step:.6g} times on {before}"
            return "level_jump", f"{words}: a part of the history is restated, and no event of that day says why", day
    return None


def _moves() -> tuple[pl.Expr, pl.Expr]:
    """The new and the stored level to the one of the session before, both of adj_close or both of close."""
    names = ("adj_close", "adj_close_0")
    new, old = (pl.col(name) / pl.col(name).shift(1) for name in names)
    close, close_0 = (pl.col(name) / pl.col(name).shift(1) for name in ("close", "close_0"))
    adjusted = new.is_not_null() & old.is_not_null()
    return pl.when(adjusted).then(new).otherwise(close), pl.when(adjusted).then(old).otherwise(close_0)
