"""C1: a named dividend, adj_close and the price must agree; else adj_close is held back, or the name is reported."""

import polars as pl
import pytest

from historical_etl_tests.field.series import (
    Event,
    Series,
    actions,
    adjusted,
    backfill,
    codes,
    column,
    falling,
    update,
    walk,
)
from historical_etl_tests.saying import Saying

COUNT, AT = 120, 60


def paying(*events: Event, count: int = COUNT, price: float = 50.0) -> list[float]:
    return falling(walk(count, price), *events)


def is_held_back(etl, result, close: list[float]) -> None:
    """The bars are stored, without adj_close, and it is said."""
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["adj_close"]
    assert column(etl, "close") == close
    assert column(etl, "adj_close") == [None] * len(close)


def is_stored(etl, result, close: list[float], adj: list[float]) -> None:
    assert not result.held
    assert column(etl, "close") == close
    assert column(etl, "adj_close") == adj


@pytest.mark.parametrize("share", [0.015, 0.05, 0.12])
def test_a_dividend_that_adj_close_does_not_contain_holds_it_back(root, share):
    event = (AT, 1.0, round(50 * share, 3))
    close = paying(event)
    etl, result = backfill(root, Series(close, close, [event], split_adjusted=True))
    is_held_back(etl, result, close)


@pytest.mark.parametrize("share", [0.03, 0.06])
def test_a_dividend_that_adj_close_contains_twice_holds_it_back(root, share):
    event = (AT, 1.0, round(50 * share, 3))
    close = paying(event)
    twice = adjusted(close, (AT, 1.0, 2 * event[2]))
    etl, result = backfill(root, Series(close, twice, [event], split_adjusted=True))
    is_held_back(etl, result, close)


def test_a_dividend_that_adj_close_contains_at_a_hundredth_holds_it_back(root):
    events = [(20, 1.0, 0.9), (60, 1.0, 0.9), (90, 1.0, 14.0)]
    close = paying(*events)
    hundredth = adjusted(close, *((at, split, cash / 100) for at, split, cash in events))
    etl, result = backfill(root, Series(close, hundredth, events, split_adjusted=True))
    is_held_back(etl, result, close)
    assert "divided by 100" in result.held["ACME"]


@pytest.mark.parametrize("named", [True, False])
def test_a_dividend_a_hundred_times_too_large_in_adj_close_holds_it_back(root, named):
    close = paying((AT, 1.0, 0.1))
    wrong = (AT, 1.0, 10.0)
    etl, result = backfill(root, Series(close, adjusted(close, wrong), [wrong] if named else None, split_adjusted=True))
    is_held_back(etl, result, close)


def test_a_dividend_a_hundred_times_too_small_holds_adj_close_back(root):
    events = [(20, 1.0, 2.5), (45, 1.0, 2.4), (70, 1.0, 2.6), (95, 1.0, 2.5)]
    close = paying(*events)
    named = [events[0], events[1], (70, 1.0, 0.026), events[3]]
    etl, result = backfill(root, Series(close, adjusted(close, *named), named, split_adjusted=True))
    is_held_back(etl, result, close)


@pytest.mark.parametrize("apart", [1, 2])
def test_a_dividend_that_comes_twice_within_days_holds_adj_close_back(root, apart):
    close = paying((AT, 1.0, 1.5))
    events = [(AT, 1.0, 1.5), (AT + apart, 1.0, 1.5)]
    etl, result = backfill(root, Series(close, adjusted(close, *events), events, split_adjusted=True))
    is_held_back(etl, result, close)


@pytest.mark.parametrize("factor", [100.0, 4.0 / 3, 5.0])
def test_where_only_the_named_value_is_off_all_is_stored_and_it_is_reported(root, factor):
    event = (AT, 1.0, 3.0)
    close = paying(event)
    adj = adjusted(close, event)
    etl, result = backfill(root, Series(close, adj, [(AT, 1.0, 3.0 * factor)], split_adjusted=True))
    if factor == 4.0 / 3:
        assert result.held or result.warnings, "the price may not tell"
        return
    is_stored(etl, result, close, adj)
    assert any("ACME" in warning for warning in result.warnings)
    (found,) = actions(etl)
    assert found["dividend"] == pytest.approx(3.0, rel=0.02)
    assert f"{3.0 * factor:g}" in str(found["note"])


def test_a_dividend_named_for_a_share_before_the_split_is_recorded_as_paid(root):
    close = paying((AT, 1.0, 0.7))
    adj = adjusted(close, (AT, 1.0, 0.7))
    etl, result = backfill(root, Series(close, adj, [(AT, 4.0, 2.8)], split_adjusted=True))
    is_stored(etl, result, close, adj)
    (found,) = actions(etl)
    assert (found["split"], found["dividend"]) == (4.0, pytest.approx(0.7))
    assert "2.8" in str(found["note"])


