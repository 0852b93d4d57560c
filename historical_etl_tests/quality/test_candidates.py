"""Few rows are looked at closely: those that a cheap pass finds. It must miss none that the full rule would find."""

from datetime import date, timedelta
from math import exp, log

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from historical_etl.quality.factor_moves import factor_moves, factor_rounding, pairs_at
from historical_etl.quality.jumps import with_large_moves
from historical_etl.quality.price_levels import SEAM, on_shared_sessions

#: What a factor, and a level, is times the one before: some at the edge of what counts.
times = st.sampled_from([1.0, SEAM, 1 / SEAM, SEAM * (1 + 1e-9), (1 - 1e-9) / SEAM, 3.0, exp(1e-4), exp(-1e-4)])
steps = st.tuples(times, times | st.floats(0.9997, 1.0003), st.booleans())


@st.composite
def lines(draw: st.DrawFn) -> pl.DataFrame:
    """Rows of a few symbols, some of them without adj_close."""
    rows: list[tuple[str, date, float, float | None]] = []
    for symbol, moves in zip("ABC", draw(st.lists(st.lists(steps, max_size=8), min_size=1, max_size=3)), strict=False):
        close, factor = 100.0, 1.0
        for day, (level, ratio, has_adjusted) in enumerate(moves):
            close, factor = close * level, factor * ratio
            adj_close = close * factor if has_adjusted else None
            rows.append((symbol, date(2024, 1, 1) + timedelta(days=day), close, adj_close))
    schema = {"symbol": pl.String, "date": pl.Date, "close": pl.Float64, "adj_close": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def moved(pairs: pl.LazyFrame) -> pl.DataFrame:
    """The pairs of which the factor moved by more than rounding, as a ratio or as a logarithm."""
    ratio = (pl.col("adj_close") / pl.col("close")) / (pl.col("adj_close_0") / pl.col("close_0"))
    return pairs.filter(pl.max_horizontal((ratio - 1).abs(), ratio.log().abs()) > factor_rounding()).collect()


@given(lines())
def test_no_move_of_a_factor_is_missed(line):
    everywhere = pl.int_range(1, max(line.height, 1), dtype=pl.UInt32, eager=True)
    assert moved(pairs_at(line, factor_moves(line))).equals(moved(pairs_at(line, everywhere)))


@given(lines())
def test_no_symbol_with_a_large_move_is_missed(line):
    everywhere = pl.int_range(1, max(line.height, 1), dtype=pl.UInt32, eager=True)
    ratio = pl.coalesce(pl.col(name) / pl.col(f"{name}_0") for name in ("adj_close", "close"))
    large = pairs_at(line, everywhere).filter(ratio.log().abs() > log(SEAM)).collect()
    assert set(large["symbol"]) <= set(with_large_moves(line))


@given(lines(), st.integers(0, 8))
def test_sessions_that_all_match_need_no_join(line, sessions):
    stored = line.filter(pl.col("date") < date(2024, 1, 1) + timedelta(days=sessions))
    other = pl.DataFrame([("Z", date(2024, 1, 1), 1.0, None)], schema=line.schema, orient="row")
    shared = on_shared_sessions(line, stored.with_columns(pl.col("close") * 2))
    assert shared.equals(on_shared_sessions(line, pl.concat([stored, other]).with_columns(pl.col("close") * 2)))
