"""What a move of rows means for the ledgers of the current state: completeness, holds and actions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl

from historical_etl.etl.completeness import (
    ASKED,
    ENDED,
    LIVE,
    REFUSED,
    Completeness,
    FetchAttempt,
    GapPolicy,
    as_ranges,
    exploded,
    in_order,
    update_completeness,
)
from historical_etl.etl.identity.moves import Moved
from historical_etl.etl.symbology import Move, mapped
from historical_etl.models import Outcome
from historical_etl.schema import ORDER
from historical_etl.sessions import SessionCalendar

__all__ = ["MovedState"]


@dataclass(frozen=True)
class MovedState:
    """A move, for the states that follow it.

    Attributes:
        moved: the rows.
        rows: those after the move that are of sessions, which alone count.
        moves: where they go.
        gone: names that are no symbols any more: all that is known of them moves.
        ended: symbols that nobody will ask a source for.
        calendar: the exchange's sessions.
        version: of the commit.
        at: its time.
    """

    moved: Moved
    rows: pl.DataFrame
    moves: Sequence[Move]
    gone: Collection[str]
    ended: Collection[str]
    calendar: SessionCalendar
    version: int
    at: datetime

    def completeness(self, before: Completeness) -> Completeness:
        """Completeness after the move, from the rows and what was known of those that are missing."""
        names = {name for move in self.moves for name in (move.old, move.new)}
        mine = pl.col("symbol").is_in(list(names))
        facts = self._facts(before.symbols.filter(mine))
        fresh = self._from_rows(facts)
        gaps = self._gaps(before.gaps.filter(mine), fresh.symbols, set(before.symbols.get_column("symbol")))
        lives = fresh.symbols.select("symbol", pl.col("first_session").alias("begin"))
        leading = gaps.join(lives, on="symbol").filter(pl.col("last_session") < pl.col("begin")).drop("begin")
        known = fresh.carrying_over(gaps, facts, self.calendar)
        return Completeness(
            pl.concat([before.symbols.filter(~mine), known.symbols]).sort("symbol"),
            in_order(pl.concat([before.gaps.filter(~mine), known.gaps, leading])),
        )

    def holds(self, before: pl.DataFrame) -> pl.DataFrame:
        """The standing holds under their new names, each once."""
        there = mapped(before, self._all_of_gone(), pl.col("session").fill_null(date.min)).drop("was")
        there = there.unique(["symbol", "code", "session"], keep="first", maintain_order=True)
        return there.sort("symbol", "code", "session")

    def actions(self, before: pl.DataFrame) -> pl.DataFrame:
        """Splits and dividends under their new names; what was inferred between rows that now part is none."""
        there = mapped(before, self._all_of_gone(), pl.col("date"))
        own = (pl.col("was") == pl.col("symbol")).alias("own")
        there = there.with_columns(own).sort(*ORDER, "own").unique(ORDER, keep="last", maintain_order=True)
        firsts = self.moved.after.group_by("symbol").agg(pl.col("date").min())
        parted = there.filter("inferred").join(firsts, on=ORDER, how="semi").select(ORDER)
        return there.join(parted, on=ORDER, how="anti").select(before.columns).sort(ORDER)

    def _all_of_gone(self) -> list[Move]:
        """The moves, with what lies after them where nothing else has the name."""
        last = {move.old: move.high for move in sorted(self.moves, key=lambda move: move.high)}
        return [
            replace(move, high=date.max) if move.old in self.gone and move.high == last[move.old] else move
            for move in self.moves
        ]

    def _facts(self, before: pl.DataFrame) -> pl.DataFrame:
        """What is known of each symbol: what was known of its name, else of the name its last row had."""
        lasts = self.rows.group_by("symbol").agg(
            pl.col("date").max().alias("last"), pl.col("was").sort_by("date").last()
        )
        own = lasts.join(before, on="symbol")
        others = lasts.join(before, on="symbol", how="anti")
        others = others.join(before.rename({"symbol": "was"}), on="was").with_columns(
            pl.lit(LIVE).alias("status"),
            pl.lit(Outcome.OK.value).alias("outcome"),
            pl.lit(0, pl.Int64).alias("misses"),
            pl.lit(None, pl.Date).alias("asked"),
            pl.lit(None, pl.Date).alias("due"),
            pl.col("last").alias("asked_through"),
        )
        over = pl.col("symbol").is_in(list(self.ended))
        facts = pl.concat([own.select(before.columns), others.select(before.columns)])
        return facts.with_columns(pl.when(over).then(pl.lit(ENDED)).otherwise("status").alias("status"))

    def _from_rows(self, facts: pl.DataFrame) -> Completeness:
        rows = self.rows.select(ORDER)
        nothing = rows.clear()
        asked = facts.select("symbol", "outcome", "adjustment", "provider").sort("symbol")
        attempt = FetchAttempt(
            asked=asked.select(
                (pl.col(name) if name in asked.columns else pl.lit(None)).cast(dtype).alias(name)
                for name, dtype in ASKED.items()
            ),
            stored=rows,
            dropped=nothing,
            refused=pl.DataFrame(schema=REFUSED),
            today=date.min,
            version=self.version,
            at=self.at,
        )
        completeness, _ = update_completeness(
            Completeness.empty(), attempt, self.calendar, GapPolicy(), lambda sessions: sessions
        )
        return completeness

    def _gaps(self, before: pl.DataFrame, lives: pl.DataFrame, known: Collection[str]) -> pl.DataFrame:
        """What was known of missing sessions, by whose they are now; those after a name's end begin anew."""
        days = mapped(exploded(before, self.calendar), self.moves, pl.col("date")).drop("was")
        days = days.unique(["symbol", "position"], keep="first", maintain_order=True)
        days = days.join(lives.select("symbol", "last_session"), on="symbol")
        keeps = pl.col("symbol").is_in(list(known)) & ~pl.col("symbol").is_in(list(self.ended))
        days = days.filter((pl.col("date") < pl.col("last_session")) | keeps).drop("last_session")
        return as_ranges(days, self.calendar)
