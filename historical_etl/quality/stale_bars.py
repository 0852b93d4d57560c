"""A frozen feed: the dates go on, and the bar is the same one every day, volume included.

Real trading never repeats open, high, low, close and volume for long. A session without trades (volume 0) does, and so
does a series that moves in steps anyway: neither counts. `adj_close` is not compared, since a restatement scales it.
"""

from typing import Final

import polars as pl

from historical_etl.schema import IS_FIRST, together

__all__ = ["BARS", "REPORTED_AFTER", "repeating_symbols", "stretches"]

REPEATED_CELLS: Final = ("open", "high", "low", "close", "volume")
#: What a stretch is found in.
BARS: Final = ("symbol", "date", *REPEATED_CELLS)
#: From so many equal bars on a stretch is reported.
REPORTED_AFTER: Final = 3
#: A series moves if of its last so many levels before the stretch, at least the fewest, no more than a share lasted.
_LEVELS_BEFORE, _FEWEST_BEFORE, _SHARE_LASTING = 20, 3, 0.2


def repeating_symbols(rows: pl.DataFrame, context: pl.DataFrame) -> list[str]:
    """Symbols of which a bar equals the one before it; on most evenings there is none.

    Args:
        rows: columns `BARS` among others, sorted by (symbol, date).
        context: likewise, a few bars before `rows`, or none.
    """
    found = _with_repeats(rows)
    if context.height:
        edges = [context.select(BARS), rows.lazy().select(BARS).filter(IS_FIRST).collect()]
        found |= _with_repeats(together(edges))
    return sorted(found)


def stretches(bars: pl.DataFrame) -> pl.DataFrame:
    """Where a bar repeats: `symbol, first_session, last_session, sessions, close, volume, days, moves`.

    `days` are the sessions of the stretch, `moves` says whether the series usually moved before it.

    Args:
        bars: columns `BARS`, sorted by (symbol, date), keys unique.
    """
    repeats = _repeats(bars)
    levels = (
        bars.with_columns((~repeats).cum_sum().alias("level"))
        .group_by("symbol", "level", maintain_order=True)
        .agg(
            pl.col("date").first().alias("first_session"),
            pl.col("date").last().alias("last_session"),
            pl.len().cast(pl.Int64).alias("sessions"),
            pl.col("close", "volume").first(),
            pl.col("date").alias("days"),
        )
    )
    lasting = (pl.col("sessions") > 1).cast(pl.Int64).shift(1).fill_null(0)
    before = pl.int_range(pl.len()).clip(upper_bound=_LEVELS_BEFORE)
    lasted = lasting.rolling_sum(_LEVELS_BEFORE, min_samples=1)
    moves = (before >= _FEWEST_BEFORE) & (lasted <= _SHARE_LASTING * before)
    return levels.with_columns(moves.over("symbol").alias("moves")).filter(pl.col("sessions") > 1).drop("level")


def _with_repeats(rows: pl.DataFrame) -> set[str]:
    # Two columns first: for millions of rows that is all the work, since next to none are left.
    close, volume = pl.col("close"), pl.col("volume")
    alike = rows.select((close == close.shift()) & volume.eq_missing(volume.shift())).to_series()
    if not alike.any():
        return set()
    places = alike.arg_true()
    few = rows.select(BARS)[pl.concat([places, places - 1]).unique().sort()]
    return set(few.filter(_repeats(few)).get_column("symbol"))


def _repeats(bars: pl.DataFrame) -> pl.Series:
    """Whether a bar equals the row before it, in every cell and with trades."""
    same = [pl.col(name).eq_missing(pl.col(name).shift()) for name in ("symbol", *REPEATED_CELLS)]
    # Without a volume a fund's value may well stand still; a bar with a range may not.
    traded = pl.when(pl.col("volume").is_null()).then(pl.col("high") > pl.col("low")).otherwise(pl.col("volume") > 0)
    return bars.select(pl.all_horizontal(*same, traded.fill_null(value=False))).to_series()
