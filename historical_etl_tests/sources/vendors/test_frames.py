"""Odd rows: each is reported by itself, and the rest is taken; those of symbols that nobody asked for are left out."""

from datetime import date

import pytest

from historical_etl.sources.vendors.event_rows import Mark, actions_frame, counted
from historical_etl.sources.vendors.frames import FormError, bars_frame, cells_message, joined, local_days
from historical_etl_tests.saying import Saying

DAY, NEXT = date(2013, 1, 2), date(2013, 1, 3)
NAMES = {"symbol": "T", "date": "d", "close": "c", "volume": "v"}
ROW: dict[str, object] = {"T": "ODD", "d": "2013-01-02", "c": 10.5, "v": 100}
ODD = {
    "a text for a number": ({"c": "10.5"}, "unreadable_close"),
    "a number too large": ({"c": 10**400}, "unreadable_close"),
    "true for a number": ({"c": True}, "unreadable_close"),
    "a list for a number": ({"c": [1.0]}, "unreadable_close"),
    "no date": ({"d": None}, "unreadable_date"),
    "another date": ({"d": "02.01.2013"}, "unreadable_date"),
    "a day that is none": ({"d": "2013-02-30"}, "unreadable_date"),
    "a number for a date": ({"d": 20130102}, "unreadable_date"),
}


def read(*rows, symbols=None):
    return bars_frame(rows, NAMES, symbols=symbols or {"ODD": "ODD", "EVEN": "EVEN"}, start=DAY, end=NEXT)


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_an_odd_row_is_rejected_with_its_reason_and_the_rest_is_taken(change, reason):
    bars = read({**ROW, **change}, {**ROW, "T": "EVEN"}, {**ROW, "d": "2013-01-03"})
    assert bars.frame.select("symbol", "date", "close").rows() == [("EVEN", DAY, 10.5), ("ODD", NEXT, 10.5)]
    assert bars.rejected.select("symbol", "reasons").rows() == [("ODD", [reason])]
    kept = bars.rejected.row(0, named=True)
    readable = {"date": DAY, "close": 10.5, "volume": 100.0}
    assert {name: kept[name] for name in readable} == readable | {reason.removeprefix("unreadable_"): None}


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_an_odd_row_of_a_symbol_that_nobody_asked_for_is_nobodys_trouble(change, reason):
    bars = read({**ROW, **change}, {**ROW, "T": "EVEN"}, symbols={"EVEN": "EVEN"})
    assert (bars.frame["symbol"].to_list(), bars.rejected.height) == (["EVEN"], 0), reason


def test_the_one_row_of_ours_may_be_odd_among_others_that_are_not():
    bars = read({**ROW, "c": "10.5"}, {**ROW, "T": "EVEN"}, symbols={"ODD": "ODD"})
    assert bars.frame.is_empty()
    assert bars.rejected["reasons"].to_list() == [["unreadable_close"]]


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_rows_of_which_none_can_be_read_have_another_form(change, reason):
    with pytest.raises(FormError):
        read({**ROW, **change}, {**ROW, **change, "T": "OTHER"})


def test_all_that_is_wrong_with_a_row_is_said_and_a_day_outside_is_not_counted():
    bars = read({**ROW, "c": "x", "v": "y"}, {**ROW, "c": "x", "d": "2013-01-09"}, {**ROW, "T": "EVEN"})
    assert bars.rejected["reasons"].to_list() == [["unreadable_close", "unreadable_volume"]]


UNREADABLE = {
    "a text": ("NA", "'NA'"),
    "a number as a text": ("100", "'100'"),
    "a number too large": (10**400, "1" + 39 * "0"),
    "true": (True, "True"),
    "a list": ([1.0], "[1.0]"),
    "half a character": ("\ud800", "'\\ud800'"),
}


