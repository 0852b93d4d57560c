"""A7: bars on another level that the next ones take back are kept out alone, where it is plain that they are wrong."""

import pytest

from historical_etl_tests.field.series import Series, backfill, codes, column, update, walk
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import daily_bytes

COUNT = 60
GOOD = walk(COUNT, 800.0)


def with_run(first: int, count: int, factor: float, closes: list[float] = GOOD) -> list[float]:
    return [price * (factor if first <= at < first + count else 1) for at, price in enumerate(closes)]


def without(first: int, count: int, closes: list[float] = GOOD) -> list[float]:
    return closes[:first] + closes[first + count :]


@pytest.mark.parametrize("factor", [100.0, 0.01, 10.0, 19_110.0])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("adj", ["good", "with it", None])
def test_the_rest_of_a_first_history_is_stored(root, factor, count, adj):
    bad = with_run(25, count, factor)
    source = Series(bad, {"good": GOOD, "with it": bad}.get(adj))
    etl, result = backfill(root, source)
    assert set(result.held) == {"ACME"}
    assert not result.complete
    assert column(etl, "close") == without(25, count)
    if adj:
        assert column(etl, "adj_close") == without(25, count)
    (hold,) = etl.holds().to_dicts()
    assert hold["code"] == "level_jump"
    assert (hold["session"], hold["through"]) == (source.days[25], source.days[24 + count])
    assert "kept out" in hold["evidence"]
    if factor in {100.0, 0.01}:
        verb = "divide" if factor > 1 else "multiply"
        assert hold["evidence"] == Saying("unit", f"{verb} {'it' if count == 1 else 'them'} by 100")
    (gap,) = etl.gaps().filter(symbol="ACME").to_dicts()
    assert (gap["first_session"], gap["sessions"], gap["why"]) == (source.days[25], count, "the rows are held")


@pytest.mark.parametrize("adj", ["good", "with it", None])
def test_evening_by_evening_the_next_bar_lets_the_rest_in_and_a_corrected_one_ends_it(root, adj):
    bad = with_run(50, 1, 100.0)
    source = Series(bad, {"good": GOOD, "with it": bad}.get(adj))
    backfill(root, source, 49)
    etl, result = update(root, source, 50)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == GOOD[:50]
    for at in (51, 52, 53, 54, 55, 56, 57):
        etl, result = update(root, source, at)
        assert column(etl, "close") == without(50, 1)[:at]
        assert set(result.held) == {"ACME"}
        assert codes(etl) == ["level_jump"]
    source.close = GOOD
    source.adj_close = GOOD if adj else None
    etl, result = update(root, source, 58)
    assert not result.held
    assert codes(etl) == []
    assert column(etl, "close") == GOOD[:59]
    straight, _ = backfill(root.parent / "straight", source, 58)
    assert daily_bytes(etl) == daily_bytes(straight)


