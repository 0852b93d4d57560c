"""Compare: which symbols were fetched on another level than they are stored on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.judged import Judged
from historical_etl.etl.reconcile.named_events import newly_named
from historical_etl.etl.reconcile.waived_bars import without_waived
from historical_etl.quality.overlap import compare_overlap, of_unknown_basis
from historical_etl.quality.suspicion import HELD_BACK
from historical_etl.schema import symbols_in
from historical_etl.sources.base import FetchRequest

__all__ = ["compare_levels", "overlap_requests", "with_overlap"]

_log = logging.getLogger(__name__)


def overlap_requests(judged: Judged) -> Sequence[FetchRequest]:
    """What to ask for of symbols that were fetched without any stored session.

    What cannot be compared cannot be trusted.
    """
    reference, view = judged.reference, judged.view
    fetched = set(symbols_in(judged.batch.rows)) & set(reference.lives) - set(judged.suspects)
    if not fetched:
        return []
    spans = dict[tuple[date, date], list[str]]()
    for symbol in sorted(fetched - set(symbols_in(view.stored))):
        if (span := view.context.nearest_stored(symbol, reference.overlap)) is not None:
            spans.setdefault(span, []).append(symbol)
    return [FetchRequest(tuple(symbols), *span) for span, symbols in sorted(spans.items())]


def with_overlap(judged: Judged, nearest: Batch) -> Judged:
    """With the sessions that were fetched for `overlap_requests`."""
    return judged.with_batch(judged.batch.with_anchors(without_waived(nearest, judged.waived).rows))


def compare_levels(judged: Judged) -> Judged:
    """Find the symbols whose level moved; their whole histories are due (`history_requests`)."""
    judged = judged.resolved()
    reference, seen = judged.reference, judged.seen
    found = compare_overlap(seen, judged.view.stored)
    unknown = of_unknown_basis(seen, judged.view.stored) - _held_back_before(judged)
    moved = judged.rebuilt | found.moved | unknown
    judged = judged.with_suspicions(found.suspects).without_single_bars(found.single)
    if reference.is_increment:
        never_named = _never_named(judged)
        moved |= _with_new_events(judged) | never_named
        judged = replace(judged, notes=(*judged.notes, *_names_now(judged, len(never_named))))
    if reference.base.look_again:
        moved |= reference.base.look_again & set(symbols_in(judged.batch.rows)) & set(reference.lives)
    return replace(judged, moved=frozenset(moved - set(judged.suspects)))


def _held_back_before(judged: Judged) -> set[str]:
    """Symbols that are stored without `adj_close`, and whose history is not due to be looked at again."""
    base = judged.reference.base
    known = [*base.held.items(), *base.accepted.items()]
    return {s for s, holds in known if any(hold.code == HELD_BACK for hold in holds)} - base.look_again


def _with_new_events(judged: Judged) -> set[str]:
    """Symbols for which the source names an event that it did not name before: of any day that it was asked for."""
    base = judged.reference.base
    new = newly_named(judged.batch, base)
    if new.is_empty():
        return set()
    events = new.join(base.completeness.symbols, on="symbol").filter(pl.col("date") > pl.col("first_session"))
    return set(events.get_column("symbol")) & set(judged.batch.rows.get_column("symbol").unique())


def _never_named(judged: Judged) -> set[str]:
    """Symbols stored while the source named no events, as its plan gave none, and named them now."""
    able = judged.reference.info.capabilities
    if judged.batch.actions is None or able is None or not able.actions:
        return set()
    symbols = judged.reference.base.completeness.symbols
    return set(symbols.filter(~pl.col("names_events")).get_column("symbol")) & set(symbols_in(judged.batch.rows))


def _names_now(judged: Judged, count: int) -> list[str]:
    if not count:
        return []
    name = judged.reference.info.name
    note = f"{name} names splits and dividends now: {count} stored symbol(s) are asked for whole"
    _log.info("%s", note)
    return [note]
