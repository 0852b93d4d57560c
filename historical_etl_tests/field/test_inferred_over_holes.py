"""What adj_close says of sessions that are not stored is reported anew once they are."""

from itertools import permutations

import pytest

from historical_etl_tests.field.series import (
    COMPANY,
    NAME,
    Series,
    actions,
    adjusted,
    backfill,
    column,
    falling,
    opened,
    update,
    walk,
)
from historical_etl_tests.saying import Saying

COUNT = 90
#: Two splits and a dividend in the middle part, and one dividend in the last.
EVENTS = [(35, 4.0, 0.0), (45, 0.1, 0.0), (50, 1.0, 0.4), (75, 1.0, 0.4)]
CLOSES = falling(walk(COUNT, seed=4), *EVENTS)
PARTS = {"old": (0, 29), "middle": (30, 59), "new": (60, 89)}


def source() -> Series:
    return Series(CLOSES, adjusted(CLOSES, *EVENTS), list(EVENTS))


@pytest.mark.parametrize("order", list(permutations(PARTS)), ids="-".join)
def test_the_order_in_which_years_are_filled_leaves_no_event_behind(root, order):
    series = source()
    etl = opened(root, series, series.days[-1])
    for first, last in (PARTS[part] for part in order):
        result = etl.run_full_etl([NAME, COMPANY], series.days[first], series.days[last])
        assert not result.held
    once, _ = backfill(root / "once", source())
    assert actions(etl) == actions(once)
    assert [event["inferred"] for event in actions(etl)] == [False] * 4
    for adjust in ("splits", "total"):
        assert column(etl, "close", adjust=adjust) == pytest.approx(column(once, "close", adjust=adjust))


def test_while_the_hole_stays_the_event_is_reported_on_the_bar_behind_it(root):
    """Else the bars on both sides of it could not be compared."""
    series = source()
    etl = opened(root, series, series.days[-1])
    for first, last in (PARTS["new"], PARTS["old"]):
        result = etl.run_full_etl([NAME, COMPANY], series.days[first], series.days[last])
    (words,) = result.warnings
    assert words == Saying(series.days[29], series.days[60], "nothing between them")
    (event,) = [event for event in actions(etl) if event["inferred"]]
    assert (event["date"], event["split"]) == (series.days[60], pytest.approx(0.4))
    close = column(etl, "close", adjust="splits")
    assert close[30] / close[29] == pytest.approx(CLOSES[60] / CLOSES[29] * 0.4, rel=0.01)


@pytest.mark.parametrize("count", [1, 4, 15])
def test_sessions_that_come_later_bring_their_own_events(root, count):
    """A source that lost some days, and the split in them, gives both at last."""
    whole, lost = source(), range(40, 40 + count)
    event = (40 + count // 2, 3.0, 0.0)
    whole.close = falling(walk(COUNT, seed=4), event)
    whole.adj_close, whole.events = adjusted(whole.close, event), []
    whole.missing = {*lost}
    backfill(root, whole, 38)
    for at in (39, 40 + count, 41 + count):
        update(root, whole, at)
    whole.missing, whole.events = set(), [event]
    for at in (42 + count, 45 + count, 60):
        etl, result = update(root, whole, at)
    assert not result.held
    assert [(row["date"], row["split"], row["inferred"]) for row in actions(etl)] == [
        (whole.days[event[0]], 3.0, False)
    ]