def test_two_runs_of_weeks_without_trades_are_two_holds_and_the_years_between_are_stored(root):
    flat = [0.575 + 0.005 * (at // 40) for at in range(400)]
    bad = with_run(340, 19, 0.01, with_run(280, 16, 0.01, flat))
    etl, result = backfill(root, Series(bad, bad, volume=0.0))
    assert "and 1 more" in result.held["ACME"]
    assert codes(etl) == ["level_jump", "level_jump"]
    assert column(etl, "close") == flat[:280] + flat[296:340] + flat[359:]


@pytest.mark.parametrize(
    ("first", "count"),
    [(30, 30), (0, 20), (10, 30), (25, 12), (55, 4)],
    ids=["it stays", "the first bars", "half of them", "too many", "too few bars after"],
)
def test_where_nobody_knows_which_side_is_wrong_the_symbol_is_held(root, first, count):
    bad = with_run(first, count, 100.0)
    etl, result = backfill(root, Series(bad, bad))
    assert set(result.held) == {"ACME"}
    assert etl.scan("ACME").collect().is_empty()
    assert etl.holds()["through"].to_list() == [None]


def test_a_level_that_comes_and_goes_is_no_run(root):
    """Good bars between wrong ones: most of what is in view is wrong."""
    bad = [price * (1 if 20 <= at < 29 else 0.01) for at, price in enumerate(GOOD)]
    bad[:16] = GOOD[:16]
    etl, _ = backfill(root, Series(bad, bad))
    assert etl.scan("ACME").collect().is_empty()


def test_one_word_lets_all_jumps_in_that_were_reported(root):
    bad = [price * (1 if at < 20 else 30 if at < 40 else 900) for at, price in enumerate(GOOD)]
    etl, result = backfill(root, Series(bad, bad))
    assert "and 1 more, see `historical-etl holds`" in result.held["ACME"]
    assert etl.holds()["session"].to_list() == [Series(bad).days[20], Series(bad).days[40]]
    result = etl.accept("ACME", reason="it was in the news", by="anna")
    assert not result.held
    assert column(etl, "close") == bad


def test_a_word_on_bars_that_are_kept_out_alone_lets_them_in(root):
    bad = with_run(25, 2, 100.0)
    etl, _ = backfill(root, Series(bad, bad))
    result = etl.accept("ACME", reason="it was so", by="anna")
    assert not result.held
    assert column(etl, "close") == bad


def test_a_word_on_the_whole_symbol_is_none_on_bars_that_are_kept_out_alone(root):
    bad = [price * (1 if at < 50 else 30) for at, price in enumerate(with_run(25, 2, 100.0))]
    source = Series(bad, bad)
    backfill(root, source, 49)
    etl, _ = update(root, source, 50)
    assert etl.holds()["through"].is_null().sum() == 1
    result = etl.accept("ACME", reason="it was in the news", by="anna")
    assert list(result.held) == ["ACME"]
    assert column(etl, "close") == without(25, 2, bad[:51])


def test_sessions_that_are_waived_end_the_hold_of_their_bars(root):
    bad = with_run(25, 2, 100.0)
    source = Series(bad, bad)
    etl, _ = backfill(root, source, 57)
    assert etl.waive("ACME", source.days[25], reason="never traded there", by="anna") == 1
    assert codes(etl) == ["level_jump"], "one of the bars may still come"
    etl.waive("ACME", source.days[26], reason="never traded there", by="anna")
    assert codes(etl) == []
    (closed,) = etl.holds(all=True).to_dicts()
    assert (closed["status"], closed["by"], closed["reason"]) == ("waived", "anna", "never traded there")
    etl, result = update(root, source, 58)
    assert not result.held
    assert result.complete
    assert etl.verify().ok
    assert column(etl, "close") == without(25, 2)[:57]


def test_a_run_over_the_end_of_a_year_lets_the_rest_in_with_the_next_update(root):
    good = walk(240, 800.0)
    at = next(at for at, day in enumerate(Series(good).days) if day.year == 2024) - 2
    bad = with_run(at, 5, 0.01, good)
    source = Series(bad, bad)
    backfill(root, source, 238)
    etl, result = update(root, source, 239)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == without(at, 5, good)
    assert etl.holds()["through"].to_list() == [source.days[at + 4]]


@pytest.mark.parametrize(
    ("factor", "daily", "count"), [(5.0, 0.03, 1), (5.0, 0.005, 3), (1 / 7, 0.03, 3), (2.0, 0.005, 1), (0.5, 0.005, 1)]
)
@pytest.mark.parametrize("adj", ["with it", "good", None])
def test_a_false_bar_by_the_ratio_of_a_split_is_kept_out_alone_evening_by_evening(root, factor, daily, count, adj):
    """The bars after it are stored though the vendor never corrects it, also where prices move while they come back."""
    good = walk(COUNT, 800.0, daily=daily)
    good[50 : 50 + count] = [good[49]] * count
    bad = with_run(50, count, factor, good)
    source = Series(bad, {"good": good, "with it": bad}.get(adj))
    backfill(root, source, 49)
    for at in (50, 51, 52, 53, 54, 57):
        etl, result = update(root, source, at)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == without(50, count, good)[: 58 - count]
    (hold,) = etl.holds().to_dicts()
    assert (hold["code"], hold["session"], hold["through"]) == ("level_jump", source.days[50], source.days[49 + count])
    source.close, source.adj_close = good, good if adj else None
    etl, result = update(root, source, 58)
    assert not result.held
    assert column(etl, "close") == good[:59]


@pytest.mark.parametrize("factor", [5.0, 0.5])
def test_a_split_that_nobody_names_and_that_stays_holds_the_symbol(root, factor):
    bad = with_run(50, 10, factor)
    source = Series(bad, bad)
    backfill(root, source, 49)
    for at in (50, 52, 57):
        etl, result = update(root, source, at)
    assert set(result.held) == {"ACME"}
    assert etl.holds()["through"].to_list() == [None]
    assert column(etl, "close") == GOOD[:50]


def test_in_a_first_history_no_side_of_a_split_and_its_way_back_is_plain(root):
    bad = with_run(25, 2, 5.0)
    etl, result = backfill(root, Series(bad, bad))
    assert set(result.held) == {"ACME"}
    assert etl.holds()["through"].to_list() == [None]


@pytest.mark.parametrize(("factor", "at"), [(5.0, 50), (5.0, 52), (100.0, 50)])
def test_a_waived_session_keeps_its_bar_out_and_frees_the_symbol_whatever_the_hold(root, factor, at):
    """Where nothing takes the level back by as much, so that no run is seen; or before the way back is there."""
    bad = with_run(50, 1, factor)
    bad[51:] = [price * 1.5 for price in GOOD[51:]]
    source = Series(bad, bad)
    etl, result = backfill(root, source, 49)
    for evening in range(50, at + 1):
        etl, result = update(root, source, evening)
    assert etl.holds()["through"].to_list() == [None]
    assert etl.waive("ACME", source.days[50], reason="a false bar", by="anna") == 1
    assert codes(etl) == []
    for evening in (at + 1, at + 2, 57):
        etl, result = update(root, source, evening)
        assert not result.held
        assert result.complete
        assert column(etl, "close") == without(50, 1, bad)[:evening]
    assert etl.verify().ok
    assert etl.gaps(all=True).filter(symbol="ACME", status="waived")["first_session"].to_list() == [source.days[50]]
    source.close = source.adj_close = [*bad[:50], bad[49], *bad[51:]]
    etl.run_full_etl(["ACME"], source.days[0], source.days[57], rebuild=True)
    assert column(etl, "close") == source.close[:58], "a rebuild takes what the source has"


def test_beside_a_waived_session_the_next_false_bar_holds_the_symbol(root):
    """One of two false bars is waived: the symbol is held for the other one, and says so."""
    bad = with_run(50, 10, 5.0)
    source = Series(bad, bad)
    backfill(root, source, 49)
    etl, _ = update(root, source, 51)
    etl.waive("ACME", source.days[50], reason="a false bar", by="anna")
    etl, result = update(root, source, 52)
    assert set(result.held) == {"ACME"}
    assert etl.holds()["session"].to_list() == [source.days[51]]


@pytest.mark.parametrize("factor", [100.0, 0.01, 12.0])
@pytest.mark.parametrize("adj", ["good", "with it", None])
def test_a_stored_bar_that_comes_again_as_an_absurd_one_stays_and_the_rest_goes_on(root, factor, adj):
    source = Series(list(GOOD), GOOD if adj else None)
    backfill(root, source, 49)
    bad = with_run(47, 1, factor)
    source.close, source.adj_close = bad, {"good": GOOD, "with it": bad}.get(adj)
    for at in range(50, 58):
        etl, result = update(root, source, at)
        assert column(etl, "close") == GOOD[: at + 1]
        assert codes(etl) == ["level_jump"]
        assert ("ACME" in result.held) is (at <= 52), "it is reported while it comes"
    source.close, source.adj_close = list(GOOD), GOOD if adj else None
    etl, _ = update(root, source, 58)
    assert codes(etl) == ["level_jump"], "that bar was not asked for again"
    etl = backfill(root, source, 58)[0]
    assert codes(etl) == []
    assert column(etl, "close") == GOOD[:59]


def test_a_person_may_let_the_new_bar_in(root):
    source = Series(list(GOOD), None)
    backfill(root, source, 49)
    source.close = with_run(47, 1, 100.0)
    etl, _ = update(root, source, 50)
    etl.accept("ACME", reason="the vendor says so", by="anna")
    etl, result = update(root, source, 51)
    assert not result.held
    assert column(etl, "close") == with_run(47, 1, 100.0)[:52]
