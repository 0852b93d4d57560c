"""What a run found and changed, as Dagster shows it: restated histories, corrections, holds, gaps, warnings.

A run may change years that nobody asked for, because a split changes a whole history. So it is reported by year,
from the ledgers of the versions that it committed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import dagster as dg
import polars as pl

from historical_etl.assets.tables import frame_table
from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLResult
from historical_etl.store.ledger_schemas import empty_ledger

__all__ = ["RESTATED", "Changes"]

#: Columns of the table `restated`; the ledger has also the sessions.
RESTATED: Final = ("symbol", "ratio", "close_ratio", "evidence", "rows_replaced")
_GAP: Final = ("symbol", "first_session", "last_session", "sessions", "why")
_CELL: Final = ("date", "symbol", "column", "old", "new")
#: How many things of a kind a sentence names.
_NAMED: Final = 3
#: Lines of one kind that an event may hold.
_MOST_LINES: Final = 100


@dataclass(frozen=True)
class Changes:
    """What one run did to what was stored, and what is open after it.

    Attributes:
        result: of the run.
        restated: of the ledger `restatements`, the rows of this run.
        corrected: of the ledger `corrections`, likewise.
        filled: gaps that this run filled.
        gaps: those that are open.
        unread: why the ledgers could not be read; then there are no rows of them.
    """

    result: ETLResult
    restated: pl.DataFrame
    corrected: pl.DataFrame
    filled: pl.DataFrame
    gaps: pl.DataFrame
    unread: str = ""

    @classmethod
    def of(cls, etl: HistoricalETL, result: ETLResult, since: int) -> "Changes":
        """Read what a run did; `since` is the version that stood before it.

        A damaged ledger does not raise: the prices are committed, and must be reported.
        """
        unread = ""
        try:
            if etl.manifest() is not None:  # else it found nothing to commit
                return cls._read(etl, result, since)
        except ChecksumMismatchError as damage:
            unread = str(damage)
        restated, corrected, gaps = (empty_ledger(name) for name in ("restatements", "corrections", "closed_gaps"))
        return cls(result, restated, corrected, gaps, gaps, unread)

    @classmethod
    def _read(cls, etl: HistoricalETL, result: ETLResult, since: int) -> "Changes":
        gaps = etl.gaps(all=True)
        mine = pl.col("version").is_between(since + 1, result.version)
        return cls(
            result=result,
            # By name too: another writer may have committed meanwhile.
            restated=etl.ledger("restatements").filter(mine, pl.col("symbol").is_in(list(result.restated_symbols))),
            corrected=etl.ledger("corrections").filter(mine, pl.col("symbol").is_in(list(result.outcomes))),
            filled=gaps.filter(
                pl.col("closed_version").is_between(since + 1, result.version), pl.col("status") == "filled"
            ),
            gaps=gaps.filter(pl.col("status") == "open"),
        )

    def of_year(self, year: int) -> "Changes":
        """The part of it that touched one year; warnings and holds are the run's."""
        within = pl.lit(year).is_between(pl.col("first_session").dt.year(), pl.col("last_session").dt.year())
        return Changes(
            self.result,
            self.restated.filter(within),
            self.corrected.filter(pl.col("date").dt.year() == year),
            self.filled.filter(within),
            self.gaps.filter(within),
            self.unread,
        )

    def change_summary(self) -> str:
        """In a sentence or two what changed that was stored before; empty if nothing did."""
        restated = [
            f"{symbol} restated{f' ×{ratio:.6g}' if ratio else ''}: {evidence}"
            for symbol, ratio, evidence in self.restated.select("symbol", "ratio", "evidence").iter_rows()
        ]
        corrected = [f"{symbol} {column} of {day}" for day, symbol, column, _, _ in self._cells().iter_rows()]
        filled = [f"{symbol} {_span(first, last)}" for symbol, first, last, *_ in _ranges(self.filled).iter_rows()]
        parts = [
            _some(restated),
            f"corrected: {_some(corrected)}" if corrected else "",
            f"filled: {_some(filled)}" if filled else "",
        ]
        return "; ".join(part for part in parts if part)

    def metadata(self) -> dict[str, dg.MetadataValue]:
        """As Dagster's metadata: tables, where there is something to show."""
        result = self.result
        facts: dict[str, dg.MetadataValue] = {}
        if self.restated.height:
            facts["restated"] = frame_table(self.restated.select(RESTATED))
        if self.corrected.height:
            facts["corrected"] = frame_table(self._cells())
        if result.held:
            held = pl.DataFrame(list(result.held.items()), schema={"symbol": pl.String, "why": pl.String}, orient="row")
            facts["held"] = frame_table(held)
        if self.gaps.height:
            facts["gaps_open"] = frame_table(_ranges(self.gaps))
        if self.unread:
            facts["ledgers_unread"] = dg.MetadataValue.text(self.unread)
        if result.calendar_notes:
            facts["calendar"] = dg.MetadataValue.text("\n".join(result.calendar_notes))
        if result.warnings:
            facts["warnings"] = dg.MetadataValue.text("\n".join(result.warnings))
        for name, lines in (("notes", result.notes), ("set_aside", result.set_aside)):
            if lines:
                more = [f"and {len(lines) - _MOST_LINES:,} more"] if len(lines) > _MOST_LINES else []
                facts[name] = dg.MetadataValue.text("\n".join([*lines[:_MOST_LINES], *more]))
        return facts

    def _cells(self) -> pl.DataFrame:
        return self.corrected.select(_CELL)


def _ranges(gaps: pl.DataFrame) -> pl.DataFrame:
    return gaps.select(_GAP).sort("first_session", "symbol")


def _span(first: object, last: object) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    more = f", and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
