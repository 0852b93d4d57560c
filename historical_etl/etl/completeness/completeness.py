"""Completeness: for each symbol which sessions are stored, and what is known of the missing ones.

Two tables tell everything. `symbols` has the first and last stored session of each symbol, its cursor, and whether it
still trades. `gaps` has the missing sessions between the first bar and the last session that was asked for, as ranges.
So what a commit adds to an account follows from the rows of that commit alone; no other data is read.

Inside this module a session is its position in the calendar.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import polars as pl

from historical_etl.etl.completeness.attempt import FetchAttempt, GapPolicy
from historical_etl.etl.completeness.gap_ranges import (
    as_ranges,
    days_between,
    days_of,
    exploded,
    in_order,
    of_symbols,
    positions_of,
)
from historical_etl.models import Outcome
from historical_etl.schema import spans_in
from historical_etl.sessions import SessionCalendar
from historical_etl.store.ledger_schemas import SCHEMAS, empty_ledger

__all__ = [
    "BAR_HELD",
    "CONFIRMED",
    "ENDED",
    "GAP_OPEN",
    "LIVE",
    "WAIVED",
    "Completeness",
    "Traded",
    "update_completeness",
]

GAP_OPEN, CONFIRMED, WAIVED, ENDED, FILLED, LIVE = "open", "confirmed", "waived", "ended", "filled", "live"
#: Why a session is missing whose bar was fetched, and is held. Waived, such a bar is never stored.
BAR_HELD: Final = "the rows are held"
#: The source answered, so that what is missing was really asked for.
_ANSWERS: Final = (Outcome.OK.value, Outcome.EMPTY.value, Outcome.NOT_FOUND.value)
_WHY: Final = {
    Outcome.OK.value: "the source has no bar",
    Outcome.EMPTY.value: "the source has no bar",
    Outcome.NOT_FOUND.value: "the source does not know the symbol",
    Outcome.NOT_COVERED.value: "the source does not give it to this account",
    Outcome.NOT_PUBLISHED.value: "the source has not published it yet",
    Outcome.RATE_LIMITED.value: "the source asked to slow down",
    Outcome.ERROR.value: "the source failed",
    Outcome.REFUSED.value: "the rows were refused",
    Outcome.HELD.value: BAR_HELD,
}
_DECISION: Final = ("reason", "by", "decided_version", "decided_at")
_NOT_ASKED: Final = "not asked for yet"
#: Of a symbol, what a commit takes over from the one before.
_KNOWN: Final = (
    *("symbol", "first_session", "last_session", "asked_through", "asked_from", "outcome"),
    *("adjustment", "provider", "adjusted_through", "names_events", "split_adjusted"),
)

#: Of some sessions, those on which any symbol has a bar.
Traded = Callable[[pl.Series], pl.Series]


@dataclass(frozen=True)
class Completeness:
    """The state after a commit: the ledgers `symbols` and `open_gaps`."""

    symbols: pl.DataFrame
    gaps: pl.DataFrame

    @classmethod
    def empty(cls) -> "Completeness":
        """Of a store without rows."""
        return cls(empty_ledger("symbols"), empty_ledger("open_gaps"))

    def cursors(self) -> dict[str, date]:
        """Each symbol's last contiguous session."""
        return dict(self.symbols[["symbol", "contiguous_through"]].iter_rows())

    def ended(self) -> set[str]:
        """Symbols that count as ended."""
        return set(self.symbols.get_column("symbol").filter(self.symbols.get_column("status") == ENDED))

    def missing(self) -> int:
        """The number of sessions in open gaps."""
        return self._sessions_of(GAP_OPEN)

    def waived(self) -> int:
        """The number of sessions in waived gaps."""
        return self._sessions_of(WAIVED)

    def _sessions_of(self, status: str) -> int:
        return int(self.gaps.get_column("sessions").filter(self.gaps.get_column("status") == status).sum())

    def carrying_over(self, gaps: pl.DataFrame, symbols: pl.DataFrame, calendar: SessionCalendar) -> "Completeness":
        """This account, with what an older one knew of the sessions that are still missing, and of the symbols."""
        now = exploded(self.gaps, calendar).select("symbol", "position", "date")
        old = exploded(gaps, calendar)
        inside = now.join(old, on=("symbol", "position"), how="left", suffix="_0")
        new = pl.col("status").is_null()
        days = inside.with_columns(
            pl.when(new).then(pl.lit(GAP_OPEN)).otherwise("status").alias("status"),
            pl.when(new).then(pl.lit(_NOT_ASKED)).otherwise("why").alias("why"),
            pl.col("attempts").fill_null(0),
        )
        lasts = self.symbols.select("symbol", "last_session")
        trailing = old.join(lasts, on="symbol").filter(pl.col("date") > pl.col("last_session")).select(old.columns)
        ranges = as_ranges(pl.concat([days.select(old.columns), trailing]).unique(["symbol", "position"]), calendar)
        facts = [name for name in symbols.columns if name not in ("symbol", "first_session", "last_session")]
        known = self.symbols.join(symbols.select("symbol", *facts), on="symbol", how="left", suffix="_0")
        merged = known.with_columns(pl.coalesce(f"{name}_0", name).alias(name) for name in facts)
        return Completeness(_with_cursors(merged, ranges, calendar), in_order(ranges))

    def with_cursors(self, calendar: SessionCalendar) -> "Completeness":
        """This account, with the cursors that follow from its gaps."""
        return Completeness(_with_cursors(self.symbols, self.gaps, calendar), self.gaps)

    def stamped(self, version: int, at: datetime) -> "Completeness":
        """This account, with the version that brings them on gaps that have none yet."""
        if not self.gaps.get_column("version").null_count():
            return self
        stamp = pl.col("version").fill_null(version), pl.col("committed_at").fill_null(pl.lit(at))
        return Completeness(self.symbols, self.gaps.with_columns(stamp))

    def waive(
        self, symbol: str | None, sessions: pl.Series, decision: Mapping[str, object], calendar: SessionCalendar
    ) -> "Completeness":
        """Accept that some missing sessions stay missing; sessions that are not open gaps are ignored.

        Args:
            symbol: whose sessions; None takes every symbol.
            sessions: which ones.
            decision: says who, why and when: reason, by, decided_version, decided_at.
            calendar: the exchange's sessions.
        """
        if sessions.is_empty():
            return self
        overlapping = (pl.col("first_session") <= sessions.max()) & (pl.col("last_session") >= sessions.min())
        here = pl.col("status").is_in([GAP_OPEN, CONFIRMED]) & overlapping
        concerned = self.gaps.filter(here if symbol is None else here & (pl.col("symbol") == symbol))
        mine = pl.col("symbol").is_in(concerned.get_column("symbol").unique().implode())
        days = exploded(self.gaps.filter(mine), calendar)
        here = pl.col("status").is_in([GAP_OPEN, CONFIRMED]) & pl.col("date").is_in(sessions.implode())
        changes = {"status": WAIVED, **decision}
        days = days.with_columns(
            pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in changes.items()
        )
        gaps = in_order(pl.concat([self.gaps.filter(~mine), as_ranges(days, calendar)]))
        touched = _with_cursors(self.symbols.filter(mine), gaps.filter(mine), calendar)
        return Completeness(pl.concat([self.symbols.filter(~mine), touched]).sort("symbol"), gaps)