@pytest.mark.parametrize(("value", "shown"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_cell_that_cannot_be_read_beside_a_good_close_is_null_and_reported(value, shown):
    bars = read({**ROW, "v": value}, {**ROW, "T": "EVEN"})
    assert bars.frame.select("symbol", "close", "volume").rows() == [("EVEN", 10.5, 100.0), ("ODD", 10.5, None)]
    assert bars.rejected.is_empty()
    message = cells_message(bars.cells, lambda text: text)
    assert message == Saying("null", f"volume of ODD on 2013-01-02 ({shown})")


def test_a_column_of_which_no_cell_can_be_read_leaves_the_closes():
    bars = read({**ROW, "v": "NA"}, {**ROW, "v": "NA", "d": "2013-01-03"})
    assert bars.frame["close"].to_list() == [10.5, 10.5]
    assert bars.cells["date"].to_list() == [DAY, NEXT]


def test_cells_of_others_and_of_days_outside_are_not_reported():
    bars = read({**ROW, "v": "NA"}, {**ROW, "T": "EVEN", "v": "NA", "d": "2013-01-09"}, symbols={"EVEN": "EVEN"})
    assert bars.cells.is_empty()


def test_many_cells_that_cannot_be_read_are_counted_and_hold_no_secret():
    key = "K3Y" * 10
    bars = joined(read({**ROW, "v": f"refused for {key}"}) for _ in range(7))
    message = cells_message(bars.cells, lambda text: text.replace(key, "***"))
    assert message.count("volume of ODD on 2013-01-02 ('refused for ***')") == 5
    assert message.endswith(" and 2 more")


def test_moments_are_judged_one_by_one_too():
    rows = [{**ROW, "d": at} for at in (1357102800000, "2013-01-03T05:00:00Z", "yesterday", 10**20)]
    bars = bars_frame(rows, NAMES, symbols="ODD", start=DAY, end=NEXT, days=local_days("America/New_York"))
    assert bars.frame["date"].to_list() == [DAY, NEXT]
    assert bars.rejected["reasons"].to_list() == [["unreadable_date"]] * 2


def test_bars_of_several_days_are_put_together():
    days = [read({**ROW, "d": str(day)}, {**ROW, "T": "EVEN", "d": str(day)}) for day in (NEXT, DAY)]
    both = joined(days)
    assert both.frame.select("symbol", "date").rows() == [("EVEN", DAY), ("EVEN", NEXT), ("ODD", DAY), ("ODD", NEXT)]
    assert joined(()).frame.is_empty()


@pytest.mark.parametrize(
    ("split", "dividend", "why"),
    [
        ("", None, "a split is ''"),
        ("4-for-1", None, "a split is '4-for-1'"),
        ((2, 0), None, "a split from 0 to 2"),
        ((2, None), None, "the old shares of a split is None"),
        (("2", 1), None, "the new shares of a split is '2'"),
        ((1e300, 1e-300), None, "the ratio of a split is inf"),
        (None, "0.5", "a dividend is '0.5'"),
        (None, float("inf"), "a dividend is inf"),
        (None, 10**400, "a dividend is 1000"),
        (None, True, "a dividend is True"),
        (None, None, "neither a split nor a dividend"),
    ],
)
def test_an_event_that_cannot_be_read_is_named_and_the_rest_is_taken(split, dividend, why):
    given = [("ODD", "2013-01-02", split, dividend), ("ODD", "2013-01-03", None, 0.25), (None, "2013-01-02", "", None)]
    events = actions_frame(given, DAY, NEXT)
    assert events.frame.rows() == [("ODD", NEXT, 1.0, 0.25)]
    (note,) = events.notes
    assert note == Saying("left out", "ODD on 2013-01-02")
    assert why in note


@pytest.mark.parametrize("day", [None, "", "20130102", "2013-W01-3", "2013-02-30", 1357102800000])
def test_an_event_without_a_date_is_named(day):
    events = actions_frame([("ODD", day, 2.0, None), ("EVEN", "2013-01-02T00:00:00Z", (3, 2), None)], DAY, NEXT)
    assert events.frame.rows() == [("EVEN", DAY, 1.5, 0.0)]
    assert "(no date)" in events.notes[0]


def test_odd_events_of_others_and_of_other_days_are_not_reported():
    given = [("ODD", "2012-06-01", "", None), (None, "2013-01-02", "", None), ("ODD", "2013-01-02", 2.0, None)]
    assert actions_frame(given, DAY, NEXT).notes == ()


def test_a_single_odd_event_says_nothing_of_the_form_but_several_do():
    assert actions_frame([("ODD", "2013-01-02", "", None)], DAY, NEXT).frame.is_empty()
    ours = [("ODD", "2013-01-02", "", None), ("EVEN", "2013-01-02", "", None)]
    with pytest.raises(FormError, match="a split is ''"):
        actions_frame(ours, DAY, NEXT)
    assert len(actions_frame([*ours, (None, "2013-01-02", 2.0, None)], DAY, NEXT).notes) == 1


def test_many_odd_events_are_counted():
    given = [(f"ODD{number}", "2013-01-02", "", None) for number in range(9)]
    (note,) = actions_frame([*given, ("EVEN", "2013-01-02", 2.0, None)], DAY, NEXT).notes
    assert note == Saying("ODD4 on 2013-01-02", "4 more")


# ── several entries of one day ─────────────────────────────────────────────────────────────────────────────────────


def paid(*entries, cash=0.15):
    return counted([("F", DAY, 1.0, cash, Mark(*entry)) for entry in entries])


@pytest.mark.parametrize(
    ("entries", "cash", "reported"),
    [
        ([("recurring", "E1"), ("supplemental", "E2")], 0.3, ""),
        ([("recurring", "E1"), ("supplemental", "E2"), ("special", "E3")], 0.45, ""),
        ([("recurring", ""), ("supplemental", "")], 0.3, ""),
        ([("recurring", "E1"), ("recurring", "E2")], 0.15, "a dividend of 0.15: 2 entries, 1 counted"),
        ([("recurring", "E1"), ("", "E2")], 0.15, "a dividend of 0.15: 2 entries, 1 counted"),
        ([("", "E1"), ("", "E2")], 0.15, "a dividend of 0.15: 2 entries, 1 counted"),
        ([("recurring", "E1"), ("special", "E2"), ("special", "E3")], 0.3, "a dividend of 0.15: 3 entries, 2 counted"),
        ([("recurring", "E1"), ("recurring", "E1")], 0.15, ""),
        ([("", ""), ("", "")], 0.15, ""),
    ],
)
def test_equal_dividends_of_one_day_are_as_many_as_their_kinds(entries, cash, reported):
    """Ford, 2025-02-18: a regular and a supplemental one of 0.15 each."""
    events = paid(*entries)
    assert events.frame.rows() == [("F", DAY, 1.0, pytest.approx(cash))]
    assert reported in "".join(events.notes)
    assert len(events.notes) == bool(reported)


def test_an_amount_that_is_written_in_two_ways_is_one_amount():
    events = counted([("F", DAY, 1.0, 0.15, Mark("recurring", "E1")), ("F", DAY, 1.0, 0.15001, Mark("special", "E2"))])
    assert events.frame["dividend"].to_list() == [pytest.approx(0.30001)]


def test_different_amounts_of_one_day_stay_rows_of_their_own():
    events = counted([("F", DAY, 1.0, cash, Mark("recurring", str(cash))) for cash in (0.15, 0.5)])
    assert (events.frame["dividend"].to_list(), events.notes) == ([0.15, 0.5], ())


def test_a_split_that_is_entered_several_times_counts_once_whatever_its_kinds():
    """Known of Massive's predecessor: polygon-io/issues#311 and #324."""
    kinds = ("forward_split", "stock_dividend")
    events = counted([("F", DAY, 2.0, 0.0, Mark(kind, kind)) for kind in kinds])
    assert events.frame.rows() == [("F", DAY, 2.0, 0.0)]
    assert events.notes[0] == Saying("F on 2013-01-02", "a split of 2", "2 entries", "1 counted")
