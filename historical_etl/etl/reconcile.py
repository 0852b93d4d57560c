"""Reconcile: hold what came against what is stored, symbol by symbol, before anything is merged.

A symbol's rows go on to the merge, or its whole history is fetched and replaces what is stored, or nothing of it is
stored and the reason is recorded. What makes a level suspicious is said in `quality.overlap`, `histories` and `jumps`.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError, HistoricalETLError
from historical_etl.etl.actions import outside
from historical_etl.etl.adjustments import Adjustments
from historical_etl.etl.batch import Batch
from historical_etl.etl.frozen import FrozenFeed
from historical_etl.etl.reconciled import Base, Reconciled, Restatement
from historical_etl.etl.stored_levels import StoredLevels
from historical_etl.models import UNSTATED, Outcome
from historical_etl.quality.events import EVENTS
from historical_etl.quality.histories import judge_history
from historical_etl.quality.jumps import Jumps, jumps
from historical_etl.quality.levels import LEVELS, TOLERANCE
from historical_etl.quality.overlap import compare, of_unknown_basis
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import ORDER, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import ACTIONS, FetchRequest, SourceInfo
from historical_etl.store.layout import Layout

__all__ = ["NO_BASIS", "Reconciler"]

_log = logging.getLogger(__name__)
_DAY: Final = timedelta(days=1)
#: Dates of a symbol, both included.
_SPAN: Final = {"symbol": pl.String, "low": pl.Date, "high": pl.Date}
#: A basis that fits any.
NO_BASIS: Final = frozenset({"", UNSTATED})


@dataclass(frozen=True)
class Reconciler:
    """Judges batches of one source.

    Attributes:
        layout: where the stored files lie.
        calendar: the exchange's sessions.
        info: the source.
        long_gap: sessions without a bar after which a price break is suspicious.
        overlap: how many stored sessions to compare with.
        frozen: looks for bars that repeat.
        fetch: fetches and judges; of the symbols that are named beside the requests, whole histories.
    """

    layout: Layout
    calendar: SessionCalendar
    info: SourceInfo
    long_gap: int
    overlap: int
    frozen: FrozenFeed
    fetch: Callable[[Sequence[FetchRequest], Collection[str]], Batch]

    def reconcile(
        self, batch: Batch, base: Base, *, rebuild: Callable[[str], bool], heed_events: bool = False
    ) -> Reconciled:
        """Hold a batch against a version of the store.

        Args:
            batch: what came.
            base: the version.
            rebuild: whether the history of a symbol is to be replaced, whatever basis it was stored on.
            heed_events: an event that the source names after a symbol's last stored session means that its history
                may be restated, however equal the overlap looks.

        Raises:
            DataQualityError: every symbol came on another price basis than it is stored on.
            ProviderUnavailableError: too many symbols repeat their last bar.
        """
        step = _Step(self, batch, base, rebuild)
        step.refuse_other_bases()
        step.meet()
        step.compare(heed_events=heed_events)
        step.judge_histories()
        step.judge_events(is_increment=heed_events)
        step.judge_jumps()
        step.judge_standstill()
        return step.result()


class _Step:
    """One batch on its way through the judgements."""

    def __init__(self, reconciler: Reconciler, batch: Batch, base: Base, rebuild: Callable[[str], bool]) -> None:
        self._reconciler = reconciler
        self._batch = batch
        self._base = base
        self._symbols = base.account.symbols
        self._levels = StoredLevels(reconciler.layout, base.manifest, left=base.left)
        self._lives = {
            symbol: (first, last)
            for symbol, first, last in self._symbols.select("symbol", "first_session", "last_session").iter_rows()
        }
        self._rebuilt = {symbol for symbol in symbols_in(batch.rows) if symbol in self._lives and rebuild(symbol)}
        self._moved: set[str] = set()
        self._suspects: dict[str, Suspicion] = {
            symbol: Suspicion("refused", why) for symbol, why in batch.refused.items()
        }
        self._passed: dict[str, Suspicion] = {}
        self._restated: dict[str, Restatement] = {}
        self._as_came: set[str] = set()
        self._dropped: list[pl.DataFrame] = []
        self._moves: tuple[str, ...] = ()
        self._told: list[str] = []
        self._stale = pl.DataFrame()
        self._standing: dict[str, list[Suspicion]] = {}
        self._whole: set[str] = set()
        self._held_back: dict[str, Suspicion] = {}
        self._beside: dict[str, list[Suspicion]] = {}
        self._kept_out = self._batch.rows.select(ORDER).clear()
        self._events = pl.DataFrame(schema=EVENTS)
        self._see()

    def refuse_other_bases(self) -> None:
        """Refuse symbols that are stored on a basis that is not the one the source states."""
        now = self._reconciler.info.adjustment
        if now in NO_BASIS:
            return
        strange = self._symbols.filter(~pl.col("adjustment").is_in([now, *NO_BASIS]))
        if strange.is_empty():
            return
        came = set(symbols_in(self._seen)) - self._rebuilt
        other = strange.filter(pl.col("symbol").is_in(list(came))).select("symbol", "adjustment", "provider")
        for symbol, stored_on, provider in other.iter_rows():
            why = f"it is stored from {provider!r} with {stored_on!r}; {self._reconciler.info.name!r} gives {now!r}"
            self._suspects[symbol] = Suspicion("other_basis", why)
        if other.height and other.height == len(came):
            raise DataQualityError(
                f"Every symbol came on another price basis than the one it is stored on: {other.item(0, 0)}: "
                f"{self._suspects[other.item(0, 0)].evidence}. Nothing was stored",
                where=self._reconciler.info.name,
                todo="use the source that the store was filled from, another data folder, or rebuild the symbols: "
                f"`historical-etl backfill --rebuild --from {self._first_year(other)}`",
            )

    def _first_year(self, symbols: pl.DataFrame) -> int:
        """Of the stored histories of some symbols the first year: a rebuild that begins later would lose bars."""
        return min(self._lives[symbol][0].year for symbol in symbols.get_column("symbol"))

    def meet(self) -> None:
        """Fetch some stored sessions of symbols that came without any: what cannot be compared cannot be trusted."""
        spans: dict[tuple[date, date], list[str]] = {}
        for symbol in self._unmet():
            if (span := self._nearest_stored(symbol)) is not None:
                spans.setdefault(span, []).append(symbol)
        if not spans:
            return
        requests = [FetchRequest(tuple(symbols), *span) for span, symbols in sorted(spans.items())]
        try:
            nearest = self._reconciler.fetch(requests, ())
        except HistoricalETLError as error:
            _log.warning("Stored sessions could not be fetched to compare with: %s", error)
            return
        self._batch = self._batch.with_anchors(nearest.rows)
        self._see()

    def compare(self, *, heed_events: bool) -> None:
        """Find the symbols whose level is not the stored one."""
        seen = self._without_suspects(self._seen)
        found = compare(seen, self._stored)
        unknown = of_unknown_basis(seen, self._stored) - self._held_back_before()
        self._moved = self._rebuilt | found.moved | unknown
        for symbol, suspicion in found.suspects.items():
            self._suspect(symbol, suspicion)
        if heed_events:
            self._moved |= self._with_new_events()
        self._moved |= self._base.look_again & set(symbols_in(self._batch.rows)) & set(self._lives)
        self._moved -= set(self._suspects)

    def judge_histories(self) -> None:
        """Fetch the whole history of symbols whose level moved, and judge it."""
        if not self._moved:
            return
        requests = self._history_requests()
        try:
            histories = self._reconciler.fetch(requests, self._moved)
        except HistoricalETLError as error:
            histories = self._batch.nothing(dict.fromkeys(self._moved, Outcome.ERROR), error.what)
        first = self._batch.rows.filter(pl.col("symbol").is_in(list(self._moved)))
        contradicted = self._contradicted(first, histories.rows)
        came = [symbol for symbol in self._moved if histories.outcomes.get(symbol) is Outcome.OK]
        alone = first.filter(pl.col("symbol").is_in(came)).join(histories.rows, on=ORDER, how="anti")
        self._batch = self._batch.without(self._moved).joined(histories, self._moved).with_rows(alone)
        for symbol in sorted(self._moved):
            if symbol in contradicted:
                self._suspect(symbol, contradicted[symbol])
            elif symbol in histories.refused:
                self._suspects[symbol] = Suspicion("refused", histories.refused[symbol])
            elif histories.outcomes.get(symbol) is Outcome.OK:
                self._whole.add(symbol)
                self._judge_history(symbol, histories.rows.filter(pl.col("symbol") == symbol))
        self._see()

    def judge_events(self, *, is_increment: bool) -> None:
        """Hold named events, adj_close and prices against each other."""
        judge = self._adjustments(is_increment=is_increment)
        found = judge.findings()
        if found.contradicted and self._without_spikes(found.contradicted):
            judge = self._adjustments(is_increment=is_increment)
            found = judge.findings()
        self._events, self._moves = found.events, found.warnings
        for symbol, decision in judge.decide(found).items():
            why = decision.suspicion
            if decision.kind == "hold":
                self._suspects[symbol] = why
                continue
            if decision.kind != "release":
                self._held_back[symbol] = why
            if decision.kind == "withdraw":
                kept = self._levels.rows(symbol).join(self._batch.rows, on=ORDER, how="anti")
                self._batch = self._batch.with_rows(kept)
            if decision.kind in ("withdraw", "release") and symbol not in self._restated:
                words = why.evidence if decision.kind == "release" else f"adj_close is held back: {why.evidence}"
                self._restated[symbol] = Restatement(symbol, None, None, words)
        if self._held_back:
            self._as_came |= set(self._held_back)
            self._batch = self._batch.without_adj_close(self._held_back)
            self._see()

    def _adjustments(self, *, is_increment: bool) -> Adjustments:
        return Adjustments(
            base=self._base,
            seen=self._without_suspects(self._seen),
            stored=self._stored,
            named=self._named(),
            stored_of=self._levels.whole,
            whole=self._whole,
            restated=self._restated.keys() - self._rebuilt,
            newly_named=self._newly_named(),
            is_increment=is_increment,
            calendar=self._reconciler.calendar,
            long_gap=self._reconciler.long_gap,
            let_pass=self._let_pass,
        )

    def _without_spikes(self, symbols: Collection[str]) -> bool:
        """Keep out single bars whose close alone is wrong: beside them every adj_close looks wrong."""
        mine = pl.col("symbol").is_in(list(symbols))
        by_close = pl.lit(None, pl.Float64).alias("adj_close")
        came, stored = (rows.filter(mine).with_columns(by_close) for rows in (self._seen, self._stored))
        runs = {s: [why for why in found if why.through] for s, found in self._jumps(came, stored).suspects.items()}
        for symbol in symbols:
            if runs.get(symbol):
                self._keep_out(symbol, runs[symbol])
        if self._beside:
            self._see()
        return bool(self._beside)

    def judge_jumps(self) -> None:
        """Find moves that only an error or another security makes, in all that is left."""
        silences = self._silences()
        stored = self._stored_beside(silences)
        after = _first_after(silences, stored)
        seen = (
            pl.concat([self._seen, after.join(self._seen, on=ORDER, how="anti")]).sort(ORDER)
            if after.height
            else self._seen
        )
        found = self._jumps(self._without_suspects(seen), stored, after.select(ORDER))
        self._moves += found.moves
        self._standing = self._still_held()
        standing = {s: [hold for hold in holds if hold.through is None] for s, holds in self._standing.items()}
        for symbol, reasons in found.suspects.items():
            mine = [self._as_held(symbol, why) for why in reasons if not _spans_one(why, standing.get(symbol, ()))]
            of_all = [why for why in mine if why.through is None]
            if of_all:
                self._suspects[symbol], self._beside[symbol] = of_all[0], of_all[1:]
            elif mine:
                self._keep_out(symbol, mine)
        self._suspects = {**{s: holds[0] for s, holds in standing.items() if holds}, **self._suspects}

    def _jumps(self, came: pl.DataFrame, stored: pl.DataFrame, again: pl.DataFrame | None = None) -> Jumps:
        return jumps(
            came,
            stored,
            self._reconciler.calendar,
            long_gap=self._reconciler.long_gap,
            splits=self._splits(),
            split_adjusted=self._reconciler.info.split_adjusted,
            accepted=self._let_pass,
            known_between=self._was_asked_between,
            again=again,
        )

    def _as_held(self, symbol: str, suspicion: Suspicion) -> Suspicion:
        """A jump into bars that are kept out already, as it was told when the bars behind them were in view."""
        known = [hold for hold in self._base.held.get(symbol, ()) if hold.through and hold.same_as(suspicion)]
        return known[0] if known and suspicion.through is None else suspicion

    def _keep_out(self, symbol: str, runs: Sequence[Suspicion]) -> None:
        """Leave out the bars of some runs; the rest of the symbol goes on."""
        inside = pl.any_horizontal(pl.col("date").is_between(run.session, run.through) for run in runs)
        bars = self._batch.seen().filter(pl.col("symbol") == symbol, inside).select(ORDER)
        self._batch = self._batch.without_bars(bars)
        self._kept_out = pl.concat([self._kept_out, bars])
        self._beside[symbol] = [*self._beside.get(symbol, ()), *runs]

    def judge_standstill(self) -> None:
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
            standing=self._standing,
            kept_from=self._kept_from(held),
            passed={s: p for s, p in self._passed.items() if s not in held},
            as_came=self._as_came - set(held),
            dropped=pl.concat([batch.rows.clear()[list(ORDER)], *dropped]),
            stale=_others(self._stale, held),
            warnings=(*self._told, *self._moves),
            held_back={s: why for s, why in self._held_back.items() if s not in self._suspects},
            events=_others(self._events, self._suspects),
            beside=self._beside,
            kept_out=self._kept_out,
        )

    def _still_held(self) -> dict[str, list[Suspicion]]:
        """Holds of symbols that came without the bars that they are about, or whose bars were judged no further."""
        came = {*symbols_in(self._batch.rows), *self._suspects} & set(self._base.held)
        found = {symbol: self._not_seen_again(symbol) for symbol in came}
        return {symbol: standing for symbol, standing in sorted(found.items()) if standing}

    def _not_seen_again(self, symbol: str) -> list[Suspicion]:
        start, end = self._batch.requested[symbol]
        judged = symbol not in self._suspects

        standing: list[Suspicion] = []
        for suspicion in self._base.held[symbol]:
            day, against = suspicion.session, suspicion.against
            if day is None or suspicion.code == HELD_BACK:  # of the latter the rows are stored
                continue
            if not judged and self._suspects[symbol].same_as(suspicion):  # it was seen again
                continue
            if suspicion.through is not None:
                standing += [] if judged and start <= day and suspicion.through <= end else [suspicion]
                continue
            if day == against:  # a stored session that came with another price
                stands = not start <= day <= end
            else:
                both = [day] if against is None else [day, against]
                stands = not judged or not all(start <= day <= end or self._is_stored(symbol, day) for day in both)
            standing += [suspicion] if stands else []
        return standing

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

    def _is_stored(self, symbol: str, day: date) -> bool:
        if symbol not in self._lives:
            return False
        first, last = self._lives[symbol]
        here = (pl.col("symbol") == symbol) & (pl.col("first_session") <= day) & (pl.col("last_session") >= day)
        return first <= day <= last and self._base.account.gaps.filter(here).is_empty()

    def _judge_history(self, symbol: str, history: pl.DataFrame) -> None:
        rebuild = symbol in self._rebuilt
        stored = self._levels.whole(symbol)
        splits = {day: split for (name, day), split in self._splits().items() if name == symbol}
        verdict = judge_history(history.select(LEVELS), stored, splits)
        if verdict.kind == "corrected" and not rebuild:
            return
        lost = stored.join(history, on=("symbol", "date"), how="anti").select("symbol", "date")
        suspicion = verdict.suspicion or self._lacks_values(history)
        if rebuild:
            suspicion = Suspicion("incomplete_history", _lacks(lost), None, None) if lost.height else None
        if suspicion is not None and not self._let_pass(symbol, suspicion):
            self._suspects[symbol] = suspicion
            return
        evidence = verdict.evidence or (suspicion.evidence if suspicion else "rebuilt on request")
        if rebuild or suspicion is not None:
            self._as_came.add(symbol)
        self._restated[symbol] = Restatement(symbol, verdict.ratio or _ratio(suspicion), verdict.close_ratio, evidence)
        if verdict.unexplained:
            self._told.append(f"{symbol} is restated, and {verdict.unexplained}")
        if lost.height:
            self._dropped.append(lost)

    def _lacks_values(self, history: pl.DataFrame) -> Suspicion | None:
        """Of a restated history: stored values other than `adj_close` that it lacks, on bars with another close."""
        names = [n for n in ("open", "high", "low", "volume") if history.get_column(n).null_count()]
        if not names:
            return None
        stored = self._levels.whole(history.item(0, "symbol"), ("symbol", "date", "close", *names))
        both = history.join(stored, on=ORDER, suffix="_0").filter(
            (pl.col("close") / pl.col("close_0") - 1).abs() > TOLERANCE
        )
        lost = {n: both.filter(pl.col(n).is_null() & pl.col(f"{n}_0").is_not_null()).height for n in names}
        words = ", ".join(f"{name} on {count} session(s)" for name, count in lost.items() if count)
        return Suspicion("incomplete_history", f"but stored values did not come: {words}") if words else None

    def _contradicted(self, first: pl.DataFrame, history: pl.DataFrame) -> dict[str, Suspicion]:
        """Symbols of which two answers of one run disagree: one of them is from a cache, and nobody knows which."""
        found = compare(first.select(LEVELS), history.select(LEVELS))
        words = "its history contradicts the sessions that came first in the same run"
        return {symbol: Suspicion("other_history", words) for symbol in {*found.moved, *found.suspects}}

    def _suspect(self, symbol: str, suspicion: Suspicion) -> None:
        if not self._let_pass(symbol, suspicion):
            self._suspects[symbol] = suspicion

    def _let_pass(self, symbol: str, suspicion: Suspicion) -> bool:
        if any(suspicion.same_as(accepted) for accepted in self._base.accepted.get(symbol, ())):
            self._passed[symbol] = suspicion
            return True
        return False

    def _without_suspects(self, rows: pl.DataFrame) -> pl.DataFrame:
        return _others(rows, self._suspects)

    def _with_new_events(self) -> set[str]:
        """Symbols for which the source names an event that it did not name before: of any day that it was asked for."""
        new = self._newly_named()
        if new.is_empty():
            return set()
        events = new.join(self._symbols, on="symbol").filter(pl.col("date") > pl.col("first_session"))
        return set(events.get_column("symbol")) & set(self._batch.rows.get_column("symbol").unique())

    def _newly_named(self) -> pl.DataFrame:
        """The events, columns symbol and date, that nothing was known of."""
        if self._batch.actions is None:
            return self._batch.rows.clear()[list(ORDER)]
        named = self._batch.actions.select(ORDER)
        return named if self._base.actions is None else named.join(self._base.actions, on=ORDER, how="anti")

    def _named(self) -> pl.DataFrame | None:
        """The events that the source names, those of earlier runs included; None if it names none."""
        if self._batch.actions is None:
            return None
        named = self._batch.actions.select(list(ACTIONS))
        if self._base.actions is None or named.is_empty():
            return named
        # What was judged otherwise than it was named is told there: the name itself is in the new answer, if anywhere.
        before = self._base.actions.filter(~pl.col("inferred"), pl.col("note").is_null()).select(list(ACTIONS))
        # Where the source was asked, it has taken back what it does not name again.
        spans = [(symbol, *span) for symbol, span in self._batch.requested.items()]
        schema = {"symbol": pl.String, "low": pl.Date, "high": pl.Date}
        known = outside(before, pl.DataFrame(spans, schema=schema, orient="row"))
        return pl.concat([named, known.join(named, on=ORDER, how="anti")])

    def _splits(self) -> dict[tuple[str, date], float]:
        known = [frame for frame in (self._base.actions, self._batch.actions) if frame is not None]
        columns = ["symbol", "date", "split"]
        return {
            (symbol, day): split
            for frame in known
            for symbol, day, split in frame[columns].filter(pl.col("split") != 1).iter_rows()
        }

    def _history_requests(self) -> list[FetchRequest]:
        """One request for each group of symbols that have the same life: to the end of what was asked for.

        What happened there is in the prices, also where no bar of it has come.
        """
        ends = dict(self._batch.rows.group_by("symbol").agg(pl.col("date").max()).iter_rows())
        starts = dict(self._batch.rows.group_by("symbol").agg(pl.col("date").min()).iter_rows())
        groups: dict[tuple[date, date], list[str]] = {}
        for symbol in sorted(self._moved):
            first, last = self._lives[symbol]
            last = max(last, ends.get(symbol, last), self._batch.requested[symbol][1])
            span = min(first, starts.get(symbol, first)), last
            groups.setdefault(span, []).append(symbol)
        return [FetchRequest(tuple(symbols), *span) for span, symbols in sorted(groups.items())]

    def _see(self) -> None:
        """Everything of the batch that is judged, and the stored rows on its dates."""
        self._seen = self._batch.seen()
        self._stored = self._stored_around()

    def _unmet(self) -> list[str]:
        """Stored symbols that came without any stored session."""
        came = set(symbols_in(self._batch.rows)) & set(self._lives) - set(self._suspects)
        return sorted(came - set(self._stored.get_column("symbol").unique())) if came else []

    def _nearest_stored(self, symbol: str) -> tuple[date, date] | None:
        """The nearest stored sessions that were not asked for; None if what was asked for holds stored ones."""
        first, last = self._lives[symbol]
        start, end = self._batch.requested[symbol]
        calendar, count = self._reconciler.calendar, self._reconciler.overlap
        if last < start:
            return calendar.back(last, count - 1), last
        if first > end:
            return first, min(calendar.back(first, 1 - count), last)
        holes = self._base.account.gaps.filter(
            pl.col("symbol") == symbol, pl.col("first_session") <= start, pl.col("last_session") >= start
        )
        if holes.is_empty():
            return None
        hole: date = holes.item(0, "first_session")
        return max(calendar.back(hole, count), first), calendar.back(hole, 1)

    def _was_asked_between(self, symbol: str, before: date, after: date) -> bool:
        """Whether the source was asked for all sessions between two dates, now or earlier."""
        between = self._reconciler.calendar.between(before + _DAY, after - _DAY)
        start, end = self._batch.requested[symbol]
        earlier = between.filter((between < start) | (between > end))
        if earlier.is_empty():
            return True
        if symbol not in self._lives:
            return False
        mine = self._symbols.filter(pl.col("symbol") == symbol)
        since = mine.item(0, "asked_from") or self._lives[symbol][0]
        unasked = self._base.account.gaps.filter(pl.col("symbol") == symbol, pl.col("asked").is_null())
        low, high = (
            pl.max_horizontal("first_session", pl.lit(between[0])),
            pl.min_horizontal("last_session", pl.lit(between[-1])),
        )
        never_asked = unasked.filter(low <= high, (low < start) | (high > end))
        return since <= earlier[0] and earlier[-1] <= mine.item(0, "asked_through") and never_asked.is_empty()

    # ── what is stored ─────────────────────────────────────────────────────────────────────────────────────────────

    def _stored_around(self) -> pl.DataFrame:
        """The stored rows on the dates that came, of the symbols that came; only files of those years are read."""
        seen = self._seen.filter(pl.col("symbol").is_in(list(self._lives))) if self._lives else self._seen.clear()
        spans = seen.group_by(pl.col("date").dt.year().alias("year")).agg(
            pl.col("date").min().alias("low"), pl.col("date").max().alias("high"), pl.col("symbol").unique()
        )
        return self._levels.read({year: (low, high, symbols) for year, low, high, symbols in spans.iter_rows()})

    def _silences(self) -> pl.DataFrame:
        """Sessions between stored ones that the source was asked for the first time: columns symbol, low and high."""
        gaps = self._base.account.gaps
        unasked = gaps.filter(pl.col("asked").is_null()) if gaps.get_column("asked").null_count() else gaps.clear()
        spans = [(symbol, *span) for symbol, span in self._batch.requested.items()] if unasked.height else []
        return (
            (
                unasked.lazy()
                .join(pl.LazyFrame(spans, _SPAN, orient="row"), on="symbol")
                .filter(pl.col("first_session") <= pl.col("high"), pl.col("last_session") >= pl.col("low"))
                .group_by("symbol")
                .agg(pl.col("first_session").min().alias("low"), pl.col("last_session").max().alias("high"))
                .collect()
            )
            if spans
            else pl.DataFrame(schema=_SPAN)
        )

    def _stored_beside(self, silences: pl.DataFrame) -> pl.DataFrame:
        """The stored rows on the dates that came, and those next to them and to silences, where nothing stored came."""
        if not self._lives:
            return self._stored
        low, high = pl.col("date").min().alias("low"), pl.col("date").max().alias("high")
        met = self._stored.lazy().group_by("symbol").agg(low.alias("low_0"), high.alias("high_0"))
        lives = self._symbols.lazy().select("symbol", "first_session", "last_session")
        begins = (pl.col("first_session") < pl.col("low")) & ~(pl.col("low_0") <= pl.col("low")).fill_null(value=False)
        ends = (pl.col("last_session") > pl.col("high")) & ~(pl.col("high_0") >= pl.col("high")).fill_null(value=False)
        seen = self._seen.lazy().group_by("symbol").agg(low, high).join(lives, on="symbol")
        edges = seen.join(met, on="symbol", how="left").filter(begins | ends).select(list(_SPAN)).collect()
        if edges.is_empty() and silences.is_empty():
            return self._stored
        spans = pl.concat([edges, silences]).group_by("symbol").agg(pl.col("low").min(), pl.col("high").max())
        return pl.concat([self._stored, self._levels.beside(spans)]).unique(ORDER).sort(ORDER)


def _first_after(silences: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The stored rows that follow on silences."""
    if silences.is_empty():
        return stored.clear()
    after = stored.join(silences, on="symbol").filter(pl.col("date") > pl.col("high"))
    return stored.join(after.group_by("symbol").agg(pl.col("date").min()), on=ORDER, how="semi")


def _others(rows: pl.DataFrame, symbols: Collection[str]) -> pl.DataFrame:
    """The rows of all other symbols."""
    return rows.filter(~pl.col("symbol").is_in(list(symbols))) if symbols and rows.height else rows


def _spans_one(suspicion: Suspicion, standing: Sequence[Suspicion]) -> bool:
    """Whether a jump leads over bars that are kept out under a hold that stands: it is no jump of its own."""
    low, high = suspicion.against, suspicion.session
    if low is None or high is None:
        return False
    return any(
        day is not None and min(low, high) <= day <= max(low, high)
        for hold in standing
        if hold.against != hold.session
        for day in (hold.session, hold.against)
    )


def _lacks(lost: pl.DataFrame) -> str:
    days = lost.get_column("date").sort()
    return f"{len(days)} stored session(s) did not come, {days[0]} to {days[-1]}" if len(days) else ""


def _ratio(suspicion: Suspicion | None) -> float | None:
    return suspicion.ratio if suspicion else None