def update_completeness(
    completeness: Completeness, attempt: FetchAttempt, calendar: SessionCalendar, gap_policy: GapPolicy, traded: Traded
) -> tuple[Completeness, pl.DataFrame]:
    """The account after a commit, and the gaps that it filled (the columns of `closed_gaps`).

    Args:
        completeness: before the commit.
        attempt: what the commit asked for and stores.
        calendar: the exchange's sessions.
        gap_policy: how long to ask for what does not come.
        traded: tells on which sessions there is any bar: a gap is only confirmed where others have traded.
    """
    lives = _lives(completeness.symbols, attempt, calendar)
    mine = pl.col("symbol").is_in(lives.get_column("symbol").implode())
    old = exploded(completeness.gaps.filter(mine), calendar)
    stored = positions_of(attempt.stored, calendar)
    missing = _missing(lives, old, stored, attempt, calendar)
    closed = old.join(of_symbols(stored, old), on=("symbol", "position"), how="semi") if old.height else old
    days = missing
    if missing.height:
        days = _attempted(missing, lives, attempt, calendar, gap_policy)
        days = _confirmed(days, lives, calendar, gap_policy, traded)
        days = _ended(days, lives, gap_policy)
    gaps = as_ranges(days, calendar)
    symbols = _with_cursors(_with_status(lives, days, calendar), gaps, calendar)
    symbols = pl.concat([completeness.symbols.filter(~mine), symbols]).sort("symbol")
    gaps = in_order(pl.concat([completeness.gaps.filter(~mine), gaps]))
    return Completeness(symbols, gaps), _closed(closed, attempt, calendar)


