"""Judge whole histories: which of them replace what is stored, which are held, and which bring corrections only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.judged import Judged
from historical_etl.etl.reconcile.named_events import splits
from historical_etl.etl.reconcile.result import Restatement
from historical_etl.etl.reconcile.waived_bars import without_waived
from historical_etl.etl.reconcile.whole_histories import (
    beyond_plan,
    contradicted,
    lacking_columns,
    lacks_sessions,
    lacks_values,
)
from historical_etl.models import Outcome
from historical_etl.quality.histories import HistoryVerdict, judge_histories
from historical_etl.quality.overlap import single_bars
from historical_etl.quality.price_levels import LEVELS
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER, SCHEMA, spans_in
from historical_etl.sources.base import FetchRequest

__all__ = ["history_requests", "with_histories", "without_histories"]

#: Stored histories of so many symbols are read at once, and so many judged: that takes a few times as much memory.
_READ, _JUDGED = 500, 100


def history_requests(judged: Judged) -> list[FetchRequest]:
    """What to ask for: the whole histories of symbols that moved, to the end of what was asked for.

    What happened there is in the prices, also where no bar of it has come. One request for each group of symbols that
    have the same life.
    """
    batch, lives = judged.batch, judged.reference.lives
    if not judged.moved:
        return []
    mine = spans_in(batch.rows.filter(pl.col("symbol").is_in(list(judged.moved))))
    spans = {symbol: (first, last) for symbol, first, last, _ in mine.iter_rows()}
    groups: dict[tuple[date, date], list[str]] = {}
    for symbol in sorted(judged.moved):
        first, last = lives[symbol]
        begins, ends = spans.get(symbol, (first, last))
        span = min(first, begins), max(last, ends, batch.requested[symbol][1])
        groups.setdefault(span, []).append(symbol)
    return [FetchRequest(tuple(group), *span) for span, group in sorted(groups.items())]


def without_histories(judged: Judged, why: str) -> Judged:
    """With nothing of the symbols that moved, since their histories could not be fetched."""
    outcomes = dict.fromkeys(judged.moved, Outcome.ERROR)
    return with_histories(judged, judged.batch.nothing(outcomes, why), None)


def with_histories(judged: Judged, fetched: Batch, reach: date | None) -> Judged:
    """With the whole histories of the symbols that moved, in the place of what was fetched of them first.

    Args:
        judged: the batch, with `moved`.
        fetched: the histories.
        reach: the oldest day that the account's plan gives, as far as that is found out; None: all that there is.
    """
    moved = judged.moved
    names, histories = judged.names.enter(without_waived(fetched, judged.waived))
    judged = replace(judged, names=names)
    first = judged.batch.rows.filter(pl.col("symbol").is_in(list(moved)))
    disagree = contradicted(first, histories.rows)
    complete = {symbol for symbol in moved if histories.outcomes.get(symbol) is Outcome.OK}
    alone = first.filter(pl.col("symbol").is_in(list(complete))).join(histories.rows, on=ORDER, how="anti")
    if reach is not None and not histories.rows.is_empty():
        older, notes = beyond_plan(histories.rows, judged.reference.levels.rows, reach)
        histories, judged = histories.with_rows(older), replace(judged, notes=(*judged.notes, *notes))
    judged = judged.with_batch(judged.batch.without(moved).joined(histories, moved).with_rows(alone))
    judged = judged.with_suspicions({s: disagree[s] for s in sorted(moved & set(disagree))})
    others = sorted(moved - set(disagree))
    refused = {s: Suspicion("refused", histories.refused[s]) for s in others if s in histories.refused}
    whole = [s for s in others if s in complete and s not in refused]
    judged = replace(judged, suspects={**judged.suspects, **refused}, whole=judged.whole | set(whole))
    known: dict[str, dict[date, float]] = {}
    for (symbol, day), split in splits(judged.batch, judged.reference.base).items():
        known.setdefault(symbol, {})[day] = split
    verdicts = [
        verdict for symbols in _batches(whole, _READ) for verdict in _judge_some(judged, symbols, histories.rows, known)
    ]
    return _with_verdicts(judged, verdicts).resolved()


@dataclass(frozen=True)
class _Verdict:
    """What becomes of the history of a symbol.

    Attributes:
        symbol: whose.
        bars: single bars that contradict stored ones.
        suspicion: what there is against the history, also where a person has accepted it.
        restated: what it replaces; None where it brings corrections only, or is held.
        is_whole: whether it replaces what is stored even where it lacks values.
        lost: (symbol, date) of stored rows that it does not have; where it replaces them they are dropped.
        note: what is to be reported of it.
    """

    symbol: str
    bars: Sequence[Suspicion]
    suspicion: Suspicion | None = None
    restated: Restatement | None = None
    is_whole: bool = False
    lost: pl.DataFrame | None = None
    note: str = ""


def _batches(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (symbols[at : at + size] for at in range(0, len(symbols), size))


def _judge_some(
    judged: Judged, symbols: Sequence[str], histories: pl.DataFrame, known_splits: Mapping[str, Mapping[date, float]]
) -> Iterator[_Verdict]:
    fetched = histories.filter(pl.col("symbol").is_in(symbols))
    stored = judged.reference.levels.histories(symbols, lacking_columns(fetched))
    for some in _batches(symbols, _JUDGED):
        rows, whole = (frame.filter(pl.col("symbol").is_in(some)) for frame in (fetched, stored))
        yield from _judge_together(judged, some, rows, whole, known_splits)


def _judge_together(
    judged: Judged,
    symbols: Sequence[str],
    rows: pl.DataFrame,
    whole: pl.DataFrame,
    known_splits: Mapping[str, Mapping[date, float]],
) -> list[_Verdict]:
    accepts = judged.reference.is_accepted
    bars = single_bars(rows.select(LEVELS), whole.select(LEVELS))
    odd = [(symbol, why.session) for symbol, mine in bars.items() for why in mine if not accepts(symbol, why)]
    stored = whole
    if odd:
        keys = pl.DataFrame(odd, schema=[(name, SCHEMA[name]) for name in ORDER], orient="row")
        rows, stored = (frame.join(keys, on=ORDER, how="anti", maintain_order="left") for frame in (rows, whole))
    verdicts = judge_histories(rows.select(LEVELS), stored.select(LEVELS), known_splits)
    lacking = lacks_values(rows, whole)
    lost = stored.join(rows, on=ORDER, how="anti", maintain_order="left").select(ORDER)
    lost_of = {str(symbol): mine for (symbol,), mine in lost.partition_by("symbol", as_dict=True).items()}
    return [
        _judge(
            judged,
            _Verdict(symbol, bars.get(symbol, ()), lost=lost_of.get(symbol)),
            verdicts.get(symbol, HistoryVerdict("corrected")),
            lacking.get(symbol),
        )
        for symbol in symbols
    ]


def _judge(judged: Judged, found: _Verdict, verdict: HistoryVerdict, lacks: Suspicion | None) -> _Verdict:
    symbol, is_rebuilt = found.symbol, found.symbol in judged.rebuilt
    if verdict.kind == "corrected" and not is_rebuilt:
        return found
    if is_rebuilt:
        suspicion = None if found.lost is None else lacks_sessions(found.lost)
    else:
        suspicion = verdict.suspicion or lacks
    found = replace(found, suspicion=suspicion)
    if suspicion is not None and not judged.reference.is_accepted(symbol, suspicion):
        return found
    evidence = verdict.evidence or (suspicion.evidence if suspicion else "rebuilt on request")
    ratio = verdict.ratio or (suspicion.ratio if suspicion else None)
    return replace(
        found,
        restated=Restatement(symbol, ratio, verdict.close_ratio, evidence),
        is_whole=is_rebuilt or suspicion is not None,
        note=f"{symbol} is restated, and {verdict.unexplained}" if verdict.unexplained else "",
    )


def _with_verdicts(judged: Judged, verdicts: Sequence[_Verdict]) -> Judged:
    judged = judged.without_single_bars({one.symbol: one.bars for one in verdicts if one.bars})
    judged = judged.with_suspicions({one.symbol: one.suspicion for one in verdicts if one.suspicion})
    return replace(
        judged,
        restated={**judged.restated, **{one.symbol: one.restated for one in verdicts if one.restated}},
        overwritten=judged.overwritten | {one.symbol for one in verdicts if one.is_whole},
        dropped=(*judged.dropped, *(one.lost for one in verdicts if one.restated and one.lost is not None)),
        notes=(*judged.notes, *(one.note for one in verdicts if one.note)),
    )