@pytest.mark.parametrize("convention", ["before", "after"])
@pytest.mark.parametrize(
    "events", [[(20, 1.0, 0.5), (50, 1.0, 8.0), (80, 1.0, 0.006)], [(AT, 2.0, 1.0)], [(AT, 0.4, 30.0)]]
)
def test_events_that_agree_are_no_alarm(root, events, convention):
    """As vendors compute them, to the price before or after; raw prices, so that splits are in the close."""
    close = paying(*events)
    adj = adjusted(close, *events)
    if convention == "after":
        adj = list(close)
        for at, split, cash in events:
            factor = 1 / (split * (1 + cash / close[at]))
            adj[:at] = [price * factor for price in adj[:at]]
    etl, result = backfill(root, Series(close, adj, events))
    is_stored(etl, result, close, adj)
    assert not result.warnings
    assert all(row["note"] is None for row in actions(etl))


def test_dividends_named_as_they_were_paid_beside_prices_adjusted_for_a_later_split_are_no_alarm(root):
    close = paying((40, 1.0, 0.6), (70, 1.0, 0.5))
    adj = adjusted(close, (40, 1.0, 0.6), (70, 1.0, 0.5))
    named = [(40, 1.0, 2.4), (60, 4.0, 0.0), (70, 1.0, 0.5)]
    etl, result = backfill(root, Series(close, adj, named, split_adjusted=True))
    is_stored(etl, result, close, adj)
    assert not result.warnings


def test_a_weekly_payer_is_no_alarm(root):
    events = [(at, 1.0, 0.4) for at in range(10, 110, 5)]
    close = paying(*events)
    etl, result = backfill(root, Series(close, adjusted(close, *events), events, split_adjusted=True))
    is_stored(etl, result, close, adjusted(close, *events))


# ── later ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_vendor_that_adjusts_late_is_held_until_it_does(root):
    event = (100, 1.0, 2.5)
    close = paying(event)
    source = Series(close, close, [event], split_adjusted=True)
    backfill(root, source, 99)
    for at in (100, 101):
        etl, result = update(root, source, at)
        assert set(result.held) == {"ACME"}
        assert codes(etl) == ["unexplained_event"]
        assert column(etl, "adj_close") == close[:100]
    source.adj_close = adjusted(close, event)
    etl, result = update(root, source, 102)
    assert not result.held
    assert column(etl, "adj_close") == source.adj_close[:103]


def test_a_restatement_that_explains_itself_worse_replaces_nothing(root):
    old, new = (60, 1.0, 2.5), (110, 1.0, 1.0)
    close = paying(old, new)
    source = Series(close, adjusted(close, old), [old], split_adjusted=True)
    backfill(root, source, 109)
    good = column(backfill(root, source, 109)[0], "adj_close")
    source.events, source.adj_close = [old, new], adjusted(close, new)  # the old one is lost on the way
    etl, result = update(root, source, 110)
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["unexplained_event"]
    assert etl.holds()["session"].to_list() == [source.days[60]]
    assert column(etl, "adj_close") == good


@pytest.mark.parametrize("backfilled", [True, False])
def test_a_correction_of_adj_close_alone_is_held(root, backfilled):
    close = walk(60)
    source = Series(close, close)
    backfill(root, source, 57)
    source.adj_close = [price * (0.9 if at == 56 else 1) for at, price in enumerate(close)]
    etl, result = backfill(root, source, 58) if backfilled else update(root, source, 58)
    assert set(result.held) == {"ACME"}
    assert column(etl, "adj_close") == close[:58]


def test_adj_close_is_filled_in_at_once_when_it_explains_itself(root):
    event = (AT, 1.0, 2.5)
    close = paying(event)
    source = Series(close, close, [event], split_adjusted=True)
    backfill(root, source, 109)
    etl, result = update(root, source, 110)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == close[:111], "new bars come"
    assert column(etl, "adj_close") == [None] * 111
    source.adj_close = adjusted(close, event)
    at = 111
    while codes(etl):
        etl, _ = update(root, source, at)
        at += 1
    assert at <= 115, "it is looked at again after 1, 2, 4 … sessions"
    assert column(etl, "adj_close") == source.adj_close[:at]
    assert etl.holds(all=True)["status"].to_list() == ["released"]


def test_a_person_may_take_adj_close_as_it_comes(root):
    event = (AT, 1.0, 2.5)
    close = paying(event)
    source = Series(close, close, [event], split_adjusted=True)
    etl, _ = backfill(root, source, 109)
    result = etl.accept("ACME", reason="they never paid it", by="anna")
    assert not result.held
    assert column(etl, "adj_close") == close[:110]
    etl, result = update(root, source, 110)
    assert not result.held
    assert column(etl, "adj_close") == close[:111]


