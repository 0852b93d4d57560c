"""Reconcile step by step: what each step asks for and finds, and that none changes what it was given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import DataQualityError, FetchRequest, HistoricalETL, Outcome
from historical_etl.etl.fetch import Batch, BatchFetcher
from historical_etl.etl.reconcile import (
    Judged,
    Reference,
    begin,
    compare_levels,
    conclude,
    history_requests,
    overlap_requests,
    with_histories,
    with_overlap,
    without_histories,
)
from historical_etl.etl.runs.reference import reference_of
from historical_etl_tests.scenario import SHORT, Alter, ScriptedSource, in_turn, losing, store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNTIL, NEXT, LATER = date(2012, 12, 31), date(2013, 1, 2), date(2013, 1, 8)
SYMBOL = "BRK.B"


def restated(bars: pl.DataFrame) -> pl.DataFrame:
    """Every bar of a symbol as after a split of two for one that nobody names."""
    prices = [(pl.col(name) / 2) for name in ("open", "high", "low", "close", "adj_close")]
    mine = pl.col("symbol") == SYMBOL
    return bars.with_columns(pl.when(mine).then(price).otherwise(pl.col(price.meta.output_name())) for price in prices)


class Reconciling:
    """A store up to the end of 2012, and what a source has to say to it in January."""

    def __init__(self, root: Path, alter: Alter | None = None) -> None:
        store(root, ScriptedSource(SHORT), UNTIL).run_full_etl(SHORT.symbols, SHORT.first, UNTIL)
        self.etl: HistoricalETL = store(root, ScriptedSource(SHORT), LATER)
        self.source = ScriptedSource(SHORT, alter=alter)
        state, manifest = self.etl.store.state, self.etl.manifest()
        left = state.calendar_change(manifest).left
        self.reference: Reference = reference_of(
            state.context, self.source.info, manifest, state.completeness_of(manifest), left, is_increment=True
        )

    def fetch(self, requests: Sequence[FetchRequest], whole: frozenset[str] = frozenset()) -> Batch:
        context = self.etl.store.context
        fetcher = BatchFetcher(self.source, context.calendar, LATER, 0.1, context.manifests.quarantine)
        return fetcher.fetch(requests, name="test", without_history=whole)

    def begin(self, start: date, *symbols: str) -> Judged:
        return begin(self.fetch([FetchRequest(symbols or (SYMBOL, "HALT"), start, LATER)]), self.reference)


@pytest.fixture
def reconciling(root: Path) -> Callable[..., Reconciling]:
    return lambda alter=None: Reconciling(root, alter)


def test_bars_on_the_stored_level_ask_for_nothing_and_go_on(reconciling):
    work = reconciling()
    judged = compare_levels(work.begin(date(2012, 12, 20)))
    assert not overlap_requests(judged)
    assert not history_requests(judged)
    found = conclude(judged)
    assert_frame_equal(found.batch.rows, judged.batch.rows)
    assert not found.restated
    assert not found.suspects


def test_without_a_stored_session_the_nearest_ones_are_asked_for(reconciling):
    work = reconciling()
    judged = work.begin(NEXT)
    (request,) = overlap_requests(judged)
    assert request.symbols == (SYMBOL, "HALT")
    assert request.end == UNTIL
    beside = with_overlap(judged, work.fetch([request]))
    assert not overlap_requests(beside)
    assert set(beside.batch.rows["date"]) == set(judged.batch.rows["date"]), "they are compared, and not stored"


def test_a_level_that_moved_asks_for_the_whole_history_which_replaces_the_stored_one(reconciling):
    work = reconciling(restated)
    judged = compare_levels(work.begin(date(2012, 12, 20)))
    (request,) = history_requests(judged)
    assert request == FetchRequest((SYMBOL,), SHORT.first, LATER)
    found = conclude(with_histories(judged, work.fetch([request], judged.moved), None))
    assert set(found.restated) == {SYMBOL}
    assert found.restated[SYMBOL].close_ratio == pytest.approx(0.5)
    mine = found.batch.rows.filter(pl.col("symbol") == SYMBOL)
    assert mine["date"].min() == SHORT.first


def test_a_whole_history_brings_no_more_stored_bars_of_other_symbols_into_view(reconciling):
    """They are judged as on any evening, whoever is restated beside them."""
    work = reconciling(restated)
    judged = compare_levels(work.begin(date(2012, 12, 20)))
    after = with_histories(judged, work.fetch(history_requests(judged), judged.moved), None)
    others, mine = (pl.col("symbol") == symbol for symbol in ("HALT", SYMBOL))
    assert_frame_equal(after.view.stored.filter(others), judged.view.stored.filter(others))
    assert_frame_equal(after.view.stored.filter(mine), work.reference.levels.whole(SYMBOL))


def test_a_history_that_cannot_be_fetched_keeps_out_what_was_fetched_first(reconciling):
    work = reconciling(restated)
    judged = compare_levels(work.begin(date(2012, 12, 20)))
    found = conclude(without_histories(judged, "the vendor is out"))
    assert found.batch.outcomes == {SYMBOL: Outcome.ERROR, "HALT": Outcome.OK}
    assert found.batch.details[SYMBOL] == "the vendor is out"
    assert set(found.batch.rows["symbol"]) == {"HALT"}


def test_a_history_that_lacks_stored_sessions_is_held(reconciling):
    lost = SHORT.bars([SYMBOL], SHORT.first, date(2012, 11, 1))["date"]
    work = reconciling(in_turn(restated, losing(SYMBOL, *lost)))
    judged = compare_levels(work.begin(date(2012, 12, 20)))
    found = conclude(with_histories(judged, work.fetch(history_requests(judged), judged.moved), None))
    assert set(found.suspects) == {SYMBOL}
    assert found.batch.outcomes[SYMBOL] is Outcome.HELD
    assert set(found.batch.rows["symbol"]) == {"HALT"}


def test_another_basis_of_every_symbol_is_refused_at_once(root):
    work = Reconciling(root)
    work.source = ScriptedSource(SHORT, info=work.source.info.__class__("scripted", "1", "adj_close for dividends"))
    other = store(root, work.source, LATER)
    state, manifest = other.store.state, other.manifest()
    reference = reference_of(
        state.context,
        work.source.info,
        manifest,
        state.completeness_of(manifest),
        work.reference.base.completeness.gaps[["symbol"]].clear().with_columns(date=pl.lit(None, pl.Date)),
        is_increment=False,
    )
    batch = work.fetch([FetchRequest((SYMBOL,), NEXT, LATER)])
    with pytest.raises(DataQualityError):
        begin(batch, reference)
    assert begin(batch, reference, [SYMBOL]).rebuilt == {SYMBOL}, "unless it is to be rebuilt"


@pytest.mark.parametrize("alter", [None, restated, losing(SYMBOL, NEXT)], ids=["as stored", "restated", "with a hole"])
def test_a_step_changes_nothing_of_what_it_was_given_and_gives_the_same_again(reconciling, alter):
    work = reconciling(alter)
    first = work.begin(date(2012, 12, 20))
    histories = work.fetch(history_requests(compare_levels(first)) or [FetchRequest((SYMBOL,), SHORT.first, LATER)])
    steps: list[Callable[[Judged], Judged]] = [compare_levels, lambda judged: with_histories(judged, histories, None)]
    judged = first
    for step in steps:
        before = facts(judged)
        once, again = step(judged), step(judged)
        assert facts(once) == facts(again)
        assert facts(judged) == before
        judged = once
    before = facts(judged)
    assert facts(conclude(judged)) == facts(conclude(judged))
    assert facts(judged) == before


def facts(state: "DataclassInstance") -> dict[str, object]:
    """All that a state says, frames as their rows; what it is held against and the cached view aside."""
    return {
        name: _plain(getattr(state, name))
        for name in (field.name for field in fields(state))
        if name not in {"reference", "view", "base", "stored_of"}
    }


def _plain(value: object) -> object:
    if isinstance(value, pl.DataFrame):
        return value.rows()
    if is_dataclass(value) and not isinstance(value, type):
        return facts(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
