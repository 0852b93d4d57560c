"""Whole histories, judged together: what becomes of one depends on nothing but itself."""

from collections.abc import Mapping
from datetime import date

import polars as pl
import pytest

from historical_etl.etl.reconcile.whole_histories import lacks_values
from historical_etl.quality.histories import HistoryVerdict, judge_histories
from historical_etl.quality.overlap import single_bars
from historical_etl.quality.price_levels import LEVELS
from historical_etl.schema import SCHEMA
from historical_etl_tests.field.series import days, walk

COUNT = 80
DAYS = days(COUNT)
CLOSES = walk(COUNT, 40.0)
ADJUSTED = [round(close / 2, 4) for close in CLOSES]
OTHER = walk(COUNT, 40.0, seed=7)
Prices = list[float] | list[float | None]


def times(prices: list[float], factor: float, start: int = 0, stop: int = COUNT) -> list[float]:
    return [price * factor if start <= at < stop else price for at, price in enumerate(prices)]


def bars(close: Prices, adj_close: Prices, lost: int = 0) -> pl.DataFrame:
    rows = [("?", day, c, a, 100.0) for day, c, a in zip(DAYS, close, adj_close, strict=True)]
    return pl.DataFrame(rows, schema={name: SCHEMA[name] for name in LEVELS}, orient="row").slice(lost)


STORED = bars(CLOSES, ADJUSTED)
NONE: list[float | None] = [None] * COUNT
PART = [*times(CLOSES, 0.9)[:30], *times(CLOSES, 0.7)[30:]]
LATE = [CLOSES[0], *CLOSES[:-1]]
#: The history as fetched and as stored, the splits that are named, and what becomes of it.
CASES: Mapping[str, tuple[pl.DataFrame, pl.DataFrame, Mapping[date, float], str]] = {
    "AS_IT_WAS": (STORED, STORED, {}, "corrected"),
    "BASELESS": (bars(CLOSES, [None, *ADJUSTED[1:]]), bars(CLOSES, [ADJUSTED[0], *NONE[1:]]), {}, "incomplete_history"),
    "BARE": (bars(CLOSES, [*times(ADJUSTED, 0.9)[:-1], None]), STORED, {}, "incomplete_history"),
    "CENTS": (bars(times(CLOSES, 0.01), times(CLOSES, 0.01)), bars(CLOSES, CLOSES), {}, "level_jump"),
    "CENTS_NAMED": (bars(times(CLOSES, 0.01), times(CLOSES, 0.01)), bars(CLOSES, CLOSES), {DAYS[-1]: 100}, "restated"),
    "CORRECTED": (bars(CLOSES, times(ADJUSTED, 1.01, 30, 31)), STORED, {}, "corrected"),
    "CURRENCY": (bars(times(CLOSES, 1.37), times(ADJUSTED, 1.37)), STORED, {}, "no split explains it"),
    "DAY_LATE": (bars(LATE, LATE), bars(CLOSES, CLOSES), {}, "the session before"),
    "DIVIDEND": (bars(CLOSES, times(ADJUSTED, 0.99)), STORED, {}, "0.99 times the stored one on 80 of 80"),
    "FIRST_TIME": (STORED, bars(CLOSES, NONE), {}, "adj_close comes for the first time"),
    "FORWARD": (bars(times(CLOSES, 1.1, 30), NONE), bars(CLOSES, NONE), {}, "level_jump"),
    "JUMPS": (bars(times(CLOSES, 3, 30), times(ADJUSTED, 2.7, 30)), STORED, {}, "level_jump"),
    "LOST": (bars(CLOSES, times(ADJUSTED, 0.9), lost=3), STORED, {}, "3 stored session(s) did not come"),
    "OTHER_COMPANY": (bars(OTHER, OTHER), bars(CLOSES, CLOSES), {}, "daily returns are not the stored ones"),
    "PART": (bars(PART, PART), bars(CLOSES, CLOSES), {}, "a part of the history is restated"),
    "SINGLE": (bars(times(CLOSES, 2, 30, 31), times(ADJUSTED, 2, 30, 31)), STORED, {}, "level_jump"),
    "SPLIT": (bars(times(CLOSES, 0.5), times(ADJUSTED, 0.5)), STORED, {DAYS[-1]: 2.0}, "restated"),
    "TINY": (bars(CLOSES, times(ADJUSTED, 1 - 9e-5)), STORED, {}, "restated"),
    "UNSTORED": (STORED, STORED.clear(), {}, "restated"),
    "UNFETCHED": (STORED.clear(), STORED, {}, "corrected"),
}


def named(rows: pl.DataFrame, symbol: str) -> pl.DataFrame:
    return rows.with_columns(symbol=pl.lit(symbol))


@pytest.fixture(scope="module")
def together() -> dict[str, HistoryVerdict]:
    fetched = pl.concat(named(rows, name) for name, (rows, _, _, _) in sorted(CASES.items()))
    stored = pl.concat(named(rows, name) for name, (_, rows, _, _) in sorted(CASES.items()))
    return judge_histories(fetched, stored, {name: splits for name, (_, _, splits, _) in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_a_history_is_judged_alone_as_among_others(name: str, together: Mapping[str, HistoryVerdict]) -> None:
    fetched, stored, splits, expected = CASES[name]
    alone = judge_histories(named(fetched, name), named(stored, name), {name: splits})
    assert alone == {name: together[name]}
    assert expected in repr(alone[name])


def test_odd_bars_are_found_of_the_symbol_that_has_them() -> None:
    odd, split, company = CASES["SINGLE"][0], CASES["SPLIT"][0], STORED
    fetched = pl.concat([named(company, "A"), named(odd, "B"), named(split, "C"), named(odd.slice(20), "D")])
    found = single_bars(fetched, pl.concat(named(STORED, name) for name in "ABCD"))
    assert {name: [why.session for why in bars] for name, bars in found.items()} == {"B": [DAYS[30]], "D": [DAYS[30]]}


def test_values_are_lacking_of_the_symbols_that_lack_them() -> None:
    rows = STORED.with_columns(open="close", high="close", low="close")
    moved = rows.with_columns(pl.col("close") * 0.5)
    bare = moved.with_columns(
        open=pl.when(pl.col("date") > DAYS[2]).then("open"), volume=pl.when(pl.col("date") > DAYS[0]).then("volume")
    )
    same_close = bare.with_columns(close=rows["close"])
    fetched = pl.concat(named(rows, name) for name, rows in (("A", moved), ("B", bare), ("C", same_close)))
    found = lacks_values(fetched, pl.concat(named(rows, name) for name in "ABC"))
    assert {name: why.evidence for name, why in found.items()} == {
        "B": "but stored values did not come: open on 3 session(s), volume on 1 session(s)"
    }
