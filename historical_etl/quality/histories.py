"""The whole histories of symbols, as fetched now, against all that is stored of them."""

from collections.abc import Collection, Mapping
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
from historical_etl.quality.rewritten import as_a_day_late, how_it_differs, other_returns, returns, rewritten
from historical_etl.quality.split_ratios import read_move
from historical_etl.quality.suspicion import NEAR_SPLIT, Code, Suspicion
from historical_etl.quality.uniform_moves import moved_uniformly
from historical_etl.schema import ORDER, symbols_in

__all__ = ["HistoryVerdict", "judge_histories", "nearer"]

#: A smaller share of other closes is corrections.
_FEW_CLOSES: Final = 0.1
#: A price that moved by less may be rounded to what it was.
_CENT: Final = 0.011
#: Symbol → ex-date → ratio of the splits that the source names.
Splits = Mapping[str, Mapping[date, float]]
#: Why a history may not replace what is stored: the code, the words, and the session.
_Doubt = tuple[Code, str, date | None]


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


@dataclass(frozen=True)
class _Move:
    """How a history differs from the stored one.

    Attributes:
        sessions: how many both have.
        off: on how many of them the level is another one.
        first: the first one of those.
        last: the last one.
        ratio: new to stored level on the first one.
        close_ratio: likewise, of the close.
        begins: whether it is where the comparison begins.
        is_large: whether it is one of `LARGE_RATIO` anywhere.
    """

    sessions: int
    off: int
    first: date
    last: date
    ratio: float
    close_ratio: float
    begins: bool
    is_large: bool


def judge_histories(new: pl.DataFrame, stored: pl.DataFrame, splits: Splits) -> dict[str, HistoryVerdict]:
    """Judge the whole histories of some symbols, as fetched now, against all that is stored of them.

    Args:
        new: columns `LEVELS`, sorted by (symbol, date).
        stored: likewise.
        splits: those that the source names.

    Returns:
        symbol → what becomes of it, for all that have a row anywhere.
    """
    verdicts = dict.fromkeys({*symbols_in(new), *symbols_in(stored)}, HistoryVerdict("corrected"))
    shared = on_shared_sessions(new, stored)
    lost = _spans(stored.join(new, on=ORDER, how="anti")) if shared.height < stored.height else {}
    off = _off(shared)
    given, known, both = (_with_adj_close(rows) for rows in (new, stored, shared.filter("adjusted")))
    baseless = (given & known) - both
    moves = {symbol: move for symbol, move in _moves(shared, off).items() if symbol not in baseless}
    first_time = given - known - moves.keys() - lost.keys()
    verdicts |= dict.fromkeys(first_time, HistoryVerdict("restated", "adj_close comes for the first time"))

    restated, most = _from_the_beginning(shared, moves)
    whole, others = _of(shared, restated), _of(shared, moves.keys() - restated)
    unexplained = _unexplained(whole, splits)
    doubts = {**_doubts(new, whole, moves, lost, splits), **_no_corrections(others, moves, most, splits)}
    for symbol, move in moves.items():
        evidence = (
            f"the level is {move.ratio:.6g} times the stored one on {move.off} of {move.sessions} sessions, "
            f"{move.first} to {move.last}"
        )
        if (doubt := doubts.get(symbol)) is not None:
            code, words, session = doubt
            if code == "other_history":
                evidence = f"{move.off} of {move.sessions} stored closes are others, {move.first} to {move.last}"
            why = Suspicion(code, f"{evidence}; {words}", move.ratio, session)
            verdicts[symbol] = HistoryVerdict("suspect", suspicion=why)
        elif symbol in restated:
            words = unexplained.get(symbol, "")
            verdicts[symbol] = HistoryVerdict("restated", evidence, move.ratio, move.close_ratio, unexplained=words)
    words = "no session with a stored adj_close was fetched with one: whether the new one has its basis is not known"
    without = HistoryVerdict("suspect", suspicion=Suspicion("incomplete_history", words))
    return verdicts | dict.fromkeys(baseless, without)


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


def _off(shared: pl.DataFrame) -> pl.DataFrame:
    """The sessions on another level, however small the move is that all of a symbol have in common."""
    off = shared.filter(is_off("ratio") | is_off("close_ratio"))
    near = shared.filter(~pl.col("symbol").is_in(symbols_in(off).implode()))
    return pl.concat([off, moved_uniformly(near)]) if near.height else off


