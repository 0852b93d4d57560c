"""What the batches of a run are held against: a version of the store with its ledgers, and the rules in force."""

from collections.abc import Iterable
from datetime import date
from typing import Any

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
    today = store.last_closed_session()
    holds = read_undamaged(store.layout, manifest, "open_holds").to_dicts()
    accepted = [hold for hold in holds if hold["status"] == ACCEPTED]
    held = [hold for hold in holds if hold["status"] != ACCEPTED]
    actions = load_actions(store.layout, manifest)
    look_again: set[str] = {hold["symbol"] for hold in accepted if hold["code"] == HELD_BACK}
    if is_increment:
        look_again |= {hold["symbol"] for hold in held if hold["code"] == HELD_BACK and is_due(hold, today)}
        look_again |= due_again(actions, completeness.symbols, store.calendar, today, info.events_late)
    return Reference(
        base=Base(manifest, completeness, _by_symbol(held), _by_symbol(accepted), actions, left, frozenset(look_again)),
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


def _by_symbol(holds: Iterable[dict[str, Any]]) -> dict[str, list[Suspicion]]:
    found: dict[str, list[Suspicion]] = {}
    for hold in holds:
        found.setdefault(hold["symbol"], []).append(suspicion_of(hold))
    return found
