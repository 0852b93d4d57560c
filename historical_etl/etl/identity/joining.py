"""Are two histories of one security? What speaks against it, where a rename brings them together."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Any, Final

import polars as pl

from historical_etl.etl.identity.moves import Moved, seams
from historical_etl.etl.symbology import Move
from historical_etl.models import UNSTATED
from historical_etl.sessions import SessionCalendar

__all__ = ["HistoryJoin"]

_Row = dict[str, Any]  # a row of prices: typed by the schema
#: After no more than a long gap a price that is off by more than this is another security's; after a longer one, by
#: more than that. The rules of `no_overlap` and `break_after_gap`.
_SEAM, _BREAK = 1.2, 1.5
_NOISE: Final = 1e-4
_UNSTATED: Final = frozenset({"", UNSTATED})


@dataclass(frozen=True)
class HistoryJoin:
    """The judgement on a move.

    Attributes:
        moved: the rows.
        actions: the ledger of splits and dividends, as stored.
        adjustments: the price basis of each symbol before the move.
        calendar: the exchange's sessions.
        long_gap: sessions without a bar after which a larger move is nothing odd.
    """

    moved: Moved
    actions: pl.DataFrame
    adjustments: dict[str, str]
    calendar: SessionCalendar
    long_gap: int

    def doubts(self, moves: tuple[Move, ...]) -> list[str]:
        """What speaks against the moves, in words; empty if nothing does."""
        return [*self._contradictions(), *self._seams(), *self._goes_on(moves)]

    def _contradictions(self) -> Iterator[str]:
        both = self.moved.contradicted
        for (symbol, was), rows in both.partition_by("symbol", "was", as_dict=True, maintain_order=True).items():
            days = rows.get_column("date")
            remaining_bar = self.moved.after.filter(pl.col("symbol") == symbol, pl.col("date") == days[0]).row(
                0, named=True
            )
            gone = rows.row(0, named=True)
            prices = " and ".join(_price(row) for row in (gone, remaining_bar))
            yield (
                f"{was} and {remaining_bar['was']} have different bars on {len(days):,} session(s), {days[0]} to "
                f"{days[-1]}: on {days[0]} {prices}"
            )

    def _seams(self) -> Iterator[str]:
        for row in seams(self.moved).sort("symbol", "date").iter_rows(named=True):
            before, after = f"{row['was_0']} on {row['date_0']}", f"{row['was']} on {row['date']}"
            one, other = (self.adjustments.get(row[name], "") for name in ("was_0", "was"))
            if one != other and _UNSTATED.isdisjoint((one, other)):
                yield f"{row['was_0']} is stored with {one!r}, {row['was']} with {other!r}"
            elif (row["adj_close"] is None) != (row["adj_close_0"] is None):
                yield f"only one of {before} and {after} has an adj_close"
            elif (words := self._break(row)) is not None:
                yield f"from {before} to {after} {words}"

    def _break(self, row: _Row) -> str | None:
        adjusted = row["adj_close"] is not None
        event = self._event(row)
        ratio = row["adj_close"] / row["adj_close_0"] if adjusted else row["close"] / row["close_0"]
        size = max(ratio, 1 / ratio)
        apart = self.calendar.between(row["date_0"], row["date"]).len() - 2
        by_split = not adjusted and event is not None and abs(log(ratio * event["split"])) < abs(log(ratio))
        if size > (_BREAK if apart > self.long_gap else _SEAM) and not by_split:
            gap = f" after {apart} session(s) without a bar" if apart else ""
            return f"the price is {ratio:.4g} times the one before{gap}"
        if adjusted and (event is None or event["inferred"]):
            moved = (row["adj_close"] / row["close"]) / (row["adj_close_0"] / row["close_0"])
            if abs(moved - 1) > _NOISE + _rounding(row["adj_close"], row["adj_close_0"]):
                return f"adj_close changes its basis: by {moved:.6g} against close, and no event is known"
        return None

    def _event(self, row: _Row) -> _Row | None:
        here = self.actions.filter(
            pl.col("date") == row["date"], pl.col("symbol").is_in([row["symbol"], row["was"], row["was_0"]])
        ).sort("inferred")
        return here.row(0, named=True) if here.height else None

    def _goes_on(self, moves: tuple[Move, ...]) -> Iterator[str]:
        """Names that lose a history, and have bars right after it that look like more of it.

        Of a name that another history goes on under they are held against that one, at the seam.
        """
        for move in moves:
            if any(other.new == move.old and other.high >= move.high for other in moves):
                continue
            moved = self.moved.before.filter(pl.col("symbol") == move.old, pl.col("date") <= move.high)
            left = self.moved.left(move.old).filter(pl.col("date") > move.high)
            if moved.is_empty() or left.is_empty():
                continue
            then, now = moved.row(-1, named=True), left.row(0, named=True)
            apart = self.calendar.between(then["date"], now["date"]).len() - 2
            ratio = (now["adj_close"] or now["close"]) / (then["adj_close"] or then["close"])
            if apart <= self.long_gap and max(ratio, 1 / ratio) <= _BREAK:
                last = left.item(-1, "date")
                yield (
                    f"{move.old} goes on after {then['date']} without a break, {left.height:,} bar(s) to {last}: if "
                    f"the source still had the old name, the date is {self.calendar.after(last)}; else they are others'"
                )


def _price(row: _Row) -> str:
    adjusted = f", adj_close {row['adj_close']:.10g}" if row["adj_close"] is not None else ""
    return f"{row['was']} close {row['close']:.10g}{adjusted}"


def _rounding(*prices: float) -> float:
    """How far rounding to the decimals that prices have may move their ratio."""
    unit = next((u for u in (1e-2, 1e-4) if all(abs(p / u - round(p / u)) < _NOISE for p in prices)), 1e-6)
    return sum(unit / price for price in prices)