def _lives(symbols: pl.DataFrame, attempt: FetchAttempt, calendar: SessionCalendar) -> pl.DataFrame:
    """One row for each symbol that has a bar: its life before (`*_0`) and after this commit, as positions."""
    before = {"first_0": "first_session", "last_0": "last_session", "through_0": "asked_through"}
    now = {"start": "start", "end": "end", "expected_from": "expected_from", "came_first": "first", "came_last": "last"}
    positions = {name: calendar.positions(pl.col(days)) for name, days in (before | now).items()}
    return (
        attempt.asked.join(spans_in(attempt.stored), on="symbol", how="left")
        .join(symbols[list(_KNOWN)], on="symbol", how="left", suffix="_0")
        .with_columns(**positions, from_0=calendar.positions(pl.coalesce("asked_from", "first_session")))
        .with_columns(
            pl.min_horizontal("first_0", "came_first").alias("first"),
            pl.max_horizontal("last_0", "came_last").alias("last"),
            pl.max_horizontal("through_0", "end", "last_0", "came_last").alias("through"),
        )
        .filter(pl.col("first").is_not_null())
    )


def _missing(
    lives: pl.DataFrame, old: pl.DataFrame, stored: pl.DataFrame, attempt: FetchAttempt, calendar: SessionCalendar
) -> pl.DataFrame:
    """Every missing session of the touched symbols, with what is known of it; new ones without."""
    expected = pl.when(pl.col("expected_from").is_not_null()).then(pl.max_horizontal("start", "expected_from"))
    outer = days_between(
        lives,
        (pl.col("last_0") + 1, pl.col("came_first") - 1),
        (pl.col("came_last") + 1, pl.col("first_0") - 1),
        (pl.col("last") + 1, pl.col("through")),
        (expected, pl.col("first") - 1),
    )
    before, is_same = pl.col("position").shift(1), pl.col("symbol") == pl.col("symbol").shift(1)
    pairs = stored.with_columns((before + 1).alias("low"), (pl.col("position") - 1).alias("high"))
    inside = days_of(pairs.filter(is_same, pl.col("low") <= pl.col("high")))
    if inside.height:
        # Between two rows that were fetched there may be rows that are stored.
        known = inside.join(lives.select("symbol", "first_0", "last_0"), on="symbol", how="left")
        present = pl.col("position").is_between("first_0", "last_0").fill_null(value=False)
        unknown = known.filter(~present).select("symbol", "position")
        still = known.filter(present).join(old, on=("symbol", "position"), how="semi").select("symbol", "position")
        inside = pl.concat([unknown, still])
    dropped = positions_of(attempt.dropped, calendar)
    both = pl.concat([old[["symbol", "position"]], outer, inside, dropped])
    if both.is_empty():
        return old
    both = both.unique()
    both = both.join(of_symbols(stored, both), on=("symbol", "position"), how="anti")
    return both.join(old, on=("symbol", "position"), how="left").sort("symbol", "position")


