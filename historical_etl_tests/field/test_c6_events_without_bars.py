"""C6: events of sessions without a bar, as of a symbol that was halted: on their dates, judged by the prices around."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import polars as pl
import pytest

from historical_etl import ETLResult, FetchRequest, FetchResult, HistoricalETL
from historical_etl_tests.field.series import (
    NAME,
    Event,
    Series,
    actions,
    adjusted,
    backfill,
    column,
    falling,
    update,
    walk,
)
from historical_etl_tests.saying import Saying

AT, LAST = 40, 46
CLOSES = walk(60, seed=11)
HALTS = {"that day": (AT,), "days before": (AT - 2, AT - 1, AT), "days after": (AT, AT + 1, AT + 2)}


@dataclass
class Halted(Series):
    """A series that lacks the bars of some sessions; splits are taken out of its prices from their days on."""

    halts: Collection[int] = ()

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        lacking = [self.days[at] for at in self.halts]
        is_halted = (pl.col("symbol") == NAME) & pl.col("date").is_in(lacking)
        frame, named = answer.frame.filter(~is_halted), answer.actions
        if self.split_adjusted:
            to_come = prod(split or 1.0 for at, split, _ in self.events or () if self.days[at] > self.today)
            prices = pl.col("open", "high", "low", "close", "adj_close")
            frame = frame.with_columns(pl.when(pl.col("symbol") == NAME).then(prices * to_come).otherwise(prices))
            named = None if named is None else named.with_columns(pl.col("dividend") * to_come)
        return replace(answer, frame=frame, actions=named)


def halted(halts: Collection[int], *events: Event, adj: bool, split_adjusted: bool) -> Halted:
    """A series in which things happened while it was halted, on one of three price bases."""
    close = CLOSES
    for event in events:
        close = falling(close, event)
    whole = adjusted(close, *events) if adj else None
    named = list(events)
    if split_adjusted:
        for at, split, _ in events:
            close = [*(price / split for price in close[:at]), *close[at:]]
            named = [(on, ratio, cash / split if on < at else cash) for on, ratio, cash in named]
    return Halted(close, whole, named, split_adjusted=split_adjusted, halts=halts)


def lives(root, source: Halted) -> list[tuple[HistoricalETL, list[str]]]:
    """The store filled at once, and evening by evening, with all that was reported."""
    etl, result = backfill(root / "once", source, LAST)
    ways = [(etl, _reported(result))]
    etl, result = backfill(root / "evenings", source, 35)
    reported = _reported(result)
    for at in (38, AT, AT + 2, LAST):
        etl, result = update(root / "evenings", source, at)
        reported += _reported(result)
    return [*ways, (etl, reported)]


def _reported(result: ETLResult) -> list[str]:
    return [*map(str, result.held), *(words for words in result.warnings if NAME in words)]


@pytest.mark.parametrize("halts", HALTS.values(), ids=HALTS)
@pytest.mark.parametrize(("adj", "split_adjusted"), [(True, False), (True, True), (False, False), (False, True)])
@pytest.mark.parametrize("event", [(AT, 4, 0), (AT, 0.1, 0), (AT, 1, 2.5), (AT, 2, 1.5)], ids=str)
def test_an_event_while_halted_is_kept_on_its_own_date(root, event, halts, adj, split_adjusted):
    source = halted(halts, event, adj=adj, split_adjusted=split_adjusted)
    for etl, reported in lives(root, source):
        assert not reported
        assert [(e["date"], e["split"], e["dividend"], e["unexplained"], e["inferred"]) for e in actions(etl)] == [
            (source.days[AT], event[1], event[2], False, False)
        ]
        assert not etl.holds().height
        close = column(etl, "close", adjust="total")
        assert max(abs(after / before - 1) for before, after in pairwise(close)) < 0.09
        assert len(close) == LAST + 1 - len([at for at in halts if at <= LAST])


@pytest.mark.parametrize(("adj", "split_adjusted"), [(True, False), (True, True), (False, False)])
def test_two_events_of_one_halt_are_two(root, adj, split_adjusted):
    events = [(AT - 1, 1, 1.5), (AT + 1, 2, 0)]
    source = halted(range(38, 43), *events, adj=adj, split_adjusted=split_adjusted)
    for etl, reported in lives(root, source):
        assert not reported
        assert [(e["date"], e["split"], e["dividend"]) for e in actions(etl)] == [
            (source.days[at], split, cash) for at, split, cash in source.events or ()
        ]
        close = column(etl, "close", adjust="total")
        assert max(abs(after / before - 1) for before, after in pairwise(close)) < 0.09


def test_a_wrong_value_while_halted_is_reported_with_its_date(root):
    source = halted((AT,), (AT, 1, 2.5), adj=True, split_adjusted=False)
    source.events = [(AT, 1, 7.5)]
    for etl, reported in lives(root, source):
        (words,) = reported
        assert words == Saying("a dividend of 7.5", source.days[AT])
        (event,) = actions(etl)
        assert event["date"] == source.days[AT]
        assert event["dividend"] == pytest.approx(2.5, rel=0.05)


def test_what_is_reported_of_two_events_of_one_halt_counts_once(root):
    """The ratio is wrong, and adj_close has the right one: the dividend of the day before is in what is reported."""
    source = halted(range(38, 43), (AT - 1, 1, 1.5), (AT + 1, 2, 0), adj=True, split_adjusted=False)
    source.events = [(AT - 1, 1, 15.0), (AT + 1, 2, 0)]
    for etl, reported in lives(root, source):
        assert reported
        first, second = actions(etl)
        assert (first["date"], first["split"], first["dividend"]) == (source.days[AT - 1], 1.0, 0.0)
        assert (second["date"], second["split"]) == (source.days[AT + 1], 2.0)
        assert second["dividend"] == pytest.approx(0.75, rel=0.1)
        assert "counted on" in str(first["note"])