def _moves(shared: pl.DataFrame, off: pl.DataFrame) -> dict[str, _Move]:
    if off.is_empty():
        return {}
    begins = shared.lazy().group_by("symbol").agg(*BEGINNINGS, pl.len().alias("sessions"))
    is_large = pl.any_horizontal(is_beyond(name, LARGE_RATIO) for name in ("ratio", "close_ratio"))
    moves = (
        off.lazy()
        .join(begins, on="symbol", maintain_order="left")
        .with_columns(is_from_the_beginning().alias("begins"), is_large.alias("is_large"))
        .group_by("symbol", maintain_order=True)
        .agg(
            pl.col("sessions").first(),
            pl.len(),
            pl.col("date").first(),
            pl.col("date").last().alias("until"),
            pl.col("ratio", "close_ratio").first(),
            pl.col("begins", "is_large").any(),
        )
        .collect()
    )
    return {symbol: _Move(*values) for symbol, *values in moves.iter_rows()}


def _of(rows: pl.DataFrame, symbols: Collection[str]) -> pl.DataFrame:
    return rows.filter(pl.col("symbol").is_in(list(symbols))) if symbols else rows.clear()


def _spans(rows: pl.DataFrame) -> dict[str, tuple[int, date, date]]:
    """The number of rows of each symbol, and the first and the last session among them."""
    spans = rows.group_by("symbol").agg(pl.len(), pl.col("date").min(), pl.col("date").max().alias("until"))
    return {symbol: (count, first, last) for symbol, count, first, last in spans.iter_rows()}


def _with_adj_close(rows: pl.DataFrame) -> set[str]:
    symbols = rows.lazy().filter(pl.col("adj_close").is_not_null()).select(pl.col("symbol").unique())
    return set(symbols.collect().to_series())


def _from_the_beginning(shared: pl.DataFrame, moves: Mapping[str, _Move]) -> tuple[set[str], frozenset[str]]:
    """The symbols that differ from their first session on, or most of which does, from the first that shows it.

    Of a price of a few cents a ratio near 1 makes the same price again. Of the others those are given, too, most of
    which differs.
    """
    found = {symbol for symbol, move in moves.items() if move.begins}
    others = moves.keys() - found
    most = rewritten(_of(shared, others)) if others else frozenset[str]()
    for symbol in most:
        move = moves[symbol]
        earlier = shared.filter(pl.col("symbol") == symbol, pl.col("date") < move.first)
        change = [
            pl.col("close_0") * (move.close_ratio - 1),
            pl.coalesce("adj_close_0", "close_0") * (move.ratio - 1),
        ]
        if earlier.select((pl.max_horizontal(one.abs() for one in change) <= _CENT).all()).item():
            found.add(symbol)
    return found, most - found


def _no_corrections(
    shared: pl.DataFrame, moves: Mapping[str, _Move], most: Collection[str], splits: Splits
) -> dict[str, _Doubt]:
    """Why what differs later than in the first session is no correction, of symbols that have such a reason."""
    if shared.is_empty():
        return {}
    late, others, parts = as_a_day_late(shared), other_returns(shared), _other_parts(shared, splits)
    found: dict[str, _Doubt] = {}
    for symbol in symbols_in(shared):
        move = moves[symbol]
        if symbol in late or (symbol in most and (symbol in others or symbol not in parts)):
            found[symbol] = "other_history", how_it_differs(_of(shared, [symbol])), None
        elif symbol in parts:
            found[symbol] = parts[symbol]
        elif move.is_large:
            found[symbol] = "level_jump", "the earlier history is unchanged", move.first
    return found


