"""Judge jumps: find moves that only an error or another security makes, in all that is left of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from historical_etl.etl.reconcile.earlier_holds import as_held, spans_one, still_held
from historical_etl.etl.reconcile.judged import Judged
from historical_etl.etl.reconcile.named_events import splits
from historical_etl.quality.jumps import Jumps, jumps, with_large_moves
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import ORDER, other_symbols, together

__all__ = ["jumps_between", "with_jumps_judged"]


def with_jumps_judged(judged: Judged) -> Judged:
    """Hold the symbols that jump, or the bars that do alone; holds of which nothing new is known stay open."""
    base, view = judged.reference.base, judged.view
    found = _jumps_in_view(judged)
    carried_holds = still_held(judged.batch, base, judged.suspects, view.context.is_stored)
    carried = {s: [hold for hold in holds if hold.through is None] for s, holds in carried_holds.items()}
    whole: dict[str, list[Suspicion]] = {}
    bars: dict[str, list[Suspicion]] = {}
    for symbol, reasons in found.suspects.items():
        news = [why for why in reasons if not spans_one(why, carried.get(symbol, ()))]
        mine = [as_held(why, base.held.get(symbol, ())) for why in news]
        if of_all := [why for why in mine if why.through is None]:
            whole[symbol] = of_all
        elif mine:
            bars[symbol] = mine
    judged = replace(
        judged,
        suspects={
            **_first_of(carried),
            **judged.suspects,
            **_first_of(whole),
        },
        beside={**judged.beside, **{s: rest for s, (_, *rest) in whole.items()}},
        carried_holds=carried_holds,
        passed={**judged.passed, **found.passed},
        moves=(*judged.moves, *found.moves),
    )
    return judged.without_bars(bars)


def _jumps_in_view(judged: Judged) -> Jumps:
    view = judged.view
    symbols = with_large_moves(view.line)
    if symbols.is_empty():
        return Jumps({}, (), {})
    mine = pl.col("symbol").is_in(symbols.implode())
    seen, stored, after = (rows.filter(mine) for rows in (view.seen, *view.neighbours))
    if after.height:
        seen = together([seen, after.join(seen, on=ORDER, how="anti")])
    return jumps_between(judged, other_symbols(seen, judged.suspects), stored, after.select(ORDER))


def jumps_between(
    judged: Judged, fetched: pl.DataFrame, stored: pl.DataFrame, again: pl.DataFrame | None = None
) -> Jumps:
    """Large moves into, inside or out of fetched rows; see `quality.jumps`."""
    reference = judged.reference
    return jumps(
        fetched,
        stored,
        reference.calendar,
        long_gap=reference.long_gap,
        splits=splits(judged.batch, reference.base),
        split_adjusted=reference.info.split_adjusted,
        accepted=reference.is_accepted,
        known_between=judged.view.context.was_asked_between,
        again=again,
    )


def _first_of(holds: Mapping[str, Sequence[Suspicion]]) -> dict[str, Suspicion]:
    return {symbol: mine[0] for symbol, mine in holds.items() if mine}
