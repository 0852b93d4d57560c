"""Reconcile: hold what was fetched against what is stored, symbol by symbol, before anything is merged.

A symbol's rows go on to the merge, or its whole history is fetched and replaces what is stored, or nothing of it is
stored and the reason is recorded. What makes a level suspicious is said in `quality.overlap`, `histories` and `jumps`.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from historical_etl.errors import HistoricalETLError
from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.adjustments import Adjustments
from historical_etl.etl.reconcile.earlier_holds import as_held, spans_one, still_held
from historical_etl.etl.reconcile.event_days import EventDays
from historical_etl.etl.reconcile.named_events import all_named, newly_named, splits
from historical_etl.etl.reconcile.price_basis import on_another_basis, refused_bases
from historical_etl.etl.reconcile.result import Base, Reconciled, Restatement
from historical_etl.etl.reconcile.stale_feed import FrozenFeed
from historical_etl.etl.reconcile.stored_context import StoredContext, first_after, lives_of
from historical_etl.etl.reconcile.stored_levels import StoredLevels
from historical_etl.etl.reconcile.waived_bars import without_waived
from historical_etl.etl.reconcile.whole_histories import (
    beyond_plan,
    contradicted,
    history_requests,
    lacks_sessions,
    lacks_values,
)
from historical_etl.models import Outcome
from historical_etl.quality.events import EVENTS
from historical_etl.quality.histories import judge_history
from historical_etl.quality.jumps import Jumps, jumps
from historical_etl.quality.overlap import compare_overlap, of_unknown_basis, single_bars
from historical_etl.quality.price_levels import LEVELS
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import ORDER, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import FetchRequest, SourceInfo
from historical_etl.store.layout import Layout

__all__ = ["Reconciler"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """Judges batches of one source.

    Attributes:
        layout: where the stored files lie.
        calendar: the exchange's sessions.
        info: the source.
        reach: tells the oldest day that the account's plan gives, as far as that is found out; None: all that there is.
        long_gap: sessions without a bar after which a price break is suspicious.
        overlap: how many stored sessions to compare with.
        frozen: looks for bars that repeat.
        fetch: fetches and judges; of the symbols that are named beside the requests, whole histories.
    """

    layout: Layout
    calendar: SessionCalendar
    info: SourceInfo
    reach: Callable[[], date | None]
    long_gap: int
    overlap: int
    frozen: FrozenFeed
    fetch: Callable[[Sequence[FetchRequest], Collection[str]], Batch]

    def reconcile(
        self, batch: Batch, base: Base, *, rebuild: Callable[[str], bool], refetch_on_corporate_action: bool = False
    ) -> Reconciled:
        """Hold a batch against a version of the store.

        Args:
            batch: what was fetched.
            base: the version.
            rebuild: whether the history of a symbol is to be replaced, whatever basis it was stored on.
            refetch_on_corporate_action: fetch the full history of a symbol for which the source names an event after
                its last stored session: the history may be restated, even where the overlap is equal.

        Raises:
            DataQualityError: every symbol was fetched on another price basis than it is stored on.
            ProviderUnavailableError: too many symbols repeat their last bar.
        """
        step = _Step(self, batch, base, rebuild)
        step.refuse_other_bases()
        step.fetch_overlap()
        step.resolve_events()
        step.compare(refetch_on_corporate_action=refetch_on_corporate_action)
        step.judge_histories()
        step.judge_events(is_increment=refetch_on_corporate_action)
        step.judge_jumps()
        step.judge_stale_bars()
        return step.result()


class _Step:
    """One batch on its way through the judgements."""

    def __init__(self, reconciler: Reconciler, batch: Batch, base: Base, rebuild: Callable[[str], bool]) -> None:
        self._reconciler = reconciler
        self._base = base
        self._symbols = base.completeness.symbols
        self._levels = StoredLevels(reconciler.layout, base.manifest, left=base.left)
        self._lives = lives_of(base)
        self._rebuilt = {symbol for symbol in symbols_in(batch.rows) if symbol in self._lives and rebuild(symbol)}
        self._waived = base.completeness.gaps.filter(~pl.col("symbol").is_in(list(self._rebuilt)))
        self._names = EventDays(base, reconciler.info.split_adjusted, self._levels.whole)
        self._batch = self._names.enter(without_waived(batch, self._waived))
        self._moved: set[str] = set()
        self._suspects: dict[str, Suspicion] = {
            symbol: Suspicion("refused", why) for symbol, why in batch.refused.items()
        }
        self._passed: dict[str, Suspicion] = {}
        self._restated: dict[str, Restatement] = {}
        self._overwritten: set[str] = set()
        self._dropped: list[pl.DataFrame] = []
        self._moves: tuple[str, ...] = ()
        self._notes: list[str] = []
        self._stale = pl.DataFrame()
        self._carried_holds: dict[str, list[Suspicion]] = {}
        self._whole: set[str] = set()
        self._held_back: dict[str, Suspicion] = {}
        self._beside: dict[str, list[Suspicion]] = {}
        self._held_bars = self._batch.rows.select(ORDER).clear()
        self._events = pl.DataFrame(schema=EVENTS)
        self._outdated = self._events.select(ORDER)
        self._see()

    def refuse_other_bases(self) -> None:
        """Refuse symbols that are stored on a basis that is not the one the source states."""
        info = self._reconciler.info
        if (strange := on_another_basis(self._symbols, info.adjustment)).height:
            fetched = set(symbols_in(self._seen)) - self._rebuilt
            self._suspects |= refused_bases(strange, fetched, self._lives, info)

    def fetch_overlap(self) -> None:
        """Fetch stored sessions of symbols without an overlap: what cannot be compared cannot be trusted."""
        spans: dict[tuple[date, date], list[str]] = {}
        for symbol in self._symbols_without_overlap():
            if (span := self._context.nearest_stored(symbol, self._reconciler.overlap)) is not None:
                spans.setdefault(span, []).append(symbol)
        if not spans:
            return
        requests = [FetchRequest(tuple(symbols), *span) for span, symbols in sorted(spans.items())]
        try:
            nearest = without_waived(self._reconciler.fetch(requests, ()), self._waived)
        except HistoricalETLError as error:
            _log.warning("Stored sessions could not be fetched to compare with: %s", error)
            return
        self._batch = self._batch.with_anchors(nearest.rows)
        self._see()

    def resolve_events(self) -> None:
        """Put each named split on the day that shows it, and keep events that are shown and named no more."""
        self._batch = self._names.resolve(self._batch, self._without_suspects(self._seen), self._stored)

    def compare(self, *, refetch_on_corporate_action: bool) -> None:
        """Find the symbols whose level is not the stored one."""
        seen = self._without_suspects(self._seen)
        found = compare_overlap(seen, self._stored)
        unknown = of_unknown_basis(seen, self._stored) - self._held_back_before()
        self._moved = self._rebuilt | found.moved | unknown
        for symbol, suspicion in found.suspects.items():
            self._suspect(symbol, suspicion)
        for symbol, bars in found.single.items():
            self._hold_single_bars(symbol, bars)
        if refetch_on_corporate_action:
            self._moved |= self._with_new_events() | self._never_named()
        self._moved |= self._base.look_again & set(symbols_in(self._batch.rows)) & set(self._lives)
        self._moved -= set(self._suspects)

    def judge_histories(self) -> None:
        """Fetch the whole history of symbols whose level moved, and judge it."""
        if not self._moved:
            return
        requests = history_requests(self._moved, self._batch, self._lives)
        try:
            full_histories = without_waived(self._reconciler.fetch(requests, self._moved), self._waived)
            histories = self._names.enter(full_histories)
        except HistoricalETLError as error:
            histories = self._batch.nothing(dict.fromkeys(self._moved, Outcome.ERROR), error.what)
        first = self._batch.rows.filter(pl.col("symbol").is_in(list(self._moved)))
        disagree = contradicted(first, histories.rows)
        fetched = [symbol for symbol in self._moved if histories.outcomes.get(symbol) is Outcome.OK]
        alone = first.filter(pl.col("symbol").is_in(fetched)).join(histories.rows, on=ORDER, how="anti")
        if (reach := self._reconciler.reach()) is not None and not histories.rows.is_empty():
            older, notes = beyond_plan(histories.rows, self._levels.rows, reach)
            histories, self._notes = histories.with_rows(older), [*self._notes, *notes]
        self._batch = self._batch.without(self._moved).joined(histories, self._moved).with_rows(alone)
        for symbol in sorted(self._moved):
            if symbol in disagree:
                self._suspect(symbol, disagree[symbol])
            elif symbol in histories.refused:
                self._suspects[symbol] = Suspicion("refused", histories.refused[symbol])
            elif histories.outcomes.get(symbol) is Outcome.OK:
                self._whole.add(symbol)
                self._judge_history(symbol, histories.rows.filter(pl.col("symbol") == symbol))
        self._see()
        self.resolve_events()

    def judge_events(self, *, is_increment: bool) -> None:
        """Hold named events, adj_close and prices against each other."""
        judge = self._adjustments(is_increment=is_increment)
        found = judge.findings()
        if found.contradicted and self._without_spikes(found.contradicted):
            judge = self._adjustments(is_increment=is_increment)
            found = judge.findings()
        self._suspect_not_shown()
        self._events, self._outdated = self._names.with_judged(found.events), found.outdated
        self._moves = (*found.warnings, *self._names.warnings())
        for symbol, decision in judge.decide(found).items():
            why = decision.suspicion
            if decision.kind == "hold":
                self._suspects[symbol] = why
                continue
            if decision.kind != "release":
                self._held_back[symbol] = why
            if decision.kind == "withdraw":
                stored = self._levels.rows(symbol).join(self._batch.rows, on=ORDER, how="anti")
                self._batch = self._batch.with_rows(stored)
            if decision.kind in ("withdraw", "release") and symbol not in self._restated:
                words = why.evidence if decision.kind == "release" else f"adj_close is held back: {why.evidence}"
                self._restated[symbol] = Restatement(symbol, None, None, words)
        if self._held_back:
            self._overwritten |= set(self._held_back)
            self._batch = self._batch.without_adj_close(self._held_back)
            self._see()

    def _suspect_not_shown(self) -> None:
        """Hold symbols with named splits that no price shows, each of them beside the first."""
        earlier = set(self._suspects)
        for split in (one for one in self._names.not_shown if one.symbol not in earlier):
            known = self._suspects.get(split.symbol)
            if self._suspect(split.symbol, split.why):
                self._names.accept(split)
            elif known is not None and known.code == split.why.code:
                self._suspects[split.symbol] = known
                self._beside.setdefault(split.symbol, []).append(split.why)

    def _adjustments(self, *, is_increment: bool) -> Adjustments:
        return Adjustments(
            base=self._base,
            seen=self._without_suspects(self._seen),
            stored=self._neighbours()[0],
            named=all_named(self._batch, self._base),
            stored_of=self._levels.whole,
            whole=self._whole,
            restated=self._restated.keys() - self._rebuilt,
            newly_named=newly_named(self._batch, self._base),
            is_increment=is_increment,
            calendar=self._reconciler.calendar,
            long_gap=self._reconciler.long_gap,
            let_pass=self._let_pass,
            split_adjusted=self._reconciler.info.split_adjusted,
            complete_until=self._reconciler.frozen.latest - timedelta(days=self._reconciler.info.events_late),
        )

    def _without_spikes(self, symbols: Collection[str]) -> bool:
        """Keep out single bars whose close alone is wrong: beside them every adj_close looks wrong."""
        mine = pl.col("symbol").is_in(list(symbols))
        by_close = pl.lit(None, pl.Float64).alias("adj_close")
        fetched, stored = (rows.filter(mine).with_columns(by_close) for rows in (self._seen, self._stored))
        runs = {s: [why for why in found if why.through] for s, found in self._jumps(fetched, stored).suspects.items()}
        for symbol in symbols:
            if runs.get(symbol):
                self._hold_bars(symbol, runs[symbol])
        if self._beside:
            self._see()
        return bool(self._beside)

    def judge_jumps(self) -> None:
        """Find moves that only an error or another security makes, in all that is left."""
        stored, after = self._neighbours()
        seen = (
            pl.concat([self._seen, after.join(self._seen, on=ORDER, how="anti")]).sort(ORDER)
            if after.height
            else self._seen
        )
        found = self._jumps(self._without_suspects(seen), stored, after.select(ORDER))
        self._moves += found.moves
        self._carried_holds = still_held(self._batch, self._base, self._suspects, self._context.is_stored)
        carried = {s: [hold for hold in holds if hold.through is None] for s, holds in self._carried_holds.items()}
        for symbol, reasons in found.suspects.items():
            news = [why for why in reasons if not spans_one(why, carried.get(symbol, ()))]
            mine = [as_held(why, self._base.held.get(symbol, ())) for why in news]
            of_all = [why for why in mine if why.through is None]
            if of_all:
                self._suspects[symbol], self._beside[symbol] = of_all[0], of_all[1:]
            elif mine:
                self._hold_bars(symbol, mine)
        self._suspects = {**{s: holds[0] for s, holds in carried.items() if holds}, **self._suspects}

    def _jumps(self, fetched: pl.DataFrame, stored: pl.DataFrame, again: pl.DataFrame | None = None) -> Jumps:
        return jumps(
            fetched,
            stored,
            self._reconciler.calendar,
            long_gap=self._reconciler.long_gap,
            splits=splits(self._batch, self._base),
            split_adjusted=self._reconciler.info.split_adjusted,
            accepted=self._let_pass,
            known_between=self._context.was_asked_between,
            again=again,
        )

    def _hold_bars(self, symbol: str, runs: Sequence[Suspicion]) -> None:
        """Leave out the bars of some runs; the rest of the symbol goes on."""
        inside = pl.any_horizontal(pl.col("date").is_between(run.session, run.through) for run in runs)
        bars = self._batch.seen().filter(pl.col("symbol") == symbol, inside).select(ORDER)
        self._batch = self._batch.without_bars(bars)
        self._held_bars = pl.concat([self._held_bars, bars])
        self._beside[symbol] = [*self._beside.get(symbol, ()), *runs]

    def _hold_single_bars(self, symbol: str, bars: Sequence[Suspicion]) -> list[Suspicion]:
        """Leave out bars that contradict single stored ones, but for those that a person let pass."""
        if odd := [why for why in bars if not self._let_pass(symbol, why)]:
            self._hold_bars(symbol, odd)
            self._see()
        return odd

    def judge_stale_bars(self) -> None:
        """Find symbols whose bar repeats from session to session."""
        found = self._reconciler.frozen.find(self._batch, self._base, self._suspects)
        for symbol, suspicion in found.suspects.items():
            self._suspect(symbol, suspicion)
        self._stale = found.stretches
        self._moves = (*self._moves, *found.warnings)

    def result(self) -> Reconciled:
        """What goes on, without the rows of suspects."""
        held = {s: why for s, why in self._suspects.items() if why.code != "refused"}
        outcomes = {s: Outcome.REFUSED if why.code == "other_basis" else Outcome.HELD for s, why in held.items()}
        batch = self._batch.without(held)
        dropped = [frame for frame in self._dropped if frame.item(0, "symbol") not in held]
        return Reconciled(
            batch=replace(batch, outcomes=batch.outcomes | outcomes),
            restated={s: r for s, r in self._restated.items() if s not in held},
            suspects=self._suspects,
            carried_holds=self._carried_holds,
            kept_from=self._kept_from(held),
            passed={s: p for s, p in self._passed.items() if s not in held},
            overwritten=self._overwritten - set(held),
            dropped=pl.concat([batch.rows.clear()[list(ORDER)], *dropped]),
            stale=_others(self._stale, held),
            warnings=(*self._notes, *self._moves),
            held_back={s: why for s, why in self._held_back.items() if s not in self._suspects},
            events=_others(self._events, self._suspects),
            outdated=_others(self._outdated, self._suspects),
            beside=self._beside,
            held_bars=self._held_bars,
            taken_out=self._names.taken_out,
        )

    def _kept_from(self, held: Collection[str]) -> dict[str, date]:
        """Where the rows of held symbols begin, if before all that is stored: no gap tells of those sessions."""
        if not held:
            return {}
        rows = self._batch.rows.filter(pl.col("symbol").is_in(list(held)))
        begins = rows.group_by("symbol").agg(pl.col("date").min()).iter_rows()
        return {symbol: day for symbol, day in begins if symbol not in self._lives or day < self._lives[symbol][0]}

    def _held_back_before(self) -> set[str]:
        """Symbols that are stored without `adj_close`, and whose history is not due to be looked at again."""
        known = [*self._base.held.items(), *self._base.accepted.items()]
        return {s for s, holds in known if any(hold.code == HELD_BACK for hold in holds)} - self._base.look_again

    def _judge_history(self, symbol: str, history: pl.DataFrame) -> None:
        rebuild = symbol in self._rebuilt
        stored = self._levels.whole(symbol)
        mine = {day: split for (name, day), split in splits(self._batch, self._base).items() if name == symbol}
        if odd := self._hold_single_bars(symbol, single_bars(history.select(LEVELS), stored)):
            history = history.filter(~pl.col("date").is_in([why.session for why in odd]))
            stored = stored.filter(~pl.col("date").is_in([why.session for why in odd]))
        verdict = judge_history(history.select(LEVELS), stored, mine)
        if verdict.kind == "corrected" and not rebuild:
            return
        lost = stored.join(history, on=("symbol", "date"), how="anti").select("symbol", "date")
        lacking = verdict.suspicion or lacks_values(history, self._levels)
        suspicion = lacks_sessions(lost) if rebuild else lacking
        if suspicion is not None and not self._let_pass(symbol, suspicion):
            self._suspects[symbol] = suspicion
            return
        evidence = verdict.evidence or (suspicion.evidence if suspicion else "rebuilt on request")
        if rebuild or suspicion is not None:
            self._overwritten.add(symbol)
        self._restated[symbol] = Restatement(symbol, verdict.ratio or _ratio(suspicion), verdict.close_ratio, evidence)
        if verdict.unexplained:
            self._notes.append(f"{symbol} is restated, and {verdict.unexplained}")
        if lost.height:
            self._dropped.append(lost)

    def _suspect(self, symbol: str, suspicion: Suspicion) -> bool:
        """Hold a symbol, or say that a person let it pass."""
        if passes := self._let_pass(symbol, suspicion):
            return passes
        self._suspects[symbol] = suspicion
        return False

    def _let_pass(self, symbol: str, suspicion: Suspicion) -> bool:
        if any(suspicion.same_as(accepted) for accepted in self._base.accepted.get(symbol, ())):
            self._passed[symbol] = suspicion
            return True
        return False

    def _without_suspects(self, rows: pl.DataFrame) -> pl.DataFrame:
        return _others(rows, self._suspects)

    def _with_new_events(self) -> set[str]:
        """Symbols for which the source names an event that it did not name before: of any day that it was asked for."""
        new = newly_named(self._batch, self._base)
        if new.is_empty():
            return set()
        events = new.join(self._symbols, on="symbol").filter(pl.col("date") > pl.col("first_session"))
        return set(events.get_column("symbol")) & set(self._batch.rows.get_column("symbol").unique())

    def _never_named(self) -> set[str]:
        """Symbols stored while the source named no events, as its plan gave none, and named them now."""
        able = self._reconciler.info.capabilities
        if self._batch.actions is None or able is None or not able.actions:
            return set()
        lacking = set(self._symbols.filter(~pl.col("names_events")).get_column("symbol"))
        lacking &= set(symbols_in(self._batch.rows))
        if lacking:
            name = self._reconciler.info.name
            note = f"{name} names splits and dividends now: {len(lacking)} stored symbol(s) are asked for whole"
            _log.info("%s", note)
            self._notes.append(note)
        return lacking

    @property
    def _context(self) -> StoredContext:
        """What is stored around the batch as it is now."""
        return StoredContext(self._base, self._levels, self._lives, self._reconciler.calendar, self._batch.requested)

    def _see(self) -> None:
        """Everything of the batch that is judged, and the stored rows on its dates."""
        self._seen = self._batch.seen()
        self._stored = self._context.on_dates_of(self._seen)
        self._beside_seen: tuple[pl.DataFrame, pl.DataFrame] | None = None

    def _neighbours(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The stored rows on the dates of what is judged and next to it, and those of them that follow on silences."""
        if self._beside_seen is None:
            silences = self._context.silences()
            stored = self._context.beside(self._seen, self._stored, silences)
            self._beside_seen = stored, first_after(silences, stored)
        return self._beside_seen

    def _symbols_without_overlap(self) -> list[str]:
        """Stored symbols that were fetched without any stored session."""
        fetched = set(symbols_in(self._batch.rows)) & set(self._lives) - set(self._suspects)
        return sorted(fetched - set(self._stored.get_column("symbol").unique())) if fetched else []


def _others(rows: pl.DataFrame, symbols: Collection[str]) -> pl.DataFrame:
    """The rows of all other symbols."""
    return rows.filter(~pl.col("symbol").is_in(list(symbols))) if symbols and rows.height else rows


def _ratio(suspicion: Suspicion | None) -> float | None:
    return suspicion.ratio if suspicion else None
