"""Reconcile: hold what was fetched against what is stored, symbol by symbol, before anything is merged.

A symbol's rows go on to the merge, or its whole history is fetched and replaces what is stored, or nothing of it is
stored and the reason is recorded. What makes a level suspicious is said in `quality.overlap`, `histories` and `jumps`.

A caller goes from `begin` to `conclude`, and fetches in between what `overlap_requests` and `history_requests` ask for.
Each step takes what is known of the batch and gives what is known then; none fetches or writes.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import date

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.event_days import EventDays
from historical_etl.etl.reconcile.judged import Judged, View
from historical_etl.etl.reconcile.judged_events import with_events_judged
from historical_etl.etl.reconcile.judged_jumps import with_jumps_judged
from historical_etl.etl.reconcile.price_basis import on_another_basis, refused_bases
from historical_etl.etl.reconcile.reference import Reference
from historical_etl.etl.reconcile.restated_splits import RestatedSplits
from historical_etl.etl.reconcile.result import Reconciled
from historical_etl.etl.reconcile.waived_bars import without_waived
from historical_etl.models import Outcome
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER, other_symbols, symbols_in

__all__ = ["begin", "conclude"]


def begin(batch: Batch, reference: Reference, rebuild: Collection[str] = ()) -> Judged:
    """A batch before it is judged, but for symbols that are stored on a basis that is not the one the source states.

    Args:
        batch: what was fetched.
        reference: what it is held against.
        rebuild: symbols whose stored rows are to be replaced, whatever basis they are on.

    Raises:
        DataQualityError: every symbol was fetched on another price basis than it is stored on.
    """
    info, lives = reference.info, reference.lives
    symbols = reference.base.completeness.symbols
    rebuilt = frozenset(rebuild) & lives.keys()
    restated = RestatedSplits(reference.layout, reference.base.manifest, reference.calendar.timezone)
    names = EventDays(reference.base, info.split_adjusted, restated, rebuilt, reference.levels.whole)
    refused = {symbol: Suspicion("refused", why) for symbol, why in batch.refused.items()}
    judged = Judged(reference, batch, View(reference, batch), names, rebuilt, suspects=refused)
    names, batch = names.enter(without_waived(batch, judged.waived))
    judged = replace(judged, names=names).with_batch(batch)
    if (strange := on_another_basis(symbols, info.adjustment)).height:
        fetched = set(symbols_in(judged.view.seen)) - rebuilt
        judged = replace(judged, suspects={**refused, **refused_bases(strange, fetched, lives, info)})
    return judged


def conclude(judged: Judged) -> Reconciled:
    """Judge events, jumps and bars that repeat; what goes on is without the rows of suspects.

    Raises:
        ProviderUnavailableError: too many symbols repeat their last bar.
    """
    return _result(_with_stale_bars_judged(with_jumps_judged(with_events_judged(judged))))


def _with_stale_bars_judged(judged: Judged) -> Judged:
    """Find symbols whose bar repeats from session to session."""
    found = judged.reference.frozen.find(judged.batch, judged.reference.base, judged.suspects)
    judged = judged.with_suspicions(found.suspects)
    return replace(judged, stale=found.stretches, moves=(*judged.moves, *found.warnings))


def _result(judged: Judged) -> Reconciled:
    held = {s: why for s, why in judged.suspects.items() if why.code != "refused"}
    outcomes = {s: Outcome.REFUSED if why.code == "other_basis" else Outcome.HELD for s, why in held.items()}
    batch = judged.batch.without(held)
    dropped = [frame for frame in judged.dropped if frame.item(0, "symbol") not in held]
    return Reconciled(
        batch=replace(batch, outcomes=batch.outcomes | outcomes),
        restated={s: r for s, r in judged.restated.items() if s not in held},
        suspects=judged.suspects,
        carried_holds=judged.carried_holds,
        kept_from=_kept_from(judged, held),
        passed={s: p for s, p in judged.passed.items() if s not in held},
        overwritten=judged.overwritten - set(held),
        dropped=pl.concat([batch.rows.clear()[list(ORDER)], *dropped]),
        stale=other_symbols(judged.stale, held),
        warnings=(*judged.notes, *judged.moves),
        held_back={s: why for s, why in judged.held_back.items() if s not in judged.suspects},
        events=other_symbols(judged.events, judged.suspects),
        outdated=other_symbols(judged.outdated, judged.suspects),
        beside=judged.beside,
        held_bars=judged.held_bars,
        taken_out=judged.names.taken_out,
    )


def _kept_from(judged: Judged, held: Collection[str]) -> dict[str, date]:
    """Where the rows of held symbols begin, if before all that is stored: no gap tells of those sessions."""
    if not held:
        return {}
    lives = judged.reference.lives
    rows = judged.batch.rows.filter(pl.col("symbol").is_in(list(held)))
    begins = rows.group_by("symbol").agg(pl.col("date").min()).iter_rows()
    return {symbol: day for symbol, day in begins if symbol not in lives or day < lives[symbol][0]}