def test_a_backfill_takes_adj_close_from_the_years_before_as_well(root):
    event = (220, 1.0, 2.5)  # January 2024
    close = paying(event, count=240)
    source = Series(close, close, [event], split_adjusted=True)
    etl, result = backfill(root, source)
    is_held_back(etl, result, close)
    replaced = etl.ledger("replaced_rows")
    assert set(replaced["date"].dt.year()) == {2023}
    assert replaced["adj_close"].to_list() == close[: replaced.height]


@pytest.mark.parametrize("evening", [215, 219])
def test_a_dividend_a_hundred_times_too_small_is_held_against_those_of_earlier_years(root, evening):
    """Nothing else is paid in what is in view; the vendor names it at once, or days later."""
    events = [(20, 1.0, 2.5), (70, 1.0, 2.4), (100, 1.0, 2.6)]
    close = paying(*events, (215, 1.0, 2.5), count=240)
    before, hundredth = adjusted(close, *events), (215, 1.0, 0.025)
    source = Series(close, before, events, split_adjusted=True)
    backfill(root, source, evening - 1)
    source.adj_close, source.events = adjusted(close, *events, hundredth), [*events, hundredth]
    etl, result = update(root, source, evening)
    assert set(result.held) == {"ACME"}
    assert "a hundredth of the others" in result.held["ACME"]
    assert column(etl, "adj_close") == before[:evening]


def test_a_dividend_a_hundred_times_too_small_in_a_year_of_its_own_holds_adj_close_back(root):
    events = [(20, 1.0, 2.5), (70, 1.0, 2.4), (215, 1.0, 2.6)]
    close = paying(*events, count=240)
    named = [*events[:2], (215, 1.0, 0.026)]
    etl, result = backfill(root, Series(close, adjusted(close, *named), named, split_adjusted=True))
    is_held_back(etl, result, close)


def test_a_split_that_is_named_a_day_early_is_reported_as_a_split(root):
    close = paying((AT + 1, 4.0, 0.0))
    early = (AT, 4.0, 0.0)
    source = Series(close, adjusted(close[: AT + 1], early) + close[AT + 1 :], [early])
    source.adj_close = [price / 4 if at < AT else price for at, price in enumerate(close)]
    source.events = []
    backfill(root, source, AT - 1)
    source.events = [early]
    _, result = update(root, source, AT)
    assert result.held["ACME"] == Saying("a split of 4", "named")
    assert "dividend" not in result.held["ACME"]


class Dated(Series):
    """Names its events some days before the session that has them."""

    def fetch(self, request):
        answer = super().fetch(request)
        assert answer.actions is not None
        moved = answer.actions.with_columns(pl.col("date").dt.offset_by("-2d"))
        return type(answer)(answer.frame, answer.outcomes, answer.details, moved)


def test_a_late_event_that_is_dated_on_a_day_without_a_session_is_held_against_the_next_bar(root):
    at = next(at for at in range(AT, AT + 10) if Series(walk(COUNT)).days[at].weekday() == 0)
    event = (at, 1.0, 3.0)
    close = paying(event)
    source = Dated(close, close, [], split_adjusted=True)
    backfill(root, source, at - 1)
    for evening in range(at, at + 2):
        assert not update(root, source, evening)[1].held
    source.events = [event]
    etl, result = update(root, source, at + 2)
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["unexplained_event"]


def test_an_event_that_the_source_takes_back_is_no_witness_any_more(root):
    """It was named and adjusted for; now the source knows nothing of it, and has restated its history."""
    true, phantom = (20, 1.0, 1.0), (AT, 1.0, 0.8)
    close = paying(true)
    source = Series(close, adjusted(close, true, phantom), [true, phantom], split_adjusted=True)
    etl, result = backfill(root, source, 109)
    assert not result.held
    assert len(actions(etl)) == 2
    new = (110, 1.0, 1.0)
    source.close = close = falling(close, new)
    source.adj_close, source.events = adjusted(close, true, new), [true, new]
    etl, result = update(root, source, 110)
    assert not result.held
    assert result.restated_symbols == ("ACME",)
    assert column(etl, "adj_close") == source.adj_close[:111]
    assert [row["dividend"] for row in actions(etl)] == [1.0, 1.0]


@pytest.mark.parametrize("times", [8, 25])
@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_dividend_of_many_times_the_one_that_the_price_shows_is_none(root, times, is_named, first):
    """The price fell by more than it usually moves: by the true dividend of 4 %, not by what is named."""
    close = paying((AT, 1.0, 2.0))
    wrong = (AT, 1.0, 2.0 * times if times * 2.0 < close[AT - 1] * 0.9 else close[AT - 1] * 0.8)
    source = Series(close, close, [] if is_named else None)
    if not first:
        backfill(root, source, AT - 1)
    source.adj_close = adjusted(close, wrong)
    source.events = [wrong] if is_named else None
    etl, result = backfill(root, source) if first else update(root, source, AT)
    assert set(result.held) == {"ACME"}
    if first:
        is_held_back(etl, result, close)
    else:
        assert column(etl, "adj_close") == close[:AT]
