"""One run: fetch → judge → reconcile → commit, for as many windows as it has, and a record of how it ended."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError, HistoricalETLError, ProviderError
from historical_etl.etl.commit import Commit, publication
from historical_etl.etl.completeness import (
    CalendarChange,
    Completeness,
    FetchAttempt,
    GapPolicy,
    joined_in_words,
)
from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.fetch import Batch, BatchFetcher, nothing_left, refuse_not_found, refuse_outage, request_hash
from historical_etl.etl.merge import Gate
from historical_etl.etl.reconcile import (
    Reconciled,
    begin,
    compare_levels,
    conclude,
    history_requests,
    overlap_requests,
    with_histories,
    with_overlap,
    without_histories,
)
from historical_etl.etl.runs.attempt import fetch_attempt
from historical_etl.etl.runs.clock_trust import Silence, silence, trusted_completeness
from historical_etl.etl.runs.progress import RunProgress, YearProgress
from historical_etl.etl.runs.reference import reference_of
from historical_etl.etl.runs.run_stats import RunStats
from historical_etl.etl.symbology import Names
from historical_etl.models import Outcome, SyncManifest
from historical_etl.one_behind import one_behind
from historical_etl.schema import latest, symbols_in
from historical_etl.sources.base import FetchRequest, PriceSource
from historical_etl.store.commit_times import stamp_after
from historical_etl.store.failed_runs import RunRecord, note_run
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction

__all__ = ["Run"]

_log = logging.getLogger(__name__)
#: How often others may overtake a run before it takes the lock in advance.
_TURNS: Final = 3
#: What rows are called in quarantine that were fetched beside a batch to judge it.
_BESIDE: Final = "history"


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
        is_increment: see `Reference`.
    """

    state: VersionState
    source: PriceSource
    gate: Gate
    command: str
    stats: RunStats
    manifest: SyncManifest | None
    names: Names
    rebuild: bool = False
    is_increment: bool = False
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
        years: YearProgress | None = None,
        window: tuple[date, date] | None = None,
        without_history: Collection[str] = (),
        *,
        alone: bool = True,
        publish: bool = False,
    ) -> None:
        """Fetch requests and commit the result, at once.

        Args:
            requests: what to ask for.
            name: what to call refused rows.
            years: how far the run is once this is committed; None leaves what is saved of years.
            window: the first and last date to store; None stores all that was asked for.
            without_history: see `BatchFetcher.fetch`.
            alone: the run consists of this. Else it does not fail if rows were fetched and none can be stored; whether
                anything was stored in the end is for `require_rows` to say.
            publish: show the catalog of the new version at once; if that fails, no word is said of it.

        Raises:
            ProviderError, DataQualityError, ConfigurationError: nothing was committed.
            LockTimeoutError, DiskSpaceError, StorageError: likewise.
        """
        self.state.require_calendar(self.manifest)
        batch = self._fetch(requests, name, window, without_history)
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
        while not self._commit(batch, years, in_advance=turn > _TURNS, publish=publish):
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

    def _fetch(
        self,
        requests: Sequence[FetchRequest],
        name: str,
        window: tuple[date, date] | None = None,
        without_history: Collection[str] = (),
    ) -> Batch:
        """Fetch and validate; see `BatchFetcher.fetch`."""
        store = self.context
        fetcher = BatchFetcher(
            source=self.source,
            calendar=store.calendar,
            last_closed=store.last_closed_session(),
            max_rejected_share=store.settings.max_rejected_share,
            quarantine=store.manifests.quarantine,
        )
        batch = fetcher.fetch(requests, name=name, window=window, without_history=without_history)
        self.stats.add_fetched(batch)
        return batch

    def _commit(self, batch: Batch, years: YearProgress | None, *, in_advance: bool, publish: bool) -> bool:
        """Reconcile with the current version and commit; False if another version was current once the lock was held.

        With the lock taken in advance none can, but all others wait while this reconciles. The catalog is built while
        the years are synced and the manifest is saved.
        """
        store = self.context
        with ExitStack() as held:
            token = held.enter_context(store.lock()) if in_advance else None
            self.manifest = manifest = store.manifest()
            completeness, change = trusted_completeness(self.state, manifest), self.state.calendar_change(manifest)
            self._require_usable(batch, manifest, completeness)
            reconciled = self._reconcile(batch, manifest, completeness, change.left)
            token = token or held.enter_context(store.lock())
            transaction = Transaction(store.manifests, token, store.retention)
            if (transaction.base.version if transaction.base else 0) != (manifest.version if manifest else 0):
                return False
            self.stats.add_reconciled(reconciled)
            self.stats.calendar_notes += _calendar_notes(change, completeness)
            commit = Commit(
                transaction=transaction,
                manifests=store.manifests,
                calendar=store.calendar,
                gap_policy=self._gap_policy(),
                gate=self.gate,
                split_adjusted=self.source.info.split_adjusted,
                provenance=self._provenance(batch),
            )
            attempt = self._attempt(reconciled, transaction, completeness)
            catalog = held.enter_context(publication(store))
            with one_behind(transaction.place_year) as place:
                prepared = commit.prepare(reconciled, completeness, attempt, change.left, place)
                self.stats.add_prepared(prepared)
                draft = commit.draft(prepared, self._record("committed", transaction.version))
                if publish and draft.manifest is not None and draft.manifest is not transaction.base:
                    catalog.begin(draft.manifest)
            committed = commit.save(draft)
            self.stats.add_committed(transaction.base, committed, prepared.completeness)
            save_progress(store.layout, RunProgress(store).after(committed, prepared.completeness, years))
            if committed is not None:
                catalog.finish(committed)
            self.manifest = committed
        self._rebuilt |= set(symbols_in(reconciled.batch.rows))
        return True

    def _reconcile(
        self, batch: Batch, manifest: SyncManifest | None, completeness: Completeness, left: pl.DataFrame
    ) -> Reconciled:
        """Hold a batch against a version; what is needed beside it to judge it is fetched in between."""
        reference = reference_of(
            self.context, self.source.info, manifest, completeness, left, is_increment=self.is_increment
        )
        judged = begin(batch, reference, set(symbols_in(batch.rows)) - self._rebuilt if self.rebuild else ())
        if requests := overlap_requests(judged):
            try:
                judged = with_overlap(judged, self._fetch(requests, _BESIDE))
            except HistoricalETLError as error:
                _log.warning("Stored sessions could not be fetched to compare with: %s", error)
        judged = compare_levels(judged)
        if requests := history_requests(judged):
            try:
                histories = self._fetch(requests, _BESIDE, without_history=judged.moved)
            except HistoricalETLError as error:
                judged = without_histories(judged, error.what)
            else:
                judged = with_histories(judged, histories, self._reach())
        return conclude(judged)

    def _require_usable(self, batch: Batch, manifest: SyncManifest | None, completeness: Completeness) -> None:
        """Refuse a batch that was asked for by other names, or that an outage of the source spoils."""
        self._require_names(self.state.names_of(manifest), batch)
        refuse_not_found(batch, completeness.symbols.get_column("symbol").to_list())
        if batch.asked:
            start, end = min(span[0] for span in batch.asked.values()), max(span[1] for span in batch.asked.values())
            refuse_outage(batch, completeness, start, end, self.context.settings.max_empty_share)

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

    def _reach(self) -> date | None:
        """The oldest day that the account's plan gives, which the run may find out as it goes on."""
        info = self.source.info
        return info.coverage.first if info.plan and info.coverage else None

    def _attempt(self, reconciled: Reconciled, transaction: Transaction, completeness: Completeness) -> FetchAttempt:
        today, spans = self.context.last_closed_session(), reconciled.batch.asked
        # The newest session is expected once any symbol has it: before that the source has not published it.
        newest = latest(reconciled.batch.rows.get_column("date"))
        expected = max(filter(None, (newest, self.context.calendar.back(today, 1))))
        until = max((end for _, end in spans.values()), default=expected)
        if (silent := self._silence(completeness, newest, min(expected, until))) is not None:
            expected = silent.trusted_through
        return fetch_attempt(
            reconciled,
            transaction,
            self.source.info,
            today=today,
            expected=expected,
            since=self._member_since(reconciled.batch.outcomes),
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
