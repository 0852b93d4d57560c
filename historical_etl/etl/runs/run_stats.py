"""What a run did, counted while it goes on."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

import polars as pl

from historical_etl.errors import HistoricalETLError
from historical_etl.etl.commit import Prepared
from historical_etl.etl.completeness import Completeness
from historical_etl.etl.fetch import Batch
from historical_etl.etl.merge import withheld_messages
from historical_etl.etl.reconcile import Reconciled
from historical_etl.models import ETLResult, Outcome, SyncManifest
from historical_etl.quality.batch_verdict import count_reasons, unwritable_symbols
from historical_etl.quality.cells import WORTH_A_LOOK
from historical_etl.quality.suspicion import Suspicion
from historical_etl.symbols import resembling

__all__ = ["RunStats", "YearEvent"]

_NAMED: Final = 10  # symbols that a warning names


@dataclass(frozen=True)
class YearEvent:
    """A step of a run that goes year by year, reported while it goes on.

    `done` of `total` years are behind it, one way or the other; `rows` are stored so far; `error` is why a year failed.
    While the bars of all years are fetched at once the step is `fetching`, and symbols are counted.
    """

    year: int
    step: Literal["fetching", "started", "committed", "failed", "resumed"]
    done: int
    total: int
    rows: int = 0
    error: HistoricalETLError | None = None


@dataclass
class RunStats:
    """Counts of one run over `start` to `end`; `result` makes the public record of them."""

    start: date
    end: date
    began: float = field(default_factory=time.perf_counter)
    rows: int = 0
    requests: int = 0
    rows_fetched: int = 0
    rows_rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    unwritable: set[str] = field(default_factory=set[str])
    rows_flagged: int = 0
    flagged: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    details: dict[str, str] = field(default_factory=dict[str, str])
    years: set[int] = field(default_factory=set[int])
    corrections: int = 0
    restated: set[str] = field(default_factory=set[str])
    held: dict[str, str] = field(default_factory=dict[str, str])
    ended: set[str] = field(default_factory=set[str])
    sessions_missing: int = 0
    withheld: int = 0
    unadjusted: set[str] = field(default_factory=set[str])
    warnings: list[str] = field(default_factory=list[str])
    calendar_notes: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    set_aside: list[str] = field(default_factory=list[str])
    quarantined: list[str] = field(default_factory=list[str])
    disk_warnings: list[str] = field(default_factory=list[str])
    catalog_error: str | None = None

    def add_outcomes(self, outcomes: dict[str, Outcome], details: dict[str, str]) -> None:
        """A symbol that was fetched in any year counts as fetched; otherwise the latest outcome counts."""
        for symbol, outcome in outcomes.items():
            if self.outcomes.get(symbol) is not Outcome.OK or outcome not in (Outcome.OK, Outcome.EMPTY):
                self.outcomes[symbol] = outcome
        self.details |= details

    def add_fetched(self, batch: Batch) -> None:
        """Count what was fetched and refused; what a source says with every answer is noted once."""
        self.rows_fetched += batch.rows_fetched
        self.rows_rejected += batch.rejected.height
        for reason, count in count_reasons(batch.rejected).items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.unwritable |= unwritable_symbols(batch.rejected)
        self.quarantined += [batch.quarantine_path] if batch.quarantine_path else []
        self.calendar_notes += batch.calendar_notes
        self.notes += [note for note in batch.notes if note not in self.notes]
        self.set_aside = list(dict.fromkeys((*self.set_aside, *batch.set_aside)))

    def add_reconciled(self, reconciled: Reconciled) -> None:
        """Note what became of the symbols of a batch."""
        self.add_outcomes(reconciled.batch.outcomes, reconciled.batch.details)
        self._add_suspects(reconciled.reasons())
        self.warnings += reconciled.warnings

    def add_prepared(self, prepared: Prepared) -> None:
        """Count what a commit is about to store."""
        self._add_withheld(prepared.withheld)
        self._add_flagged(prepared.ledgers["flagged_rows"])
        self.corrections += prepared.ledgers["corrections"].height
        self.restated |= set(prepared.ledgers["restatements"].get_column("symbol"))
        self.rows += prepared.rows
        self.warnings += prepared.rebuilt
        self.disk_warnings += [prepared.disk_warning] if prepared.disk_warning else []

    def add_committed(self, before: SyncManifest | None, manifest: SyncManifest | None, after: Completeness) -> None:
        """Note the years that a commit has changed, and what is missing after it."""
        if manifest is not None:
            old = {p.year: p.checksum for p in before.partitions} if before else {}
            self.years |= {p.year for p in manifest.partitions if old.get(p.year) != p.checksum}
        self.sessions_missing = after.missing()
        self.ended = after.ended() & set(self.outcomes)

    def _add_suspects(self, suspects: Mapping[str, Sequence[Suspicion]]) -> None:
        """Note which symbols are held, and why."""
        for symbol, (first, *others) in suspects.items():
            more = f"; and {len(others)} more, see `historical-etl holds`" if others else ""
            self.held[symbol] = f"{first.code}: {first.evidence}{more}"
            self.details.setdefault(symbol, self.held[symbol])

    def _add_withheld(self, cells: pl.DataFrame) -> None:
        """Count and tell the cells that the source did not give."""
        if cells.is_empty():
            return
        self.withheld += cells.height
        lacks_basis = (pl.col("column") == "adj_close") & pl.col("stored").is_null()
        self.unadjusted |= set(cells.filter(lacks_basis).get_column("symbol"))
        self.warnings += withheld_messages(cells)

    def _add_flagged(self, rows: pl.DataFrame) -> None:
        """Count bars that were stored with something wrong beside the close, by reason and symbol."""
        if rows.is_empty():
            return
        self.rows_flagged += rows.height
        counts = rows.select("symbol", pl.col("reasons").alias("reason")).explode("reason").group_by("reason", "symbol")
        for reason, symbol, count in counts.len().sort("reason", "symbol").iter_rows():
            self.flagged.setdefault(reason, Counter())[symbol] += count

    def result(self, manifest: SyncManifest | None) -> ETLResult:
        """The public record, with the current version."""
        return ETLResult(
            total_rows=self.rows,
            partitions_written=len(self.years),
            years_written=tuple(sorted(self.years)),
            symbols_processed=sum(outcome is Outcome.OK for outcome in self.outcomes.values()),
            start_date=self.start,
            end_date=self.end,
            duration_seconds=time.perf_counter() - self.began,
            manifest_checksum=manifest.checksum if manifest else "",
            version=manifest.version if manifest else 0,
            outcomes=dict(sorted(self.outcomes.items())),
            details=dict(sorted(self.details.items())),
            requests=self.requests,
            rows_fetched=self.rows_fetched,
            rows_rejected=self.rows_rejected,
            rejected_by_reason=dict(sorted(self.reasons.items())),
            rows_flagged=self.rows_flagged,
            flagged_by_reason={reason: by.total() for reason, by in sorted(self.flagged.items())},
            quarantine_paths=tuple(self.quarantined),
            corrections=self.corrections,
            restated_symbols=tuple(sorted(self.restated)),
            held=dict(sorted(self.held.items())),
            ended_symbols=tuple(sorted(self.ended)),
            sessions_missing=self.sessions_missing,
            withheld=self.withheld,
            unadjusted_symbols=tuple(sorted(self.unadjusted)),
            warnings=(*self.warnings, *self._warnings_of_rows()),
            calendar_notes=tuple(dict.fromkeys(self.calendar_notes)),
            notes=tuple(self.notes),
            set_aside=tuple(self.set_aside),
            disk_warnings=tuple(dict.fromkeys(self.disk_warnings)),
            catalog_error=self.catalog_error,
        )

    def _warnings_of_rows(self) -> list[str]:
        """One line for each kind of what a person should look at in rows that were fetched."""
        lines = [
            f"{by.total():,} bar(s) have {WORTH_A_LOOK[reason]}, and are stored without: "
            f"{_some([f'{symbol} ({count:,})' for symbol, count in by.most_common()])}; see the ledger flagged_rows"
            for reason, by in sorted(self.flagged.items())
            if reason in WORTH_A_LOOK
        ]
        if self.unwritable:
            names = _some([resembling(symbol) for symbol in sorted(self.unwritable)])
            lines.append(f"rows of {len(self.unwritable):,} symbol(s) that cannot be written were quarantined: {names}")
        return lines


def _some(names: list[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
