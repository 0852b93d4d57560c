"""A dividend that its source names before it adjusts for it, and that is too small to hold anything."""

from dataclasses import dataclass, replace

import pytest

from historical_etl import SourceInfo
from historical_etl_tests.field.series import Series, actions, adjusted, backfill, column, falling, update, walk

COUNT, AT, CASH = 48, 30, 0.1
CLOSES = falling(walk(COUNT, 50.0, seed=8), (AT, 1.0, CASH))
WHOLE = adjusted(CLOSES, (AT, 1.0, CASH))
NOTE = "adj_close contains nothing"


@dataclass
class Late(Series):
    events_late: int = 60

    @property
    def info(self) -> SourceInfo:
        return replace(super().info, events_late=self.events_late)


def looks(source: Series) -> list[int]:
    """The evenings, counted from the ex-date on, on which the whole history was asked for."""
    return [source.days.index(one.end) - AT for one in source.asked if one.start <= source.days[0]]


@pytest.mark.parametrize("delay", [2, 6])
def test_adj_close_is_the_source_s_own_soon_after_it_has_adjusted(delay, root):
    source = Late(CLOSES, CLOSES, events=[(AT, 1.0, CASH)])
    etl, _ = backfill(root, source, AT - 2)
    notes: list[str] = []
    for at in range(AT - 1, AT + 2 * delay + 2):
        source.adj_close = WHOLE if at >= AT + delay else CLOSES
        etl, result = update(root, source, at)
        assert not result.held
        notes += result.warnings
    assert len([words for words in notes if NOTE in words]) == 1
    assert column(etl, "adj_close") == WHOLE[: AT + 2 * delay + 2]
    (event,) = actions(etl)
    assert (event["dividend"], event["note"]) == (CASH, None)


@pytest.mark.parametrize(("late", "on"), [(60, [0, 1, 3, 7, 15]), (0, [0])])
def test_the_pauses_grow_and_only_a_source_that_is_late_is_asked(late, on, root):
    source = Late(CLOSES, CLOSES, events=[(AT, 1.0, CASH)], events_late=late)
    etl, _ = backfill(root, source, AT - 2)
    source.asked.clear()
    notes: list[str] = []
    for at in range(AT - 1, COUNT - 1):
        etl, result = update(root, source, at)
        notes += result.warnings
        assert result.restated_symbols == ()
    assert looks(source) == on
    assert len([words for words in notes if NOTE in words]) == 1
    (event,) = actions(etl)
    assert NOTE in str(event["note"])
