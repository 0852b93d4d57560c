"""From requests to a batch: fetch, validate, and quarantine what was refused."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.fetch.batch import Batch, reasons_in_words
from historical_etl.etl.fetch.fetch import fetch_all
from historical_etl.etl.fetch.year_range import lead_in
from historical_etl.models import DATASET_ID, Outcome
from historical_etl.quality.batch_verdict import BatchVerdict, count_reasons, judge_batch
from historical_etl.quality.rules import split_rows
from historical_etl.schema import ORDER, SCHEMA, ordered, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import FetchRequest, FetchResult, PriceSource
from historical_etl.store.quarantine import Quarantine

__all__ = ["BEFORE_CALENDAR", "BatchFetcher"]

_log = logging.getLogger(__name__)
#: Why a row of a day before the first that the calendar knows is refused: nobody can tell whether it was a session.
BEFORE_CALENDAR: Final = "before_calendar"


@dataclass(frozen=True)
class BatchFetcher:
    """Fetches and judges by one set of rules.

    Attributes:
        source: where bars come from.
        calendar: the exchange's sessions.
        last_closed: the last session that has closed. Bars of the next one may be unfinished: they are left for a
            later run.
        max_rejected_share: share of bad rows from which on a symbol's batch is refused.
        quarantine: where refused rows go.
    """

    source: PriceSource
    calendar: SessionCalendar
    last_closed: date
    max_rejected_share: float
    quarantine: Quarantine

    def fetch(
        self,
        requests: Sequence[FetchRequest],
        *,
        name: str,
        window: tuple[date, date] | None = None,
        without_history: Collection[str] = (),
    ) -> Batch:
        """Fetch, validate, and quarantine what was refused.

        Args:
            requests: what to ask for.
            name: what to call the refused rows in quarantine.
            window: the first and last date to store; None stores all that was asked for.
            without_history: symbols of which nothing earlier is stored. Sessions before their requests are requested as
                well, so that their first `ret` has a predecessor.

        Raises:
            ProviderError: every request failed.
        """
        requests, since = self._with_lead_in(requests, without_history)
        batch = self._validated(fetch_all(self.source, requests), requests, window, since)
        return replace(batch, quarantine_path=self._keep_rejected(batch, name)) if batch.rejected.height else batch

    def _validated(
        self,
        answer: FetchResult,
        requests: Sequence[FetchRequest],
        window: tuple[date, date] | None,
        since: Mapping[str, date],
    ) -> Batch:
        """What a source answered to requests, judged; `since`: from when on the rows of a symbol are stored."""
        symbols = sorted({symbol for request in requests for symbol in request.symbols})
        start, end = min(request.start for request in requests), max(request.end for request in requests)
        first, last = window or (start, end)
        open_session = self.calendar.after(self.last_closed)
        frame = _without_open_session(answer.frame, open_session) if open_session else answer.frame
        frame, early = self._without_early(frame, start)
        sessions = self.calendar.between(start, end)
        outside = _is_outside(first, last, since) & pl.col("date").is_between(start, end)
        main, context = frame, frame.clear()
        if since or (first, last) != (start, end):
            main, context = frame.filter(~outside.fill_null(value=False)), frame.filter(outside)
            context = split_rows(context, symbols=symbols, start=start, end=end, sessions=sessions).good
            context = ordered(context.unique(["symbol", "date"], keep="none"))
        verdict = judge_batch(
            main, symbols=symbols, start=first, end=last, sessions=sessions, max_rejected_share=self.max_rejected_share
        )
        if early.height:
            verdict = replace(verdict, rejected=pl.concat([verdict.rejected, early], how="diagonal"))
        # A source may also spoil rows of symbols that nobody asked for: those are only quarantined.
        refused = {symbol: why for symbol, why in verdict.refused.items() if symbol in answer.outcomes}
        outcomes = dict(answer.outcomes) | dict.fromkeys(refused, Outcome.REFUSED)
        rejected_symbols = set(verdict.rejected.get_column("symbol"))
        if rejected_symbols:
            rejected_symbols -= set(symbols_in(verdict.accepted))
        rejected_only = {s for s in rejected_symbols if outcomes.get(s) is Outcome.OK}
        outcomes |= dict.fromkeys(rejected_only, Outcome.REFUSED)
        led_in = {*since, *symbols_in(context)} if context.height else set(since)
        only_led_in = led_in.difference(symbols_in(main)) if led_in else led_in
        outcomes |= {s: Outcome.EMPTY for s in only_led_in if outcomes.get(s) is Outcome.OK}
        verdict = _with_unreadable(verdict, answer)
        requested = _asked(requests, start, end, {})
        actions, late = _parted(answer.actions, requested)
        foreign, late_foreign = _parted(answer.foreign, requested)
        if late_foreign is not None:
            others = late_foreign.select(*ORDER, pl.lit(1.0).alias("split"), "dividend")
            late = others if late is None else pl.concat([late, others])
        covered = self.source.info.coverage  # as it is found out by now: of days before it nothing was asked
        since_covered = max(first, covered.first) if covered else first
        return Batch(
            source=self.source.info.name,
            rows=verdict.accepted[list(SCHEMA)],
            context=context[list(SCHEMA)],
            anchors=context[list(SCHEMA)].clear(),
            outcomes=outcomes,
            details={**answer.details, **_why_refused(verdict.rejected, rejected_only), **refused},
            asked=_asked(requests, since_covered, last, since),
            requested=requested,
            refused=refused,
            rejected=verdict.rejected,
            flagged=verdict.flagged,
            actions=actions,
            late=late,
            named_since=answer.named_since,
            foreign=foreign,
            rows_fetched=main.height + early.height,
            notes=answer.notes,
            set_aside=answer.set_aside,
            calendar_notes=[self._early_bars_note(early)] if early.height else [],
        )

    def _without_early(self, frame: pl.DataFrame, start: date) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows, and apart from them those that were asked for of days before the calendar's first, as refused."""
        begins = self.calendar.known_from
        if start >= begins:
            return frame, frame.clear().with_columns(pl.lit([BEFORE_CALENDAR]).alias("reasons"))
        early = (pl.col("date") < begins) & (pl.col("date") >= start)
        reasons = pl.lit([BEFORE_CALENDAR]).alias("reasons")
        return frame.filter(~early.fill_null(value=False)), frame.filter(early).with_columns(reasons)

    def _early_bars_note(self, early: pl.DataFrame) -> str:
        days, symbols = early.get_column("date"), early.get_column("symbol").n_unique()
        return (
            f"{early.height:,} row(s) of {symbols:,} symbol(s), {days.min()} to {days.max()}, lie before the calendar "
            f"of {self.calendar.name}, which begins on {self.calendar.known_from}; they are kept in rejected_rows"
        )

    def _with_lead_in(
        self, requests: Sequence[FetchRequest], without_history: Collection[str]
    ) -> tuple[Sequence[FetchRequest], Mapping[str, date]]:
        """The requests as they are to be made, and from when on the rows of a symbol are to be stored."""
        if not without_history:
            return requests, {}
        coverage, since = self.source.info.coverage, dict[str, date]()
        wider: list[FetchRequest] = []
        for request in requests:
            start = request.start
            if not set(without_history).isdisjoint(request.symbols):
                start = lead_in(start, self.calendar, coverage)
                since |= dict.fromkeys(request.symbols, request.start)
            wider.append(replace(request, start=start))
        return wider, since

    def _keep_rejected(self, batch: Batch, name: str) -> str:
        facts = {
            "source": batch.source,
            "rows": batch.rejected.height,
            "by_reason": count_reasons(batch.rejected),
            "refused_symbols": dict(batch.refused),
        }
        reason = f"{batch.rejected.height} row(s) broke a rule or belong to a refused batch; see `reasons`"
        return str(self.quarantine.keep_rows(f"{name}.rows.parquet", batch.rejected, reason, DATASET_ID, facts))


