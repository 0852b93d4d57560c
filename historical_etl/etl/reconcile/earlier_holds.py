"""Holds of earlier runs about which the fetched rows say nothing new."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date

from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.result import Base
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import symbols_in

__all__ = ["as_held", "spans_one", "still_held"]


def still_held(
    batch: Batch, base: Base, suspects: Mapping[str, Suspicion], is_stored: Callable[[str, date], bool]
) -> dict[str, list[Suspicion]]:
    """Holds of symbols that were fetched without the bars that they are about, or whose bars were judged no further."""
    fetched = {*symbols_in(batch.rows), *suspects} & set(base.held) if base.held else set[str]()
    found = {
        symbol: [
            hold
            for hold in base.held[symbol]
            if _is_open(hold, batch.requested[symbol], suspects.get(symbol), lambda day, of=symbol: is_stored(of, day))
        ]
        for symbol in fetched
    }
    return {symbol: open_holds for symbol, open_holds in sorted(found.items()) if open_holds}


def _is_open(
    hold: Suspicion, requested: tuple[date, date], now: Suspicion | None, is_stored: Callable[[date], bool]
) -> bool:
    (start, end), day, against = requested, hold.session, hold.against
    if day is None or hold.code == HELD_BACK:  # of the latter the rows are stored
        return False
    if now is not None and now.same_as(hold):  # it was seen again
        return False
    if hold.through is not None:
        return now is not None or day < start or hold.through > end
    if day == against:  # a stored session that was fetched with another price
        return not start <= day <= end
    both = [day] if against is None else [day, against]
    return now is not None or not all(start <= day <= end or is_stored(day) for day in both)


def spans_one(suspicion: Suspicion, open_holds: Sequence[Suspicion]) -> bool:
    """Whether a jump leads over bars that are held: it is no jump of its own."""
    low, high = suspicion.against, suspicion.session
    if low is None or high is None:
        return False
    return any(
        day is not None and min(low, high) <= day <= max(low, high)
        for hold in open_holds
        if hold.against != hold.session
        for day in (hold.session, hold.against)
    )


def as_held(suspicion: Suspicion, held: Sequence[Suspicion]) -> Suspicion:
    """A jump into bars that are held already, as it was reported when the bars behind them were in view."""
    known = [hold for hold in held if hold.through and hold.same_as(suspicion)]
    return known[0] if known and suspicion.through is None else suspicion