def _attempted(
    missing: pl.DataFrame, lives: pl.DataFrame, attempt: FetchAttempt, calendar: SessionCalendar, gap_policy: GapPolicy
) -> pl.DataFrame:
    """Count this attempt as an attempt where the source answered for a session, once for each closed session."""
    version, at = attempt.stamp
    frame = missing.join(lives.select("symbol", "start", "end", "outcome", "last"), on="symbol", how="left")
    refused = attempt.refused.select(
        "symbol", calendar.positions(pl.col("date")).alias("position"), refused=pl.col("outcome")
    )
    frame = frame.join(
        refused.unique(["symbol", "position"]), on=("symbol", "position"), how="left", maintain_order="left"
    )
    in_view = pl.col("position").is_between("start", "end")
    is_refused = pl.col("refused").is_not_null()
    resumed = (pl.col("status") == ENDED) & (pl.col("position") < pl.col("last"))
    is_due = pl.col("due").is_null() | (pl.col("due") <= attempt.today) | resumed
    is_new_day = pl.col("asked").is_null() | (pl.col("asked") < attempt.today)
    answered = (
        in_view
        & ~is_refused
        & pl.col("outcome").is_in(_ANSWERS)
        & is_due
        & is_new_day
        & pl.col("status").ne_missing(WAIVED)
    )
    attempts = pl.when(resumed).then(0).otherwise(pl.col("attempts").fill_null(0)) + answered.cast(pl.Int64)
    today = calendar.position(attempt.today) or 0
    beyond = attempts - gap_policy.confirm_runs
    pause = pl.when(beyond >= 0).then(pl.min_horizontal(2 ** beyond.clip(0, 16), gap_policy.max_pause)).otherwise(0)
    due = calendar.dates(today + pause.cast(pl.Int64))
    why = (
        pl.when(pl.col("status") == WAIVED, pl.col("why") == BAR_HELD)
        .then("why")
        .when(is_refused)
        .then(pl.col("refused").replace_strict(_WHY, default=_NOT_ASKED))
        .when(in_view)
        .then(pl.col("outcome").replace_strict(_WHY, default=_NOT_ASKED))
    )
    return frame.select(
        "symbol",
        "position",
        pl.when(resumed).then(pl.lit(GAP_OPEN)).otherwise(pl.col("status").fill_null(GAP_OPEN)).alias("status"),
        why.otherwise(pl.col("why").fill_null(_NOT_ASKED)).alias("why"),
        attempts.alias("attempts"),
        pl.when(answered).then(pl.lit(attempt.today)).otherwise("asked").alias("asked"),
        pl.when(answered).then(due).otherwise("due").alias("due"),
        *_DECISION,
        pl.col("version").fill_null(version),
        pl.col("committed_at").fill_null(at),
    )


def _confirmed(
    gaps: pl.DataFrame, lives: pl.DataFrame, calendar: SessionCalendar, gap_policy: GapPolicy, traded: Traded
) -> pl.DataFrame:
    """Gaps before the last bar that were asked for often enough, on days when others traded."""
    tried = gaps.filter(pl.col("status") == GAP_OPEN, pl.col("attempts") >= gap_policy.confirm_runs)
    if tried.is_empty():
        return gaps
    tried = tried.join(lives.select("symbol", "last"), on="symbol").filter(pl.col("position") < pl.col("last"))
    if tried.is_empty():
        return gaps
    tried = tried.with_columns(calendar.dates(pl.col("position")).alias("date"))
    fine = traded(tried.get_column("date").unique().sort())
    sure = tried.filter(pl.col("date").is_in(fine.implode())).select("symbol", "position", sure=True)
    return (
        gaps.join(sure, on=("symbol", "position"), how="left")
        .with_columns(pl.when("sure").then(pl.lit(CONFIRMED)).otherwise("status").alias("status"))
        .drop("sure")
        .sort("symbol", "position")
    )


def _ended(gaps: pl.DataFrame, lives: pl.DataFrame, gap_policy: GapPolicy) -> pl.DataFrame:
    """Sessions after the last bar of symbols that were silent for long enough: one range each, `ended`."""
    after_last = gaps.join(lives.select("symbol", "last", "outcome"), on="symbol", how="left").with_columns(
        ((pl.col("position") > pl.col("last")) & pl.col("status").is_in([GAP_OPEN, ENDED])).alias("trailing")
    )
    trailing = pl.col("trailing")
    silent = (
        after_last.filter(trailing)
        .group_by("symbol")
        .agg(
            pl.col("attempts").max().alias("most"),
            pl.col("asked").max().alias("last_asked"),
            pl.col("due").max().alias("next_due"),
            pl.col("version").min().alias("since"),
            pl.col("committed_at").min().alias("since_at"),
            pl.col("outcome").first().alias("came"),
            (pl.col("status") == ENDED).any().alias("was_ended"),
            pl.col("asked").is_null().any().alias("unasked"),
            pl.len().alias("run"),
        )
    )
    long = (pl.col("run") > gap_policy.ended_after) & pl.col("came").is_in(_ANSWERS)
    done = silent.filter(
        pl.col("was_ended") | ((pl.col("most") >= gap_policy.confirm_runs) | long) & ~pl.col("unasked")
    )
    if done.is_empty():
        return gaps
    joined = after_last.join(done, on="symbol", how="left")
    over = trailing & pl.col("most").is_not_null()
    changes = {
        "status": pl.lit(ENDED),
        "attempts": pl.col("most"),
        "asked": pl.col("last_asked"),
        "due": pl.col("next_due"),
        "version": pl.col("since"),
        "committed_at": pl.col("since_at"),
        "why": pl.lit("no bar since; it counts as ended"),
    }
    return (
        joined.with_columns(
            pl.when(over).then(value).otherwise(pl.col(name)).alias(name) for name, value in changes.items()
        )
        .select(gaps.columns)
        .sort("symbol", "position")
    )


