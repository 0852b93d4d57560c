"""What the batches of a run are held against: a version of the store with its ledgers, and the rules in force."""

from datetime import date

import polars as pl

from historical_etl.etl.commit import ACCEPTED, is_due, suspicion_of
from historical_etl.etl.completeness import Completeness, load_actions
from historical_etl.etl.context import StoreContext
from historical_etl.etl.reconcile import Base, FrozenFeed, Reference, due_again
from historical_etl.models import SyncManifest
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.sources.base import SourceInfo
from historical_etl.store.ledgers import read_undamaged

__all__ = ["available_through", "reference_of"]


def reference_of(
    store: StoreContext,
    info: SourceInfo,
    manifest: SyncManifest | None,
    completeness: Completeness,
    left: pl.DataFrame,
    *,
    is_increment: bool,
) -> Reference:
    """What a batch of a source is held against.

    Args:
        store: whose settings and calendar count.
        info: the source.
        manifest: the version.
        completeness: of the version.
        left: (symbol, date) of stored rows that have left the calendar.
        is_increment: see `Reference`.
    """
    return Reference(
        base=_base(store, info, manifest, completeness, left, is_increment=is_increment),
        layout=store.layout,
        calendar=store.calendar,
        info=info,
        long_gap=store.settings.long_gap_sessions,
        overlap=store.settings.overlap_sessions,
        frozen=FrozenFeed(
            layout=store.layout,
            calendar=store.calendar,
            held_from=store.settings.stale_sessions,
            max_share=store.settings.max_empty_share,
            latest=available_through(store, info),
        ),
        is_increment=is_increment,
    )


def available_through(store: StoreContext, info: SourceInfo) -> date:
    """The last session that can be had: it has closed, had time to settle, and the source covers it."""
    coverage, closed = info.coverage, store.last_closed_session()
    return min(closed, coverage.last) if coverage and coverage.last else closed


def _base(
    store: StoreContext,
    info: SourceInfo,
    manifest: SyncManifest | None,
    completeness: Completeness,
    left: pl.DataFrame,
    *,
    is_increment: bool,
) -> Base:
    held: dict[str, list[Suspicion]] = {}
    accepted: dict[str, list[Suspicion]] = {}
    today, look_again = store.last_closed_session(), set[str]()
    for hold in read_undamaged(store.layout, manifest, "open_holds").iter_rows(named=True):
        kind = accepted if hold["status"] == ACCEPTED else held
        kind.setdefault(hold["symbol"], []).append(suspicion_of(hold))
        if hold["code"] == HELD_BACK and (kind is accepted or (is_increment and is_due(hold, today))):
            look_again.add(hold["symbol"])
    actions = load_actions(store.layout, manifest)
    if is_increment:
        look_again |= due_again(actions, completeness.symbols, store.calendar, today, info.events_late)
    return Base(manifest, completeness, held, accepted, actions, left, frozenset(look_again))
