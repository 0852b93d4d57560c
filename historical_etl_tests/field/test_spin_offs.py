"""Spin-offs that a source names: shares of another company, of which adj_close alone has the worth."""

import pytest

from historical_etl_tests.field.series import Series, actions, adjusted, backfill, codes, column, falling, update, walk
from historical_etl_tests.saying import Saying

COUNT, AT = 60, 40
#: A quarter of a share for each, worth an eighth of the price; below that one which is worth a third of it.
SPUN = [(AT, 0.25, "shares of CHILD")]
WALK = walk(COUNT, 80.0, seed=8)
WORTH, LARGE = 10.0, 26.0
NOTED = "a spin-off of CHILD (0.25 new for each) on "


def spun(worth: float, *beside, foreign=SPUN) -> Series:
    happened = beside or ((AT, 1.0, worth),)
    closes = falling(WALK, *happened)
    return Series(closes, adjusted(closes, *happened), events=[], foreign=foreign)


@pytest.mark.parametrize("worth", [WORTH, LARGE])
def test_a_spin_off_is_reported_as_what_it_is_and_counts_as_no_cash(worth, root):
    source = spun(worth)
    etl, result = backfill(root, source)
    assert codes(etl) == []
    (event,) = actions(etl)
    assert (event["date"], event["split"], event["dividend"]) == (source.days[AT], 1.0, 0.0)
    assert (event["inferred"], event["unexplained"]) == (False, False)
    assert event["note"] == f"{NOTED}{source.days[AT]}"
    assert result.warnings == (f"ACME: {event['note']}",)
    assert column(etl, "adj_close") == source.adj_close
    assert column(etl, "close", adjust="total") == pytest.approx(source.adj_close)
    assert column(etl, "close", adjust="splits") == source.close


@pytest.mark.parametrize("is_contained", [True, False])
def test_day_by_day_it_is_reported_once_and_stays(is_contained, root):
    source = spun(WORTH)
    whole = adjusted(source.close, (AT, 1.0, WORTH)) if is_contained else source.close
    source.adj_close = source.close
    etl, _ = backfill(root, source, 38)
    notes: list[str] = []
    for at in range(39, 50):
        source.adj_close = whole if at >= AT else source.close
        etl, result = update(root, source, at)
        assert not result.held
        notes += result.warnings
    note = f"{NOTED}{source.days[AT]}{'' if is_contained else ', which is not in the adjusted prices'}"
    assert [words for words in notes if "spin-off" in words] == [f"ACME: {note}"]
    (event,) = actions(etl)
    assert (event["dividend"], event["note"]) == (0.0, note)
    assert column(etl, "adj_close")[:AT] == whole[:AT]


def test_one_that_adj_close_contains_later_is_reported_anew(root):
    source = spun(WORTH)
    whole = adjusted(source.close, (AT, 1.0, WORTH))
    source.adj_close = source.close
    backfill(root, source, 42)
    source.adj_close = whole
    etl, _ = update(root, source, 43)
    (event,) = actions(etl)
    assert (event["dividend"], event["note"]) == (0.0, f"{NOTED}{source.days[AT]}")
    assert column(etl, "adj_close") == whole[:44]


def test_a_split_and_a_dividend_of_its_day_stay_what_they_are(root):
    """A group spun off two companies and drew three shares together, all on one day."""
    two = [*SPUN, (AT, 0.1, "shares of OTHER")]
    source = spun(WORTH, (AT, 1 / 3, WORTH + 0.5), foreign=two)
    source.events = [(AT, 1 / 3, 0.0), (AT, 1.0, 0.5)]
    etl, result = backfill(root, source)
    assert not result.held
    (event,) = actions(etl)
    assert (event["split"], event["dividend"], event["unexplained"]) == (pytest.approx(1 / 3), 0.5, False)
    assert event["note"] == Saying("CHILD (0.25 new", "OTHER (0.1 new")


def test_one_that_adj_close_does_not_contain_is_reported(root):
    source = spun(WORTH)
    source.adj_close = source.close
    etl, result = backfill(root, source)
    assert not result.held
    (event,) = actions(etl)
    assert event["note"] == Saying(f"{NOTED}{source.days[AT]}", "not in the adjusted prices")
    assert result.warnings == (f"ACME: {event['note']}",)


def test_one_that_the_price_does_not_show_is_no_spin_off(root):
    source = spun(LARGE)
    source.close = WALK
    source.adj_close = adjusted(WALK, (AT, 1.0, LARGE))
    etl, result = backfill(root, source)
    assert codes(etl) == ["adj_close"]
    assert "the price moved by" in result.held["ACME"]


@pytest.mark.parametrize("rate", [0.0, float("nan"), -1.0, float("inf")])
def test_no_shares_for_each_are_no_spin_off(rate, root):
    etl, _ = backfill(root, Series(WALK, WALK, events=[], foreign=[(AT, rate, "shares of CHILD")]))
    assert actions(etl) == []