def _with_status(lives: pl.DataFrame, gaps: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    ended = pl.col("status").eq_missing(ENDED)
    newest = pl.col("through_0").is_null() | (pl.col("end") >= pl.col("through_0"))
    return lives.join(_silent(lives, gaps), on="symbol", how="left").select(
        "symbol",
        calendar.dates(pl.col("first")).alias("first_session"),
        calendar.dates(pl.col("last")).alias("last_session"),
        calendar.dates(pl.col("through")).alias("asked_through"),
        calendar.dates(_asked_from()).alias("asked_from"),
        pl.col("status").fill_null(LIVE),
        pl.when(newest).then("outcome").otherwise("outcome_0").alias("outcome"),
        pl.col("misses").fill_null(0),
        "asked",
        pl.when(ended).then("due").alias("due"),
        _if_fetched("adjustment"),
        _if_fetched("provider"),
        pl.when("replaced")
        .then("adjusted_through")
        .otherwise(pl.max_horizontal("adjusted_through", "adjusted_through_0")),
        _if_fetched("names_events"),
        _if_fetched("split_adjusted"),
    )


def _silent(lives: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """What is known of the sessions after the last bar of symbols, named as in the ledger `symbols`."""
    if gaps.is_empty():
        return empty_ledger("symbols")[["symbol", "misses", "due", "asked", "status"]]
    ended = (pl.col("status") == ENDED).any()
    return (
        gaps.join(lives.select("symbol", "last"), on="symbol")
        .filter(pl.col("position") > pl.col("last"))
        .group_by("symbol")
        .agg(
            pl.col("attempts").max().alias("misses"),
            pl.col("due").max().alias("due"),
            pl.col("asked").max().alias("asked"),
            pl.when(ended).then(pl.lit(ENDED)).otherwise(pl.lit(LIVE)).alias("status"),
        )
    )


def _asked_from() -> pl.Expr:
    """From when on the source was asked for every session up to the first bar; gaps tell of the sessions after it."""
    reached = pl.col("outcome").is_in(_ANSWERS) & (pl.col("end") >= pl.col("from_0") - 1)
    earlier = pl.col("from_0").is_null() | (pl.col("came_first") < pl.col("from_0")) | reached
    return (
        pl.when(earlier.fill_null(value=False)).then(pl.min_horizontal("from_0", "start", "first")).otherwise("from_0")
    )


def _if_fetched(name: str) -> pl.Expr:
    return pl.when(pl.col("came_first").is_not_null()).then(name).otherwise(f"{name}_0").alias(name)


def _with_cursors(symbols: pl.DataFrame, gaps: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """`contiguous_through`: the session before the first open gap after the first bar, at most the last bar."""
    still_open = gaps.filter(pl.col("status") == GAP_OPEN)
    if still_open.is_empty():
        return symbols.with_columns(contiguous_through="last_session")[list(SCHEMAS["symbols"])]
    first_open = (
        still_open.join(symbols.select("symbol", pl.col("first_session").alias("begin")), on="symbol")
        .filter(pl.col("first_session") > pl.col("begin"))
        .group_by("symbol")
        .agg(calendar.positions(pl.col("first_session")).min().alias("hole"))
    )
    return (
        symbols.join(first_open, on="symbol", how="left")
        .with_columns(pl.min_horizontal(calendar.dates(pl.col("hole") - 1), "last_session").alias("contiguous_through"))
        .drop("hole")
        .select(list(SCHEMAS["symbols"]))
    )


def _closed(days: pl.DataFrame, attempt: FetchAttempt, calendar: SessionCalendar) -> pl.DataFrame:
    if days.is_empty():
        return empty_ledger("closed_gaps")
    ranges = as_ranges(days.with_columns(pl.lit(FILLED).alias("status")), calendar)
    version, at = attempt.stamp
    return ranges.with_columns(closed_version=version, closed_at=at)