def _doubts(
    new: pl.DataFrame,
    shared: pl.DataFrame,
    moves: Mapping[str, _Move],
    lost: Mapping[str, tuple[int, date, date]],
    splits: Splits,
) -> dict[str, _Doubt]:
    """Why histories that differ from their first session on may still not replace what is stored."""
    if shared.is_empty():
        return {}
    bare = _spans(shared.filter(pl.col("adj_close").is_null() & pl.col("adj_close_0").is_not_null()))
    others, jumps = other_returns(shared), {**_other_parts(shared, splits), **_leaps(shared)}
    found: dict[str, _Doubt] = {}
    for symbol in symbols_in(shared):
        ratio = moves[symbol].ratio
        if symbol in lost:
            count, first, last = lost[symbol]
            words = f"but {count} stored session(s) did not come, {first} to {last}"
            found[symbol] = "incomplete_history", words, None
        elif symbol in bare:
            count, first, last = bare[symbol]
            words = f"but adj_close did not come on {count} session(s) that have it stored, {first} to {last}"
            found[symbol] = "incomplete_history", words, None
        elif symbol in others:
            found[symbol] = "other_history", how_it_differs(_of(shared, [symbol])), None
        elif symbol in jumps:
            found[symbol] = jumps[symbol]
        elif (
            factor_of(ratio) == "100"
            and not _any_near(splits.get(symbol, {}), ratio)
            and not _has_split(_of(new, [symbol]), _of(shared, [symbol]), ratio)
        ):
            found[symbol] = "level_jump", "no split explains a factor near 100", None
    return found


def _has_split(new: pl.DataFrame, shared: pl.DataFrame, ratio: float) -> bool:
    """Whether the new history itself contains a split of this ratio, after all that is stored.

    Its adj_close is restated by the ratio, its closes are as they were, and those of the new bars have moved by it.
    """
    factor = (pl.col("adj_close") / pl.col("close")).alias("factor")
    now, then = (rows.select(factor).tail(1).item() for rows in (new, shared.select(new.columns)))
    closes = shared.filter(is_off("close_ratio")).is_empty()
    return closes and bool(now and then) and abs(then / now / ratio - 1) <= NEAR_HUNDRED


def _unexplained(shared: pl.DataFrame, splits: Splits) -> dict[str, str]:
    """That the close of a series with `adj_close` became another one, and no split says why: another currency or basis.

    Without `adj_close` a close may be adjusted for dividends, and moves with each of them.
    """
    is_moved = is_off("close_ratio") & pl.col("adjusted")
    moved = (
        shared.lazy()
        .group_by("symbol", maintain_order=True)
        .agg(is_moved.sum().alias("moved"), pl.len(), pl.col("date", "close_ratio").filter(is_moved).first())
    )
    most = pl.col("moved") > pl.max_horizontal(pl.lit(1.0), _FEW_CLOSES * pl.col("len"))
    found: dict[str, str] = {}
    for symbol, day, ratio in moved.filter(most).select("symbol", "date", "close_ratio").collect().iter_rows():
        read = read_move(1 / ratio, LEVEL_TOLERANCE)
        if not _any_near(splits.get(symbol, {}), ratio) and (read is None or read[0] == 1):
            found[symbol] = (
                f"its close is {ratio:.6g} times the stored one on {day}, and no split explains it: "
                f"another currency, or an adjusted price in place of the traded one"
            )
    return found


def _any_near(splits: Mapping[date, float], ratio: float) -> bool:
    """Whether a split, or its reverse, has about this ratio."""
    size = max(ratio, 1 / ratio)
    return any(abs(max(split, 1 / split) / size - 1) <= NEAR_HUNDRED for split in splits.values() if split > 0)


def _leaps(shared: pl.DataFrame) -> dict[str, _Doubt]:
    """The first session where the new history jumps, and the stored one does not."""
    new, old = returns()
    moves = shared.lazy().select(*ORDER, new.alias("move"), (new / old).alias("step"))
    found: dict[str, _Doubt] = {}
    for symbol, day, _, step in moves.filter(is_beyond("move", LARGE_RATIO)).collect().iter_rows():
        if symbol not in found and step and (factor_of(step) or size_of(step) > LARGE_RATIO):
            words = f"and on {day} it jumps to another level, which the stored one does not"
            found[symbol] = "level_jump", words, day
    return found


def _other_parts(shared: pl.DataFrame, splits: Splits) -> dict[str, _Doubt]:
    """The first session from which on a part of the history is restated, and no split of that day explains it."""
    found: dict[str, _Doubt] = {}
    for symbol, day, before, ratio, step in other_parts(shared).iter_rows():
        known = splits.get(symbol, {})
        explained = prod(split for on, split in known.items() if before < on <= day and split > 0) * step
        if symbol not in found and abs(log(explained)) > log(1 + NEAR_SPLIT):
            words = f"from {day} on it is {ratio:.6g} times the stored one and {ratio / step:.6g} times on {before}"
            words += ": a part of the history is restated, and no event of that day says why"
            found[symbol] = "level_jump", words, day
    return found
