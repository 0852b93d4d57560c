"""One run: fetch → judge → reconcile → commit, for as many windows as it has, and a record of how it ended."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError, HistoricalETLError, ProviderError
from historical_etl.etl.commit import ACCEPTED, Commit, ProgressUpdate, is_due, suspicion_of
from historical_etl.etl.completeness import (
    ASKED,
    REFUSED,
    CalendarChange,
    Completeness,
    FetchAttempt,
    GapPolicy,
    joined_in_words,
    load_actions,
)
from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.fetch import Batch, BatchFetcher, nothing_left, refuse_not_found, refuse_outage, request_hash
from historical_etl.etl.merge import Gate
from historical_etl.etl.reconcile import Base, FrozenFeed, Reconciled, Reconciler, due_again
from historical_etl.etl.run_stats import RunStats
from historical_etl.etl.runs.clock_trust import Silence, silence, trusted_completeness
from historical_etl.etl.symbology import Names
from historical_etl.models import Outcome, SyncManifest
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import ORDER, latest, symbols_in
from historical_etl.sources.base import FetchRequest, PriceSource
from historical_etl.store.commit_times import stamp_after
from historical_etl.store.failed_runs import RunRecord, note_run
from historical_etl.store.ledgers import read_undamaged
from historical_etl.store.lock import LockToken
from historical_etl.store.transaction import Provenance, Transaction

__all__ = ["Run"]

_log = logging.getLogger(__name__)
#: How often others may overtake a run before it takes the lock in advance.
_TURNS: Final = 3
_OF_SPANS: Final = ("symbol", "start", "end", "outcome", "expected_from")


@dataclass
class Run:
    """A run on a store.

    Attributes:
        state: of the store that it fills.
        source: where bars come from.
        gate: judges each month before it is committed.
        command: what was asked for, in a word, for the ledger `runs`.
        stats: counts what happens.
        manifest: the version that is current, as far as the run knows: that which it found, or committed last.
        names: by which the source is asked.
        rebuild: replace the history of every symbol that was fetched, whatever basis it was stored on.
        refetch_on_corporate_action: whether an event after a symbol's last stored session calls for its whole history.
    """

    state: VersionState
    source: PriceSource
    gate: Gate
    command: str
    stats: RunStats
    manifest: SyncManifest | None
    names: Names
    rebuild: bool = False
    refetch_on_corporate_action: bool = False
    started: datetime = field(init=False)
    run_id: str = field(init=False)
    _rebuilt: set[str] = field(default_factory=set[str])
    _barren: dict[str, DataQualityError] = field(default_factory=dict[str, DataQualityError])
    _unrecorded: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])

    @property
    def context(self) -> StoreContext:
        """What it fills."""
        return self.state.context

    def __post_init__(self) -> None:
        self.started = self.context.clock()
        facts = (
            f"{self.started.isoformat()} {self.context.writer_id} {self.command} {self.stats.start} {self.stats.end}"
        )
        self.run_id = sha256(facts.encode()).hexdigest()[:32]  # not by chance: the same input gives the same bytes

    def take(
        self,
        requests: Sequence[FetchRequest],
        name: str,
        update_progress: ProgressUpdate,
        window: tuple[date, date] | None = None,
        without_history: Collection[str] = (),
        *,
        alone: bool = True,
    ) -> None:
        """Fetch requests and commit the result, at once.

        Args:
            requests: what to ask for.
            name: what to call refused rows.
            update_progress: makes the progress to save.
            window: the first and last date to store; None stores all that was asked for.
            without_history: see `BatchFetcher.fetch`.
            alone: the run consists of this. Else it does not fail if rows were fetched and none can be stored; whether
                anything was stored in the end is for `require_rows` to say.

        Raises:
            ProviderError, DataQualityError, ConfigurationError: nothing was committed.
            LockTimeoutError, DiskSpaceError, StorageError: likewise.
        """
        self.state.require_calendar(self.manifest)
        batch = self._batch_fetcher().fetch(
            requests, name=name, stats=self.stats, window=window, without_history=without_history
        )
        if (error := nothing_left(batch, name)) is not None:
            if alone:
                raise error
            self._barren[name] = error
            if self.manifest is None:  # with nothing stored there is no version that could tell of it
                self._unrecorded.append(batch.rejected)
                self.stats.add_outcomes(batch.outcomes, batch.details)
                return
        batch = self._with_unrecorded(batch)
        turn = 1
        while not self._commit(batch, update_progress, in_advance=turn > _TURNS):
            _log.info("Another writer committed meanwhile; what was fetched is held against the new version")
            turn += 1

    def require_rows(self) -> None:
        """Refuse a run of which nothing could be stored, and tell of its parts of which that is so.

        Raises:
            DataQualityError: rows were fetched, and all were refused.
        """
        if not self._barren:
            return
        if not self.stats.rows:
            raise next(iter(self._barren.values()))
        self.stats.warnings.append(
            f"of {', '.join(self._barren)} rows were fetched and none can be stored; see rejected_rows"
        )

    def failed(self, error: HistoricalETLError) -> None:
        """Note that the source or its data failed the run, for the ledger of a later commit.

        Where the disk or another writer is in the way, nothing more is written.
        """
        if isinstance(error, ProviderError | DataQualityError):
            record = self._record("failed", 0, str(error))
            with suppress(HistoricalETLError):  # what is wrong with the progress is reported by whoever needs it
                saved = self.context.progress()
                if saved is not None and saved.last_updated > record.finished:  # else it would be older than a success
                    record = record.model_copy(update={"finished": stamp_after(saved.last_updated, record.finished)})
            note_run(self.context.layout, record)

    def _with_unrecorded(self, batch: Batch) -> Batch:
        """The batch with what was refused of earlier ones that could not be committed."""
        rejected = [*self._unrecorded, batch.rejected]
        self._unrecorded.clear()
        return replace(batch, rejected=pl.concat(rejected))

    def _batch_fetcher(self) -> BatchFetcher:
        store = self.context
        return BatchFetcher(
            source=self.source,
            calendar=store.calendar,
            last_closed=store.last_closed_session(),
            max_rejected_share=store.settings.max_rejected_share,
            quarantine=store.manifests.quarantine,
        )

    def _commit(self, batch: Batch, update_progress: ProgressUpdate, *, in_advance: bool) -> bool:
        """Reconcile with the current version and commit; False if another version was current once the lock was held.

        With the lock taken in advance none can, but all others wait while this reconciles.
        """
        with ExitStack() as held:
            token = held.enter_context(self.context.lock()) if in_advance else None
            return self._reconcile_and_commit(batch, update_progress, token)

    def _reconcile_and_commit(self, batch: Batch, update_progress: ProgressUpdate, held: LockToken | None) -> bool:
        store = self.context
        self.manifest = manifest = store.manifest()
        completeness, change = trusted_completeness(self.state, manifest), self.state.calendar_change(manifest)
        self._require_names(self.state.names_of(manifest), batch)
        refuse_not_found(batch, completeness.symbols.get_column("symbol").to_list())
        if batch.asked:
            start, end = min(span[0] for span in batch.asked.values()), max(span[1] for span in batch.asked.values())
            refuse_outage(batch, completeness, start, end, store.settings.max_empty_share)
        reconciled = self._reconciler().reconcile(
            batch,
            self._base(manifest, completeness, change.left),
            rebuild=lambda symbol: self.rebuild and symbol not in self._rebuilt,
            refetch_on_corporate_action=self.refetch_on_corporate_action,
        )
        with nullcontext(held) if held else store.lock() as token:
            transaction = Transaction(store.manifests, token, store.retention)
            current = transaction.base.version if transaction.base else 0
            if current != (manifest.version if manifest else 0):
                return False
            self.stats.add_outcomes(reconciled.batch.outcomes, reconciled.batch.details)
            self.stats.add_suspects(reconciled.reasons())
            self.stats.warnings += [*reconciled.warnings]
            self.stats.calendar_notes += _calendar_notes(change, completeness)
            commit = Commit(
                transaction=transaction,
                manifests=store.manifests,
                calendar=store.calendar,
                gap_policy=self._gap_policy(),
                gate=self.gate,
                split_adjusted=self.source.info.split_adjusted,
                provenance=self._provenance(batch),
                update_progress=update_progress,
            )
            attempt = self._attempt(reconciled, transaction, completeness)
            self.manifest = commit.write(reconciled, completeness, attempt, self.stats, self._record, change.left)
        self._rebuilt |= set(symbols_in(reconciled.batch.rows))
        return True

    def _require_names(self, names: Names, batch: Batch) -> None:
        """Refuse what was asked for by names that mean something else now."""
        if names.aliases.equals(self.names.aliases):
            return
        others = [
            s for s in batch.outcomes if names.resolve([s]) != [s] or names.begins.get(s) != self.names.begins.get(s)
        ]
        if others:
            raise DataQualityError(
                f"{', '.join(sorted(others)[:5])} got another name while this run fetched; nothing was stored",
                where="symbols",
                todo="run it again: it then asks by today's names",
            )

    def _reconciler(self) -> Reconciler:
        store, judge = self.context, self._batch_fetcher()
        return Reconciler(
            layout=store.layout,
            calendar=store.calendar,
            info=self.source.info,
            reach=self._reach,
            long_gap=store.settings.long_gap_sessions,
            overlap=store.settings.overlap_sessions,
            frozen=self._frozen_feed(),
            fetch=lambda requests, whole: judge.fetch(
                requests, name="history", stats=self.stats, without_history=whole
            ),
        )

    def _reach(self) -> date | None:
        """The oldest day that the account's plan gives, which the run may find out as it goes on."""
        info = self.source.info
        return info.coverage.first if info.plan and info.coverage else None

    def _frozen_feed(self) -> FrozenFeed:
        store, coverage = self.context, self.source.info.coverage
        closed = store.last_closed_session()
        return FrozenFeed(
            layout=store.layout,
            calendar=store.calendar,
            held_from=store.settings.stale_sessions,
            max_share=store.settings.max_empty_share,
            latest=min(closed, coverage.last) if coverage and coverage.last else closed,
        )

    def _base(self, manifest: SyncManifest | None, completeness: Completeness, left: pl.DataFrame) -> Base:
        layout = self.context.layout
        held: dict[str, list[Suspicion]] = {}
        accepted: dict[str, list[Suspicion]] = {}
        today, look_again = self.context.last_closed_session(), set[str]()
        for hold in read_undamaged(layout, manifest, "open_holds").iter_rows(named=True):
            kind = accepted if hold["status"] == ACCEPTED else held
            kind.setdefault(hold["symbol"], []).append(suspicion_of(hold))
            if hold["code"] == HELD_BACK and (
                kind is accepted or (self.refetch_on_corporate_action and is_due(hold, today))
            ):
                look_again.add(hold["symbol"])
        actions = load_actions(layout, manifest)
        if self.refetch_on_corporate_action:
            late = self.source.info.events_late
            look_again |= due_again(actions, completeness.symbols, self.context.calendar, today, late)
        return Base(manifest, completeness, held, accepted, actions, left, frozenset(look_again))

    def _attempt(self, reconciled: Reconciled, transaction: Transaction, completeness: Completeness) -> FetchAttempt:
        today = self.context.last_closed_session()
        rows = reconciled.batch.rows
        # The newest session is expected once any symbol has it: before that the source has not published it.
        newest = latest(rows.get_column("date"))
        expected = max(filter(None, (newest, self.context.calendar.back(today, 1))))
        since = self._member_since(reconciled.batch.outcomes)
        info = self.source.info
        spans = reconciled.batch.asked
        until = max((end for _, end in spans.values()), default=expected)
        if (silent := self._silence(completeness, newest, min(expected, until))) is not None:
            expected = silent.trusted_through
        asked = pl.DataFrame(
            {
                "symbol": list(spans),
                "start": [start for start, _ in spans.values()],
                "end": [min(end, expected) for _, end in spans.values()],
                "outcome": [reconciled.batch.outcomes[symbol].value for symbol in spans],
                "expected_from": [since.get(symbol) for symbol in spans] if since else [None] * len(spans),
            },
            schema_overrides={name: dtype for name, dtype in ASKED.items() if name in _OF_SPANS},
        ).with_columns(
            pl.lit(info.adjustment).alias("adjustment"),
            pl.lit(info.name).alias("provider"),
            pl.col("symbol").is_in(list(reconciled.restated)).alias("replaced"),
            pl.lit(reconciled.batch.actions is not None).alias("names_events"),
            pl.lit(info.split_adjusted).alias("split_adjusted"),
        )
        adjusted = pl.col("date").filter(pl.col("adj_close").is_not_null())
        asked = asked.join(rows.group_by("symbol").agg(adjusted_through=adjusted.max()), "symbol", how="left")
        return FetchAttempt(
            asked=asked.select(list(ASKED)).sort("symbol"),
            stored=rows[list(ORDER)],
            dropped=reconciled.dropped,
            refused=_of_no_use(reconciled),
            today=today,
            version=transaction.version,
            at=transaction.at,
        )

    def _silence(self, completeness: Completeness, newest: date | None, end: date) -> Silence | None:
        """That of the market up to a day, if it is one that the clock calls recent; it is reported once."""
        calendar, most = self.context.calendar, self.context.settings.ended_after_sessions
        if end < calendar.back(self.context.last_closed_session(), most):
            return None
        silent = silence(completeness, newest, end, calendar, most)
        words = silent.in_words(self.context.clock()) if silent is not None else ""
        self.stats.warnings += [words] if words and words not in self.stats.warnings else []
        return silent

    def _member_since(self, symbols: Mapping[str, Outcome]) -> dict[str, date]:
        member_since = getattr(self.source, "member_since", None)
        return member_since(list(symbols)) if member_since else {}

    def _gap_policy(self) -> GapPolicy:
        settings = self.context.settings
        return GapPolicy(settings.confirm_runs, settings.ended_after_sessions, settings.max_pause_sessions)

    def _provenance(self, batch: Batch) -> Provenance:
        info = self.source.info
        asked = request_hash(list(batch.outcomes), self.stats.start, self.stats.end, info)
        return Provenance(info.name, info.version, info.adjustment, self.context.calendar.version, asked)

    def _record(self, status: str, version: int, message: str = "") -> RunRecord:
        stats = self.stats
        by_outcome = Counter(stats.outcomes.values())
        counts = {outcome.value: by_outcome[outcome] for outcome in Outcome}
        return RunRecord(
            run_id=self.run_id,
            command=self.command,
            writer=self.context.writer_id,
            started=self.started,
            finished=self.context.clock(),
            status=status,
            version=version,
            start_date=stats.start,
            end_date=stats.end,
            symbols=len(stats.outcomes),
            **counts,  # pyright: ignore[reportArgumentType] - the fields named after outcomes
            rows=stats.rows,
            rows_rejected=stats.rows_rejected,
            corrections=stats.corrections,
            restated=sorted(stats.restated),
            message=message,
            provider=self.source.info.name,
        )


def _calendar_notes(change: CalendarChange, completeness: Completeness) -> list[str]:
    left = change.left_in_words()
    moved = f"{left}; they were moved to replaced_rows" if left else ""
    return [words for words in (moved, joined_in_words(completeness)) if words]


def _of_no_use(reconciled: Reconciled) -> pl.DataFrame:
    """Rows that say nothing of their session: refused ones, and bars that are kept out alone.

    One without a price says that there is none.
    """
    rejected = reconciled.batch.rejected
    if rejected.is_empty() and reconciled.held_bars.is_empty():
        return pl.DataFrame(schema=REFUSED)
    without_price = pl.col("reasons").list.contains("no_close")
    refused = rejected.filter(~without_price).select(ORDER).drop_nulls()
    return pl.concat([_as(Outcome.REFUSED, refused), _as(Outcome.HELD, reconciled.held_bars)])


def _as(outcome: Outcome, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(outcome.value).alias("outcome"))
