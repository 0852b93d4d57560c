"""The budget: what fails it, what is said, and that the same work counts the same."""

import sys
from pathlib import Path

import pytest

from benchmarks.budget import BUDGET, Budget
from benchmarks.counting import BYTES, COUNTED
from benchmarks.counts import CASES, Change, changes, count, main


def the_change(budget: dict[str, int], now: dict[str, int]) -> Change:
    (change,) = changes({"increment": budget}, {"increment": now})
    return change


def test_one_query_more_is_over_the_budget() -> None:
    change = the_change({"queries": 200}, {"queries": 201})
    assert change.fails
    assert str(change) == "increment: queries 200 -> 201, +1 (+0.5%)"


def test_a_count_where_there_was_none_is_over_the_budget() -> None:
    change = the_change({"locks": 0}, {"locks": 2})
    assert change.fails
    assert str(change) == "increment: locks 0 -> 2, +2"


def test_a_count_without_a_budget_is_over_it() -> None:
    change = the_change({}, {"queries": 1})
    assert change.fails
    assert "no budget" in str(change)
    assert changes({}, {"a new case": {"queries": 1}})


@pytest.mark.parametrize("counted", BYTES)
def test_bytes_may_differ_as_much_as_machines_do(counted: str) -> None:
    assert not changes({"increment": {counted: 1_000_000}}, {"increment": {counted: 1_004_000}})
    assert the_change({counted: 1_000_000}, {counted: 1_006_000}).fails


def test_a_count_that_fell_far_is_worth_a_lower_budget_and_is_no_failure() -> None:
    change = the_change({"queries": 200}, {"queries": 100})
    assert change.fell
    assert not change.fails
    assert not changes({"increment": {"queries": 200}}, {"increment": {"queries": 190}})


def test_the_budget_has_every_case_and_every_count() -> None:
    budget = Budget.load(BUDGET)
    assert set(budget.counts) == set(CASES)
    assert all(set(numbers) == set(COUNTED) for numbers in budget.counts.values())


def test_a_budget_is_kept_but_for_what_is_counted_anew(tmp_path: Path) -> None:
    file = tmp_path / "budget.json"
    Budget().with_counts({"a": {"queries": 1}, "b": {"queries": 2}}).with_ratios({"x": 1.234}).save(file)
    Budget.load(file).with_counts({"b": {"queries": 3}}).with_ratios({"y": 2.0}).save(file)
    budget = Budget.load(file)
    assert budget.counts == {"a": {"queries": 1}, "b": {"queries": 3}}
    assert budget.ratios == {"x": 1.23, "y": 2.0}


def test_the_same_work_counts_the_same(tmp_path: Path) -> None:
    one, other = count("increment", tmp_path), count("increment", tmp_path)
    assert not changes({"increment": one}, {"increment": other})
    exact = [name for name in COUNTED if name not in BYTES]
    assert [one[name] for name in exact] == [other[name] for name in exact]
    assert all(one.values())


def test_the_check_fails_says_what_grew_and_how_to_accept_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "budget.json"
    now = dict.fromkeys(COUNTED, 10)
    monkeypatch.setattr("benchmarks.counts.count", lambda case, scratch: now)

    def check(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["counts", "--budget", str(file), *arguments])
        main()
        return capsys.readouterr().out

    assert "This is the budget now" in check("--accept", "increment")
    with pytest.raises(SystemExit, match="0"):
        check("increment")
    now["queries"] = 11
    with pytest.raises(SystemExit, match="1"):
        check("increment")
    said = capsys.readouterr().out
    assert "increment: queries 10 -> 11, +1 (+10.0%)" in said
    assert "make bench-check ACCEPT=1" in said
    assert "files_read 10" not in said
    check("--accept", "increment")
    assert Budget.load(file).counts["increment"]["queries"] == 11
