"""Open, high and low that contradict their close replace none that fit it."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl_tests.field.market import Teller, bars, cells, changed, opened, sessions

DAYS = sessions(date(2012, 9, 4), date(2012, 12, 31))
DAY, TODAY = DAYS[-3], DAYS[-1]
RANGE = ("open", "high", "low")
ROWS = bars("ACME", DAYS)
(STORED,) = [row for row in ROWS if row["date"] == DAY]
CLOSE = STORED["close"]


def evening(
    root: Path, fetched: dict[str, Any], stored: dict[str, Any] | None = None
) -> tuple[HistoricalETL, ETLResult]:
    rows = changed(ROWS, DAY, **(stored or {}))
    opened(root, Teller(rows), DAYS[-2]).run_full_etl(["ACME"], DAYS[0], DAYS[-2])
    etl = opened(root, Teller(changed(rows, DAY, **fetched)), TODAY)
    return etl, etl.run_incremental_etl()


def bar(etl: HistoricalETL) -> dict[str, float | None]:
    return {name: cells(etl, "ACME", name)[DAY] for name in (*RANGE, "close", "volume")}


def withheld_columns(etl: HistoricalETL) -> set[str]:
    return set(etl.ledger("withheld").filter(pl.col("date") == DAY)["column"])


def of_times(size: float, *names: str) -> dict[str, float]:
    return {name: STORED[name] * size for name in names}


@pytest.mark.parametrize("size", [1.02, 1.5, 1.9, 2.0, 3.0, 5.0, 20.0, 100.0, 0.9, 0.6, 0.5, 0.3, 0.05, 0.01])
def test_ranges_of_another_unit_or_basis_stay_what_they_were(root: Path, size: float) -> None:
    etl, result = evening(root, of_times(size, *RANGE))
    assert bar(etl) == {name: STORED[name] for name in bar(etl)}
    assert withheld_columns(etl) == set(RANGE)
    assert result.complete
    assert result.corrections == 0
    assert any("stay" in line or "was kept" in line for line in result.warnings)


@pytest.mark.parametrize(
    "fetched",
    [{"high": CLOSE * 0.95}, {"low": CLOSE * 1.05}, {"open": CLOSE * 1.1}, {"open": CLOSE * 0.8}],
    ids=["high below", "low above", "open above", "open below"],
)
def test_a_single_one_that_contradicts_the_bar_stays_what_it_was(root: Path, fetched: dict[str, float]) -> None:
    etl, result = evening(root, {**fetched, "volume": 77.0})
    assert bar(etl) == {name: STORED[name] for name in RANGE} | {"close": CLOSE, "volume": 77.0}
    assert withheld_columns(etl) == set(fetched)
    assert result.corrections == 1


def test_the_close_that_comes_with_it_is_taken_if_what_is_stored_holds_it(root: Path) -> None:
    close = CLOSE * 1.004
    etl, _ = evening(root, {**of_times(1.5, *RANGE), "close": close, "adj_close": close})
    assert bar(etl) == {name: STORED[name] for name in RANGE} | {"close": close, "volume": STORED["volume"]}
    assert withheld_columns(etl) == set(RANGE)


def test_what_comes_in_place_of_the_bar_of_the_day_before_is_taken_as_it_is(root: Path) -> None:
    """Of the bar that was fetched again nothing stays beside the close and volume of another one."""
    (before,) = [row for row in ROWS if row["date"] == DAYS[-4]]
    again = {name: before[name] for name in (*RANGE, "close", "adj_close")} | {"volume": STORED["volume"] + 50}
    fetched = {"high": CLOSE * 0.996, **of_times(1.0, "open", "low", "close", "adj_close", "volume")}
    etl, result = evening(root, fetched, again)
    assert bar(etl) == {name: fetched[name] for name in bar(etl)}
    assert withheld_columns(etl) == set()
    assert result.flagged_by_reason == {"range": 1}


def test_it_is_so_where_one_of_them_does_not_come(root: Path) -> None:
    etl, _ = evening(root, {**of_times(3.0, "open", "high"), "low": None})
    assert bar(etl) == {name: STORED[name] for name in bar(etl)}
    assert withheld_columns(etl) == set(RANGE)


def test_all_bars_of_the_overlap_stay(root: Path) -> None:
    opened(root, Teller(ROWS), DAYS[-2]).run_full_etl(["ACME"], DAYS[0], DAYS[-2])
    doubled = [row | {name: row[name] * 2 for name in RANGE} for row in ROWS[:-1]]
    etl = opened(root, Teller([*doubled, ROWS[-1]]), TODAY)
    result = etl.run_incremental_etl()
    for name in RANGE:
        assert list(cells(etl, "ACME", name).values()) == [row[name] for row in ROWS]
    assert result.withheld == 15
    assert sum("contradict" in line for line in result.warnings) == 1


# ── what is taken ──────────────────────────────────────────────────────────────────────────────────────────────────

FINE = [
    {"open": CLOSE * 1.005, "high": CLOSE * 1.03, "low": CLOSE * 0.98},
    {"high": CLOSE * 2.5},  # a wild day
    {"close": CLOSE * 1.05, "adj_close": CLOSE * 1.05},  # outside of a range that arrived as it is stored
    {"high": CLOSE * 0.99999},  # rounded on its own
]


@pytest.mark.parametrize("fetched", FINE, ids=["another range", "a wild day", "a close outside", "rounding"])
def test_corrections_that_fit_are_taken(root: Path, fetched: dict[str, float]) -> None:
    etl, result = evening(root, fetched)
    assert bar(etl) == {name: (STORED | fetched)[name] for name in bar(etl)}
    assert (withheld_columns(etl), result.withheld) == (set(), 0)


def test_of_two_ranges_that_contradict_the_close_the_new_one_is_taken(root: Path) -> None:
    """A closing auction lies outside of the range, and the vendor corrects the open."""
    stored, fetched = of_times(0.97, "high", "low", "open"), of_times(0.96, "high", "low", "open")
    etl, result = evening(root, fetched, stored)
    assert bar(etl) == {name: (STORED | fetched)[name] for name in bar(etl)}
    assert result.withheld == 0


def test_a_range_that_fits_replaces_one_that_does_not(root: Path) -> None:
    etl, result = evening(root, {name: STORED[name] for name in RANGE}, of_times(1.5, *RANGE))
    assert bar(etl) == {name: STORED[name] for name in bar(etl)}
    assert result.withheld == 0


def test_a_rebuild_takes_what_comes(root: Path) -> None:
    evening(root, {})
    etl = opened(root, Teller(changed(ROWS, DAY, **of_times(1.5, *RANGE))), TODAY)
    etl.run_full_etl(["ACME"], DAYS[0], TODAY, rebuild=True)
    assert bar(etl)["open"] == STORED["open"] * 1.5
