"""The overlap: are fetched bars on the price basis of the stored ones?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import log
from typing import Final

import polars as pl

from historical_etl.quality.partial_restatements import other_parts
from historical_etl.quality.price_levels import (
    BEGINNINGS,
    SEAM,
    factor_of,
    is_beyond,
    is_from_the_beginning,
    is_off,
    on_shared_sessions,
    size_of,
)
from historical_etl.quality.rewritten import rewritten
from historical_etl.quality.spikes import proposal
from historical_etl.quality.suspicion import Suspicion
from historical_etl.quality.uniform_moves import moved_uniformly

__all__ = ["OverlapResult", "compare_overlap", "of_unknown_basis", "single_bars"]

#: Ratios this near to each other are one, and ratios this near to 1 are none.
_ONE_SCALE: Final = 1.02
_SESSIONS_OF_A_SCALE: Final = 3
#: The prices of the bars before and after.
_SIDES: Final = ("close_b", "adj_close_b", "close_a", "adj_close_a")


@dataclass(frozen=True)
class OverlapResult:
    """New against stored on shared sessions: symbols whose whole history is to be looked at, and odd ones.

    Of those in `single` the new bars of some sessions are odd, and nothing else is.
    """

    moved: frozenset[str]
    suspects: Mapping[str, Suspicion]
    single: Mapping[str, Sequence[Suspicion]]


def compare_overlap(fetched: pl.DataFrame, stored: pl.DataFrame) -> OverlapResult:
    """Hold new rows against stored ones on the sessions that both have.

    A level that differs from the earliest shared session on has moved, and so have volumes that all differ by one
    ratio: whether the history was restated shows only in the whole of it. So has a level that differs later by one
    ratio over several sessions, or where most sessions differ. One that differs on single sessions is a correction,
    unless by a factor that splits and units have: such a bar is odd. However small a move is, one of all sessions by
    one ratio is no correction.

    Args:
        fetched: columns `LEVELS`, keys unique.
        stored: likewise.
    """
    shared = on_shared_sessions(fetched, stored)
    same = pl.all_horizontal(
        pl.col("ratio") == 1, pl.col("close_ratio") == 1, pl.col("volume").eq_missing(pl.col("volume_0"))
    )
    if shared.select(same.all(ignore_nulls=False)).item():
        return OverlapResult(frozenset(), {}, {})
    shared = _with_fit(shared)
    scaled = _on_another_scale(shared) | frozenset(moved_uniformly(shared).get_column("symbol"))
    off = shared.filter(is_off("ratio") | is_off("close_ratio"))
    if off.is_empty():
        return OverlapResult(scaled, {}, {})
    symbols = off.get_column("symbol").unique()
    earliest = shared.filter(pl.col("symbol").is_in(symbols.implode())).group_by("symbol").agg(BEGINNINGS)
    moved = frozenset(off.join(earliest, on="symbol").filter(is_from_the_beginning()).get_column("symbol"))
    suspects: dict[str, Suspicion] = {}
    single: dict[str, list[Suspicion]] = {}
    for symbol, day, ratio, is_between in _odd(off, fetched):
        if symbol in moved:
            continue
        if is_between:
            single.setdefault(symbol, []).append(_single(day, ratio))
        elif symbol not in suspects:
            words = f"{_odd_words(day, ratio)} the days before it agree{proposal(f'the bars from {day} on', ratio)}"
            suspects[symbol] = Suspicion("level_jump", words, ratio, day, day)
    others: frozenset[str] = frozenset()
    if left := frozenset(symbols) - moved - single.keys():
        mine = shared.filter(pl.col("symbol").is_in(list(left)))
        others = frozenset(other_parts(mine).get_column("symbol")) | rewritten(mine, by_noise=True)
    single = {symbol: found for symbol, found in single.items() if symbol not in suspects}
    return OverlapResult(moved | ((scaled | others) - suspects.keys()), suspects, single)


def single_bars(fetched: pl.DataFrame, stored: pl.DataFrame) -> dict[str, list[Suspicion]]:
    """Of whole histories, the new bars of each symbol that alone are odd. Arguments as `compare_overlap` has them."""
    shared = on_shared_sessions(fetched, stored)
    if shared.filter(_is_seam()).is_empty():
        return {}
    found: dict[str, list[Suspicion]] = {}
    for symbol, day, ratio, _ in _odd(_with_fit(shared).filter("between"), fetched):
        found.setdefault(symbol, []).append(_single(day, ratio))
    return found


def _odd(off: pl.DataFrame, fetched: pl.DataFrame) -> Iterator[tuple[str, date, float, bool]]:
    """Of sessions on another level those that no correction explains: the ratio, and whether both neighbours agree."""
    large = off.filter(_is_seam())
    taken_back = _taken_back(large, fetched) if large.height else frozenset[tuple[str, date]]()
    columns = ("symbol", "date", "ratio", "close_ratio", "worse", "between")
    for symbol, day, ratio, close_ratio, worse, is_between in large.select(columns).iter_rows():
        if (symbol, day) in taken_back:
            continue
        odd = next(
            (r for r in (ratio, close_ratio) if r is not None and (factor_of(r) or (worse and size_of(r) > SEAM))), None
        )
        if odd is not None:
            yield symbol, day, odd, is_between


def _is_seam() -> pl.Expr:
    return pl.any_horizontal(is_beyond(name, SEAM) for name in ("ratio", "close_ratio"))


def _single(day: date, ratio: float) -> Suspicion:
    words = (
        f"{_odd_words(day, ratio)} the days around it agree; the new bar alone is not stored, and the stored one stays"
    )
    return Suspicion("level_jump", words + proposal("it", ratio), ratio, day, day, through=day)


def _odd_words(day: date, ratio: float) -> str:
    return f"the new price of {day} is {ratio:.6g} times the stored one, and"


def _on_another_scale(shared: pl.DataFrame) -> frozenset[str]:
    """Symbols whose volumes are all times one number what is stored, as after a split, or in lots of a hundred."""
    changed = shared.filter(pl.col("volume") != pl.col("volume_0"), pl.col("volume_0") > 0, pl.col("volume") > 0)
    if changed.height < _SESSIONS_OF_A_SCALE:
        return frozenset()
    scale = pl.col("volume") / pl.col("volume_0")
    of_all = (
        shared.filter(pl.col("volume_0") > 0)
        .group_by("symbol")
        .agg(scale.min().alias("low"), scale.max().alias("high"), scale.count().alias("sessions"))
    )
    # Small volumes are rounded; what is corrected session by session has no ratio in common.
    one = (pl.col("high") <= pl.col("low") * _ONE_SCALE) & (
        (pl.col("low") > _ONE_SCALE) | (pl.col("high") < 1 / _ONE_SCALE)
    )
    found = of_all.filter(pl.col("sessions") >= _SESSIONS_OF_A_SCALE, one)
    return frozenset(found.get_column("symbol"))


def of_unknown_basis(fetched: pl.DataFrame, stored: pl.DataFrame) -> frozenset[str]:
    """Symbols that bring an `adj_close` which nothing stored can be compared with: only the whole history can tell.

    So it is where an `adj_close` begins to come, or comes again on the earliest shared session; and where it comes
    with new bars and with none of the shared ones.

    Args:
        fetched: columns `LEVELS`, keys unique.
        stored: likewise.
    """
    lacking, lacking_0 = (rows.get_column("adj_close").null_count() for rows in (fetched, stored))
    if lacking == fetched.height or not (lacking or lacking_0):
        return frozenset()
    givers = fetched.filter(pl.col("adj_close").is_not_null()).get_column("symbol").unique()
    shared = on_shared_sessions(fetched.filter(pl.col("symbol").is_in(givers.implode())), stored)
    first = pl.col("adj_close").sort_by("date").first().is_not_null()
    first_0 = pl.col("adj_close_0").sort_by("date").first().is_null()
    unknown = shared.group_by("symbol").agg(~pl.col("adjusted").any() | (first & first_0)).filter("adjusted")
    return frozenset(unknown.get_column("symbol"))


def _taken_back(large: pl.DataFrame, fetched: pl.DataFrame) -> frozenset[tuple[str, date]]:
    """Sessions whose stored bar was an error, which the new one corrects.

    The new one is between its neighbours, while the stored one was far from both; or the stored one repeats the bar
    before it, and the new one is near the bar after it, as where a feed froze on the day of a crash.

    Args:
        large: shared sessions with another price, and whether the stored one `repeats`.
        fetched: all fetched bars, so that the bar after the last stored session counts, too.
    """
    line = fetched.filter(pl.col("symbol").is_in(large.get_column("symbol").unique().implode())).sort("symbol", "date")
    known = pl.col("symbol")
    sides = [
        pl.when(known == known.shift(step)).then(pl.col(name).shift(step)).alias(f"{name}_{side}")
        for step, side in ((1, "b"), (-1, "a"))
        for name in ("close", "adj_close")
    ]
    found = large.join(line.with_columns(sides).select("symbol", "date", *_SIDES), on=("symbol", "date"))
    found = found.filter(_fits_better("a"), _fits_better("b") | pl.col("repeats"))
    return frozenset(found.select("symbol", "date").iter_rows())


def _fits_better(side: str) -> pl.Expr:
    """Whether the new bar is near to the one before (b) or after (a), while the stored one was far from it."""
    near = [
        ((pl.col(name) / pl.col(f"{name}_{side}")).log().abs() <= log(SEAM)).fill_null(value=name == "adj_close")
        for name in ("close", "adj_close")
    ]
    stored = (pl.col("close_0") / pl.col(f"close_{side}")).log().abs()
    return pl.all_horizontal(near) & (stored > pl.col("close_ratio").log().abs() / 2).fill_null(value=False)


def _with_fit(shared: pl.DataFrame) -> pl.DataFrame:
    """Of each session whether the new close is further from the stored one of the session before: `worse`.

    And whether the stored close `repeats` that one; and whether it lies `between` two that are on the stored level.
    """
    before = pl.when(pl.col("symbol") == pl.col("symbol").shift(1)).then(pl.col("close_0").shift(1))
    agrees = ~(is_off("ratio") | is_off("close_ratio"))
    sides = [agrees.shift(step) & (pl.col("symbol") == pl.col("symbol").shift(step)) for step in (1, -1)]
    new, stored = (pl.col("close") / before).log().abs(), (pl.col("close_0") / before).log().abs()
    return shared.with_columns(
        (new > stored).fill_null(value=False).alias("worse"),
        (stored == 0).fill_null(value=False).alias("repeats"),
        pl.all_horizontal(sides).fill_null(value=False).alias("between"),
    )
