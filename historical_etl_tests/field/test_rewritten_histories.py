"""A history that comes with most of its closes changed is no correction, though its first bar is the stored one."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl_tests.field.series import Series, adjusted, backfill, codes, column, falling, update, walk

THROUGH = 40
SEEDS = (2, 3, 5, 8)
Closes = list[float]


def forward(closes: Sequence[float], *events: tuple[int, float]) -> Closes:
    """Prices adjusted forward (hfq): from each event on they are times its factor."""
    out = list(closes)
    for at, factor in events:
        out[at:] = [price * factor for price in out[at:]]
    return [round(price, 4) for price in out]


def evening(
    root: Path, stored: Sequence[float], fetched: Sequence[float], through: int = THROUGH
) -> tuple[HistoricalETL, ETLResult]:
    backfill(root, Series(stored), through)
    return update(root, Series(fetched), through + 1)


def evidence(etl: HistoricalETL) -> str:
    return str(etl.holds()["evidence"][0])


def is_held(etl: HistoricalETL, result: ETLResult, stored: Sequence[float], through: int = THROUGH) -> None:
    assert codes(etl) == ["other_history"]
    assert (result.complete, result.corrections) == (False, 0)
    assert column(etl, "close") == list(stored[: through + 1])


@pytest.mark.parametrize("through", [12, 40, 280])
@pytest.mark.parametrize("seed", SEEDS)
def test_dates_a_day_late_are_held_and_the_words_say_so(root: Path, seed: int, through: int) -> None:
    closes = walk(through + 20, seed=seed)
    etl, result = evening(root, closes, [closes[0], *closes[:-1]], through)
    is_held(etl, result, closes, through)
    assert "session before" in evidence(etl)


def test_dates_a_day_late_from_the_first_bar_on_are_held(root: Path) -> None:
    closes = walk(61, daily=0.005)
    etl, result = evening(root, closes[1:], closes[:-1])
    is_held(etl, result, closes[1:])
    assert "session before" in evidence(etl)


@pytest.mark.parametrize("since", [36, 37, 38])
def test_the_last_bars_a_day_late_are_held(root: Path, since: int) -> None:
    closes = walk(60, seed=5)
    etl, result = evening(root, closes, [p if i < since else closes[i - 1] for i, p in enumerate(closes)])
    is_held(etl, result, closes)


@pytest.mark.parametrize("daily", [0.004, 0.01, 0.03])
@pytest.mark.parametrize("seed", [9, 11, 21, 23])
@pytest.mark.parametrize("same", [0, 36])
def test_another_company_is_held_whatever_bar_is_equal(root: Path, seed: int, daily: float, same: int) -> None:
    closes, other = walk(60, daily=daily, seed=5), walk(60, daily=daily, seed=seed)
    other = [round(price * closes[same] / other[same], 4) for price in other]
    etl, result = evening(root, closes, other)
    assert codes(etl) in (["other_history"], ["level_jump"])  # a wild one jumps beside the stored bars
    assert not result.complete
    assert column(etl, "close") == closes[: THROUGH + 1]


def test_another_company_of_small_moves_is_no_restatement(root: Path) -> None:
    closes, other = walk(300, daily=0.005, seed=5), walk(300, 61.0, daily=0.005, seed=9)
    etl, result = evening(root, closes, other, 280)
    is_held(etl, result, closes, 280)
    assert "returns" in evidence(etl)


def test_a_long_history_with_a_year_of_another_company_is_held(root: Path) -> None:
    closes = walk(700, seed=5)
    other = walk(700, seed=9)
    share = closes[449] / other[449]
    fetched = [*closes[:450], *(round(price * share, 4) for price in other[450:])]
    etl, result = evening(root, closes, fetched, 690)
    assert codes(etl) in (["other_history"], ["level_jump"])
    assert column(etl, "close") == closes[:691]
    assert not result.complete


HFQ: dict[str, tuple[tuple[int, float], ...]] = {
    "dividends": ((10, 1.016), (20, 1.02), (30, 1.018)),
    "small dividends": ((4, 1.004), (14, 1.004), (24, 1.004), (34, 1.004)),
    "splits": ((10, 1.05), (20, 1.1), (30, 1.03)),
}


@pytest.mark.parametrize("case", HFQ)
def test_prices_adjusted_forward_are_held_and_the_words_say_that_the_ratio_changes(root: Path, case: str) -> None:
    traded = falling(walk(60, seed=5), *((at, factor, 0.0) for at, factor in HFQ[case]))
    etl, result = evening(root, traded, forward(traded, *HFQ[case]))
    is_held(etl, result, traded)
    assert "changes along the history" in evidence(etl)


def test_a_close_adjusted_forward_beside_a_good_adj_close_is_held(root: Path) -> None:
    events = [(10, 1, 0.8), (20, 1, 1.0), (30, 1, 0.9)]
    traded = falling(walk(60, seed=5), *events)
    adj = adjusted(traded, *events)
    fetched = forward(traded, *((at, 1 + cash / 50) for at, _, cash in events))
    backfill(root, Series(traded, adj), THROUGH)
    etl, result = update(root, Series(fetched, adj), THROUGH + 1)
    is_held(etl, result, traded)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda closes: [50.0] * len(closes),
        lambda closes: [closes[0], *(p * (1.03 if i % 2 else 0.97) for i, p in enumerate(closes[1:]))],
        lambda closes: [float(round(p)) for p in closes],  # at 50, with moves of 1 %
    ],
    ids=["one price", "noise", "whole numbers"],
)
def test_bars_that_lost_what_they_said_are_held(root: Path, rewrite: Callable[[Closes], Closes]) -> None:
    closes = walk(60, seed=5)
    etl, result = evening(root, closes, rewrite(closes))
    is_held(etl, result, closes)


def test_a_short_history_is_held_as_well(root: Path) -> None:
    closes, other = walk(20, seed=5), walk(20, seed=9)
    etl, _ = evening(root, closes, other, 5)
    assert codes(etl) == ["other_history"]
    assert column(etl, "close") == closes[:6]


def test_a_person_may_accept_it(root: Path) -> None:
    closes, other = walk(60, seed=5), walk(60, seed=9)
    etl, _ = evening(root, closes, other)
    assert etl.accept("ACME", reason="the old ones were wrong", by="anna").complete
    assert column(etl, "close") == other[: THROUGH + 2]


# ── what goes on ───────────────────────────────────────────────────────────────────────────────────────────────────


def is_taken(etl: HistoricalETL, result: ETLResult, fetched: Sequence[float], through: int = THROUGH) -> None:
    assert codes(etl) == []
    assert result.complete
    assert column(etl, "close") == list(fetched[: through + 2])


@pytest.mark.parametrize("size", [1.004, 1.02, 1.1])
@pytest.mark.parametrize("bars", [(36,), (36, 39), (36, 37, 39, 40), (5, 12, 20, 28, 36, 38)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_corrected_bars_are_taken(root: Path, seed: int, bars: tuple[int, ...], size: float) -> None:
    right = walk(60, seed=seed)
    wrong = [price * size ** (-1) ** i if i in bars else price for i, price in enumerate(right)]
    etl, result = evening(root, wrong, right)
    is_taken(etl, result, right)


@pytest.mark.parametrize("price", [0.5, 5.0, 50.0, 5000.0])
@pytest.mark.parametrize(("old", "new"), [(4, 2), (2, 4), (4, 3), (3, 4)])
def test_prices_that_are_rounded_anew_are_taken(root: Path, price: float, old: int, new: int) -> None:
    closes = walk(60, price, seed=5)
    stored, fetched = ([round(p, digits) for p in closes] for digits in (old, new))
    etl, result = evening(root, stored, fetched)
    assert (codes(etl), result.complete) == ([], True)


@pytest.mark.parametrize("first", [True, False])
def test_prices_that_come_with_more_digits_than_whole_numbers_are_taken(root: Path, first: bool) -> None:
    closes = walk(60, 50.0 if first else 50.3, seed=5)
    etl, result = evening(root, [float(round(p)) for p in closes], closes)
    assert (codes(etl), result.complete) == ([], True)
    assert column(etl, "close")[-6:] == closes[36:42]


def test_a_vendor_that_takes_the_close_of_another_venue_is_taken(root: Path) -> None:
    closes, noise = walk(60, seed=5), walk(60, 1.0, daily=0.001, seed=7)
    steps = [1.0, *(after / before for before, after in pairwise(noise))]
    fetched = [round(p * step, 4) for p, step in zip(closes, steps, strict=True)]
    etl, result = evening(root, closes, fetched)
    assert (codes(etl), result.complete) == ([], True)


@pytest.mark.parametrize(("since", "until"), [(36, 39), (10, 38), (2, 40)])
def test_a_frozen_feed_that_is_corrected_is_taken(root: Path, since: int, until: int) -> None:
    right = walk(60, seed=5)
    frozen = [right[since] if since <= i < until else p for i, p in enumerate(right)]
    etl, result = evening(root, frozen, right)
    is_taken(etl, result, right)


def test_a_short_frozen_feed_that_is_corrected_is_taken(root: Path) -> None:
    right = walk(60, seed=5)
    etl, result = evening(root, [right[0]] * 4 + right[4:], right, 4)
    is_taken(etl, result, right, 4)


def test_a_feed_that_lagged_by_a_day_and_is_corrected_is_taken(root: Path) -> None:
    right = walk(60, seed=5)
    etl, result = evening(root, [p if i < 37 else right[i - 1] for i, p in enumerate(right)], right)
    is_taken(etl, result, right)


def test_a_restatement_whose_first_bars_are_too_small_to_show_it_is_one(root: Path) -> None:
    """Of 0.04, 0.99 times is 0.04 again."""
    closes = [0.04 * 1.4**i for i in range(20)] + walk(40, 33.0, seed=5)
    stored, fetched = ([round(p * ratio, 2) for p in closes] for ratio in (1.0, 0.99))
    etl, result = evening(root, stored, fetched)
    is_taken(etl, result, fetched)


@pytest.mark.parametrize("daily", [0.002, 0.01, 0.03])
def test_a_restatement_by_dividends_and_splits_is_taken(root: Path, daily: float) -> None:
    events = [(6, 1, 0.5), (18, 2, 0.0), (30, 1, 0.4), (41, 1, 0.5)]
    traded = falling(walk(60, daily=daily, seed=5), *events)
    backfill(root, Series(traded, adjusted(traded[:41], *events[:3]) + [None] * 19), THROUGH)
    etl, result = update(root, Series(traded, adjusted(traded, *events)), THROUGH + 1)
    assert (codes(etl), result.complete, result.restated_symbols) == ([], True, ("ACME",))
