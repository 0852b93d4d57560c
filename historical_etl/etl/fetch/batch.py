"""From requests to a batch: what was fetched, judged; the rows to store apart from those that only give context."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, Self

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.etl.fetch.fetch import fetch_all
from historical_etl.etl.fetch.requests import lead_in
from historical_etl.etl.run_stats import RunStats
from historical_etl.models import DATASET_ID, Outcome
from historical_etl.quality.batch_verdict import BatchVerdict, judge_batch
from historical_etl.quality.price_levels import LEVELS
from historical_etl.quality.rules import split_rows
from historical_etl.schema import ORDER, SCHEMA, ordered, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import FetchRequest, FetchResult, PriceSource
from historical_etl.store.quarantine import Quarantine

__all__ = ["BEFORE_CALENDAR", "Batch", "BatchFetcher", "nothing_left", "refuse_not_found"]

_log = logging.getLogger(__name__)
#: Why a row of a day before the first that the calendar knows is refused: nobody can tell whether it was a session.
BEFORE_CALENDAR: Final = "before_calendar"


@dataclass(frozen=True)
class Batch:
    """What was fetched, judged by the row rules.

    Attributes:
        source: its name.
        rows: accepted, to be stored; keys unique, sorted by (symbol, date).
        context: good rows outside the window to store: they are held against what is stored, and give the first `ret`
            its predecessor. Keys unique, sorted by (symbol, date).
        anchors: good rows far from it, to be held against what is stored and for nothing else.
        outcomes: of every symbol that was asked for.
        details: why a symbol has another outcome than `ok`.
        asked: symbol → first and last date to store that was asked for.
        requested: symbol → first and last date that was asked for, context included.
        refused: symbols whose rows were refused as a whole → why.
        rejected: rows that were refused, with `reasons`.
        flagged: rows to store as fetched, of which something beside the close is wrong (`cells.FLAGGED`).
        actions: events that the source names; None if it names none.
        late: those that it names of days before what was asked for, in whatever currency.
        named_since: symbol → from which of those days on it names all.
        foreign: dividends in another currency than that of the prices, columns `FOREIGN`; None where there are none.
        quarantine_path: where the refused rows are kept.
    """

    source: str
    rows: pl.DataFrame
    context: pl.DataFrame
    anchors: pl.DataFrame
    outcomes: dict[str, Outcome]
    details: dict[str, str]
    asked: dict[str, tuple[date, date]]
    requested: dict[str, tuple[date, date]]
    refused: Mapping[str, str]
    rejected: pl.DataFrame
    flagged: pl.DataFrame
    actions: pl.DataFrame | None = None
    late: pl.DataFrame | None = None
    named_since: Mapping[str, date] = field(default_factory=dict[str, date])
    foreign: pl.DataFrame | None = None
    quarantine_path: str = ""

    def without(self, symbols: Collection[str]) -> Self:
        """The batch without the rows of some symbols; their outcomes stay."""
        if not symbols:
            return self
        others = ~pl.col("symbol").is_in(list(symbols))
        actions = None if self.actions is None else self.actions.filter(others)
        frames = {name: rows.filter(others) for name, rows in self._frames().items() if rows.height}
        return replace(self, **frames, actions=actions)

    def _frames(self) -> dict[str, pl.DataFrame]:
        return {"rows": self.rows, "context": self.context, "anchors": self.anchors, "flagged": self.flagged}

    def joined(self, other: Self, symbols: Collection[str]) -> Self:
        """Both batches; for `symbols` the outcomes of the other one count."""
        frames = [frame for frame in (self.actions, other.actions) if frame is not None]
        return replace(
            self,
            rows=ordered(pl.concat([self.rows, other.rows])),
            context=ordered(pl.concat([self.context, other.context])),
            outcomes=self.outcomes | {s: o for s, o in other.outcomes.items() if s in symbols},
            details=self.details | other.details,
            asked=self.asked | other.asked,
            requested=self.requested | other.requested,
            refused={**self.refused, **other.refused},
            rejected=pl.concat([self.rejected, other.rejected]),
            flagged=pl.concat([self.flagged, other.flagged]),
            actions=pl.concat(frames).unique(maintain_order=True) if frames else None,
        )

    def with_rows(self, rows: pl.DataFrame) -> Self:
        """The batch with more rows to store."""
        return replace(self, rows=ordered(pl.concat([self.rows, rows]))) if rows.height else self

    def with_anchors(self, rows: pl.DataFrame) -> Self:
        """The batch with more rows to hold against what is stored."""
        return replace(self, anchors=rows)

    def without_adj_close(self, symbols: Collection[str]) -> Self:
        """The batch with `adj_close` null in all rows of some symbols."""
        if not symbols:
            return self
        remaining = pl.when(~pl.col("symbol").is_in(list(symbols))).then("adj_close").alias("adj_close")
        return replace(self, **{name: rows.with_columns(remaining) for name, rows in self._frames().items()})

    def without_bars(self, bars: pl.DataFrame) -> Self:
        """The batch without some bars, columns symbol and date."""
        return replace(self, **{name: rows.join(bars, on=ORDER, how="anti") for name, rows in self._frames().items()})

    def spans(self) -> pl.DataFrame:
        """What was asked for: columns symbol, low and high."""
        spans = [(symbol, *span) for symbol, span in self.requested.items()]
        return pl.DataFrame(spans, schema={"symbol": pl.String, "low": pl.Date, "high": pl.Date}, orient="row")

    def seen(self) -> pl.DataFrame:
        """All rows that are held against what is stored, columns `LEVELS`, sorted by (symbol, date)."""
        return ordered(pl.concat([rows[list(LEVELS)] for rows in (self.rows, self.context, self.anchors)]))

    def nothing(self, outcomes: dict[str, Outcome], why: str) -> Self:
        """An empty batch of the same source, for symbols that could not be fetched."""
        return replace(
            self,
            rows=self.rows.clear(),
            context=self.context.clear(),
            anchors=self.anchors.clear(),
            outcomes=outcomes,
            details=dict.fromkeys(outcomes, why),
            asked={},
            requested={},
            refused={},
            rejected=self.rejected.clear(),
            flagged=self.flagged.clear(),
            actions=None,
            late=None,
            named_since={},
            foreign=None,
        )


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
        stats: RunStats,
        window: tuple[date, date] | None = None,
        without_history: Collection[str] = (),
    ) -> Batch:
        """Fetch, validate, and quarantine what was refused.

        Args:
            requests: what to ask for.
            name: what to call the refused rows in quarantine.
            stats: counts what happened.
            window: the first and last date to store; None stores all that was asked for.
            without_history: symbols of which nothing earlier is stored. Sessions before their requests are requested as
                well, so that their first `ret` has a predecessor.

        Raises:
            ProviderError: every request failed.
        """
        requests, since = self._with_lead_in(requests, without_history)
        answer = fetch_all(self.source, requests)
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
            main,
            symbols=symbols,
            start=first,
            end=last,
            sessions=sessions,
            max_rejected_share=self.max_rejected_share,
        )
        if early.height:
            verdict = replace(verdict, rejected=pl.concat([verdict.rejected, early], how="diagonal"))
            stats.calendar_notes.append(self._early_bars_note(early))
        # A source may also spoil rows of symbols that nobody asked for: those are only quarantined.
        refused = {symbol: why for symbol, why in verdict.refused.items() if symbol in answer.outcomes}
        outcomes = dict(answer.outcomes) | dict.fromkeys(refused, Outcome.REFUSED)
        rejected_symbols = set(verdict.rejected.get_column("symbol")) - set(symbols_in(verdict.accepted))
        rejected_only = {s for s in rejected_symbols if outcomes.get(s) is Outcome.OK}
        outcomes |= dict.fromkeys(rejected_only, Outcome.REFUSED)
        led_in = {*since, *symbols_in(context)}
        only_led_in = led_in.difference(symbols_in(main)) if led_in else led_in
        outcomes |= {s: Outcome.EMPTY for s in only_led_in if outcomes.get(s) is Outcome.OK}
        verdict = _with_unreadable(verdict, answer)
        stats.rows_fetched += main.height + early.height
        stats.add_verdict(verdict)
        stats.add_notes(answer)
        requested = _asked(requests, start, end, {})
        actions, late = _parted(answer.actions, requested)
        foreign, late_foreign = _parted(answer.foreign, requested)
        if late_foreign is not None:
            others = late_foreign.select(*ORDER, pl.lit(1.0).alias("split"), "dividend")
            late = others if late is None else pl.concat([late, others])
        quarantined = self._keep_rejected(verdict, name, stats) if verdict.rejected.height else ""
        covered = self.source.info.coverage  # as it is found out by now: of days before it nothing was asked
        since_covered = max(first, covered.first) if covered else first
        return Batch(
            source=self.source.info.name,
            rows=verdict.accepted.select(list(SCHEMA)),
            context=context.select(list(SCHEMA)),
            anchors=context.select(list(SCHEMA)).clear(),
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
            quarantine_path=quarantined,
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

    def _keep_rejected(self, verdict: BatchVerdict, name: str, stats: RunStats) -> str:
        facts = {
            "source": self.source.info.name,
            "rows": verdict.rejected.height,
            "by_reason": verdict.by_reason(),
            "refused_symbols": dict(verdict.refused),
        }
        reason = f"{verdict.rejected.height} row(s) broke a rule or belong to a refused batch; see `reasons`"
        quarantined = str(
            self.quarantine.keep_rows(f"{name}.rows.parquet", verdict.rejected, reason, DATASET_ID, facts)
        )
        stats.quarantined.append(quarantined)
        return quarantined


def _with_unreadable(verdict: BatchVerdict, answer: FetchResult) -> BatchVerdict:
    """The verdict with the rows that the source itself could not read."""
    if answer.rejected is None or answer.rejected.is_empty():
        return verdict
    return replace(verdict, rejected=pl.concat([verdict.rejected, answer.rejected.select(verdict.rejected.columns)]))


def refuse_not_found(batch: Batch, stored: Collection[str]) -> None:
    """Refuse a batch of symbols that neither the source nor the store knows.

    Raises:
        ConfigurationError: the source knows none of the symbols, and none is stored.
    """
    unknown = [symbol for symbol, outcome in batch.outcomes.items() if outcome is Outcome.NOT_FOUND]
    if len(unknown) == len(batch.outcomes) and not set(unknown) & set(stored):
        raise ConfigurationError(
            f"{batch.source!r} knows none of the symbols that were asked for: {', '.join(unknown[:10])}",
            where="symbols",
            todo=next(iter(batch.details.values()), "correct the symbols, or choose another source"),
        )


def nothing_left(batch: Batch, name: str) -> DataQualityError | None:
    """The error of a batch with rows of which none can be stored; the run decides whether it failed.

    Args:
        batch: what was fetched.
        name: what it was asked for.
    """
    if batch.rejected.is_empty() or not batch.rows.is_empty():
        return None
    undated = batch.rejected.get_column("date").is_null().all()
    if undated and Outcome.REFUSED not in batch.outcomes.values():
        return None  # rows that may be of any day: nothing tells that they are of those which were asked for
    return DataQualityError(
        f"All {batch.rejected.height} rows that {batch.source} delivered for {name} were refused "
        f"({_counted(batch.rejected)}); none of them is stored",
        where=batch.quarantine_path,
        todo="look at the rows and their reasons there; ask again once the source is right",
    )


def _counted(rejected: pl.DataFrame) -> str:
    reasons = rejected.get_column("reasons").explode().value_counts(sort=True)
    return ", ".join(f"{reason}: {count}" for reason, count in reasons.iter_rows())


def _why_refused(rejected: pl.DataFrame, symbols: Collection[str]) -> dict[str, str]:
    """Of symbols of which no row is left, what was wrong with them."""
    if not symbols:
        return {}
    mine = rejected.filter(pl.col("symbol").is_in(list(symbols))).partition_by("symbol")
    return {
        rows.item(0, "symbol"): f"none of its {rows.height} row(s) can be stored: {_counted(rows)}" for rows in mine
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
        for symbol in request.symbols:
            start, end = max(request.start, first, since.get(symbol, first)), min(request.end, last)
            if start <= end:
                known = spans.get(symbol, (start, end))
                spans[symbol] = min(known[0], start), max(known[1], end)
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
