"""Decisions of people on what runs left open: holds are accepted, missing sessions are waived."""

from datetime import date, datetime

from historical_etl.clock import as_date
from historical_etl.etl.commit import accept_hold, decision, publish_if_behind, waive_gaps
from historical_etl.etl.runs.price_runs import PriceRuns
from historical_etl.etl.runs.windows import RunSteps
from historical_etl.models import ETLResult
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Transaction

__all__ = ["Decisions"]


class Decisions:
    """What a person decides, recorded in the ledgers, and followed at once."""

    def __init__(self, steps: RunSteps, runs: PriceRuns) -> None:
        self._steps = steps
        self._runs = runs
        self._state = steps.state
        self._context = steps.context

    def accept(self, symbol: str, *, reason: str, by: str) -> ETLResult:
        """Let a held symbol pass: record who decided and why, then bring it up to date. See `HistoricalETL.accept`."""
        name = self._state.known_name(symbol)
        with self._context.lock() as token:
            accept_hold(Transaction(self._context.manifests, token, self._context.retention), name, reason, by)
        return self._runs.run_incremental_etl([name])

    def waive(
        self,
        symbol: str | None,
        start: date | datetime | str,
        end: date | datetime | str | None = None,
        *,
        reason: str,
        by: str,
    ) -> int:
        """Let missing sessions stay missing: they are not asked for again, and the cursor passes them.

        See `HistoricalETL.waive`.
        """
        name = self._state.known_name(symbol) if symbol is not None else None
        self._context.require_store()
        first = as_date(start, "start")
        last = first if end is None else as_date(end, "end")
        sessions = self._context.calendar.between(first, last)
        self._state.require_calendar(self._context.manifest())
        with self._context.lock() as token:
            transaction = Transaction(self._context.manifests, token, self._context.retention)
            completeness = self._state.completeness_of(transaction.base)
            decided = decision(transaction, reason, by)
            after = completeness.waive(name, sessions, decided, self._context.calendar)
            waive_gaps(transaction, completeness, after, name, decided)
            progress = self._steps.run_progress.after(self._context.manifest(), after)
            save_progress(self._context.layout, progress, fetched=False)
        publish_if_behind(self._context)
        return after.waived() - completeness.waived()
