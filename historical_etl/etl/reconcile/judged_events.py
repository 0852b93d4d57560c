"""Judge events: hold named events, adj_close and prices against each other."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import polars as pl

from historical_etl.etl.reconcile.adjustments import Adjustments, Decision
from historical_etl.etl.reconcile.judged import Judged, not_among
from historical_etl.etl.reconcile.judged_jumps import jumps_between
from historical_etl.etl.reconcile.named_events import all_named, newly_named
from historical_etl.etl.reconcile.result import Restatement
from historical_etl.schema import ORDER, other_symbols, together

__all__ = ["with_events_judged"]


def with_events_judged(judged: Judged) -> Judged:
    """Hold the symbols whose events and prices contradict each other, or hold their `adj_close` back."""
    judge = _adjustments(judged)
    found = judge.findings()
    if found.contradicted:
        judged = _without_spikes(judged, found.contradicted)
        if judged.beside:
            judge = _adjustments(judged)
            found = judge.findings()
    judged = _with_splits_not_shown(judged)
    judged = replace(
        judged,
        events=judged.names.with_judged(found.events),
        outdated=found.outdated,
        moves=(*found.warnings, *judged.names.warnings()),
    )
    return _with_decisions(judged, judge.decide(found))


def _adjustments(judged: Judged) -> Adjustments:
    reference, view = judged.reference, judged.view
    seen, stored = judged.seen, view.neighbours[0]
    # Of a whole history, what did not come is dropped, or holds the symbol.
    others = other_symbols(stored, judged.whole)
    is_all = seen is view.seen and others is stored
    return Adjustments(
        base=reference.base,
        seen=seen,
        stored=stored,
        line=view.line if is_all else together([seen, not_among(others, seen)]),
        named=all_named(judged.batch, reference.base),
        stored_of=reference.levels.whole,
        whole=judged.whole,
        restated=judged.restated.keys() - judged.rebuilt,
        newly_named=newly_named(judged.batch, reference.base),
        is_increment=reference.is_increment,
        calendar=reference.calendar,
        long_gap=reference.long_gap,
        is_accepted=reference.is_accepted,
        split_adjusted=reference.info.split_adjusted,
        complete_until=reference.frozen.latest - timedelta(days=reference.info.events_late),
    )


def _without_spikes(judged: Judged, symbols: Collection[str]) -> Judged:
    """Keep out single bars whose close alone is wrong: beside them every adj_close looks wrong."""
    mine = pl.col("symbol").is_in(list(symbols))
    by_close = pl.lit(None, pl.Float64).alias("adj_close")
    fetched, stored = (rows.filter(mine).with_columns(by_close) for rows in (judged.view.seen, judged.view.stored))
    found = jumps_between(judged, fetched, stored)
    runs = {s: [why for why in found.suspects.get(s, ()) if why.through] for s in symbols}
    judged = replace(judged, passed={**judged.passed, **found.passed})
    return judged.without_bars({s: mine for s, mine in runs.items() if mine})


def _with_splits_not_shown(judged: Judged) -> Judged:
    """Hold symbols with named splits that no price shows, each of them beside the first."""
    earlier = set(judged.suspects)
    for split in judged.names.not_shown:
        symbol, why = split.symbol, split.why
        if symbol in earlier:
            continue
        first = judged.suspects.get(symbol)
        if judged.reference.is_accepted(symbol, why):
            judged = replace(judged, names=judged.names.accept(split), passed={**judged.passed, symbol: why})
        elif first is not None and first.code == why.code:
            judged = replace(judged, beside={**judged.beside, symbol: [*judged.beside.get(symbol, ()), why]})
        else:
            judged = replace(judged, suspects={**judged.suspects, symbol: why})
    return judged


def _with_decisions(judged: Judged, decisions: Mapping[str, Decision]) -> Judged:
    suspects, held_back, restated = dict(judged.suspects), dict(judged.held_back), dict(judged.restated)
    batch = judged.batch
    for symbol, decision in decisions.items():
        why = decision.suspicion
        match decision.kind:
            case "store":
                continue
            case "hold":
                suspects[symbol] = why
                continue
            case "hold_back":
                held_back[symbol] = why
                continue
            case "withdraw":
                held_back[symbol] = why
                stored = judged.reference.levels.rows(symbol).join(batch.rows, on=ORDER, how="anti")
                batch = batch.with_rows(stored)
                words = f"adj_close is held back: {why.evidence}"
            case "release":
                words = why.evidence
        restated.setdefault(symbol, Restatement(symbol, None, None, words))
    passed = {symbol: decision.passed for symbol, decision in decisions.items() if decision.passed}
    judged = replace(
        judged,
        suspects=suspects,
        held_back=held_back,
        restated=restated,
        passed={**judged.passed, **passed},
        overwritten=judged.overwritten | held_back.keys(),
    )
    return judged.with_batch(batch.without_adj_close(held_back))
