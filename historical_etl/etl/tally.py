"""What a run did, counted while it goes on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from historical_etl.errors import HistoricalETLError
from historical_etl.models import ETLResult, Outcome, SyncManifest
from historical_etl.quality.batch import Verdict
from historical_etl.quality.levels import Suspicion
from historical_etl.sources.base import FetchResult

__all__ = ["Tally", "YearEvent"]


@dataclass(frozen=True)
class YearEvent:
    """A step of a run that goes year by year, told while it goes on.

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
class Tally:
    """Counts of one run over `start` to `end`; `result` makes the public record of them."""

    start: date
    end: date
    began: float = field(default_factory=time.perf_counter)
    rows: int = 0
    requests: int = 0
    rows_fetched: int = 0
    rows_rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    details: dict[str, str] = field(default_factory=dict[str, str])
    years: set[int] = field(default_factory=set[int])
    corrections: int = 0
    restated: set[str] = field(default_factory=set[str])
    held: dict[str, str] = field(default_factory=dict[str, str])
    ended: set[str] = field(default_factory=set[str])
    sessions_missing: int = 0
    warnings: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    set_aside: list[str] = field(default_factory=list[str])
    quarantined: list[str] = field(default_factory=list[str])
    disk_warnings: list[str] = field(default_factory=list[str])
    catalog_error: str | None = None

    def add_outcomes(self, outcomes: dict[str, Outcome], details: dict[str, str]) -> None:
        """A symbol that came in any year came; otherwise the latest word counts."""
        for symbol, outcome in outcomes.items():
            if self.outcomes.get(symbol) is not Outcome.OK or outcome not in (Outcome.OK, Outcome.EMPTY):
                self.outcomes[symbol] = outcome
        self.details |= details

    def add_suspects(self, suspects: Mapping[str, Suspicion]) -> None:
        """Note which symbols are held, and why."""
        for symbol, suspicion in suspects.items():
            self.held[symbol] = f"{suspicion.code}: {suspicion.evidence}"
            self.details.setdefault(symbol, self.held[symbol])

    def add_verdict(self, verdict: Verdict) -> None:
        """Count what the quality rules said of a batch."""
        self.rows_rejected += verdict.rejected.height
        for reason, count in verdict.by_reason().items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def add_told(self, answer: FetchResult) -> None:
        """Note what a source tells of what it has; what it tells with every answer is told once."""
        self.notes += [note for note in answer.notes if note not in self.notes]
        self.set_aside += [what for what in answer.set_aside if what not in self.set_aside]

    def result(self, manifest: SyncManifest | None) -> ETLResult:
        """The public record, with the version that stands now."""
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
            quarantine_paths=tuple(self.quarantined),
            corrections=self.corrections,
            restated_symbols=tuple(sorted(self.restated)),
            held=dict(sorted(self.held.items())),
            ended_symbols=tuple(sorted(self.ended)),
            sessions_missing=self.sessions_missing,
            warnings=tuple(self.warnings),
            notes=tuple(self.notes),
            set_aside=tuple(self.set_aside),
            disk_warnings=tuple(dict.fromkeys(self.disk_warnings)),
            catalog_error=self.catalog_error,
        )