def _with_unreadable(verdict: BatchVerdict, answer: FetchResult) -> BatchVerdict:
    """The verdict with the rows that the source itself could not read."""
    if answer.rejected is None or answer.rejected.is_empty():
        return verdict
    return replace(verdict, rejected=pl.concat([verdict.rejected, answer.rejected.select(verdict.rejected.columns)]))


def _why_refused(rejected: pl.DataFrame, symbols: Collection[str]) -> dict[str, str]:
    """Of symbols of which no row is left, what was wrong with them."""
    if not symbols:
        return {}
    mine = rejected.filter(pl.col("symbol").is_in(list(symbols))).partition_by("symbol")
    return {
        rows.item(0, "symbol"): f"none of its {rows.height} row(s) can be stored: {reasons_in_words(rows)}"
        for rows in mine
    }


def _is_outside(first: date, last: date, since: Mapping[str, date]) -> pl.Expr:
    """Whether a row is not to be stored, by the window and by when its symbol begins."""
    outside = ~pl.col("date").is_between(first, last)
    if not since:
        return outside
    begins = pl.col("symbol").replace_strict(since, default=first, return_dtype=pl.Date)
    return outside | (pl.col("date") < begins)


def _asked(
    requests: Sequence[FetchRequest], first: date, last: date, since: Mapping[str, date]
) -> dict[str, tuple[date, date]]:
    spans: dict[str, tuple[date, date]] = {}
    for request in requests:
        begins, end = max(request.start, first), min(request.end, last)
        for symbol in request.symbols:
            start = max(begins, since[symbol]) if symbol in since else begins
            if start <= end:
                known = spans.get(symbol)
                spans[symbol] = (min(known[0], start), max(known[1], end)) if known else (start, end)
    return spans


def _parted(
    actions: pl.DataFrame | None, requested: Mapping[str, tuple[date, date]]
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """The events of the range that was asked for, and those before it."""
    if actions is None or actions.is_empty():
        return actions, None
    begins = {symbol: start for symbol, (start, _) in requested.items()}
    if (actions.get_column("date") >= max(begins.values())).all():
        return actions, None
    is_late = pl.col("date") < pl.col("symbol").replace_strict(begins, default=date.min, return_dtype=pl.Date)
    late = actions.filter(is_late)
    return (actions.filter(~is_late), late) if late.height else (actions, None)


def _without_open_session(frame: pl.DataFrame, open_session: date) -> pl.DataFrame:
    unfinished = frame.get_column("date") == open_session
    if not unfinished.any():
        return frame
    _log.info("%d bars of %s were left for a later run: that session has not closed", unfinished.sum(), open_session)
    return frame.filter(~unfinished | pl.col("date").is_null())
