"""What a commit writes into the ledgers: pure functions from what happened to rows of their schemas."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl

from historical_etl.etl.completeness import FetchAttempt
from historical_etl.etl.merge import COMPARED, MergedYear, with_implied, with_judged, with_named, without_outdated
from historical_etl.etl.reconcile import Reconciled
from historical_etl.models import Outcome, SyncManifest
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import ORDER, SCHEMA, empty_frame, ordered, spans_in, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.store.failed_runs import RunRecord
from historical_etl.store.ledger_schemas import SCHEMAS, empty_ledger
from historical_etl.store.transaction import Transaction

__all__ = [
    "ACCEPTED",
    "HISTORY_REPLACED",
    "OFF_CALENDAR",
    "Holds",
    "actions",
    "additions",
    "corrections",
    "flagged_rows",
    "holds",
    "is_due",
    "rejected_rows",
    "replaced_rows",
    "restatements",
    "run_of",
    "run_rows",
    "stale_bars",
    "suspicion_of",
    "withheld",
]

ACCEPTED, HOLD_OPEN, RELEASED = "accepted", "open", "released"
#: Why a row is in `replaced_rows`, if not for the calendar.
HISTORY_REPLACED = "the history was replaced"
#: How the reason of one begins that has left the calendar.
OFF_CALENDAR = "no session of "
#: The longest pause, in sessions, between two looks at the history of a symbol that is stored without `adj_close`.
_PAUSE: Final = 20


def corrections(years: Sequence[MergedYear], restated: Collection[str], attempt: FetchAttempt) -> pl.DataFrame:
    """One row for each cell of a stored row that changed, of symbols whose history was not replaced as a whole."""
    parts = [year.differences.changed for year in years if year.differences.changed.height]
    if not parts:
        return empty_ledger("corrections")
    changed = pl.concat(parts).filter(~pl.col("symbol").is_in(list(restated)))
    cells = [
        changed.filter(pl.col(name).ne_missing(pl.col(f"{name}_new"))).select(
            "date",
            "symbol",
            pl.lit(name).alias("column"),
            pl.col(name).alias("old"),
            pl.col(f"{name}_new").alias("new"),
            *attempt.stamp,
        )
        for name in COMPARED
    ]
    return pl.concat(cells).sort("symbol", "date", "column")


def replaced_rows(
    years: Sequence[MergedYear],
    reconciled: Reconciled,
    attempt: FetchAttempt,
    left: pl.DataFrame,
    calendar: SessionCalendar,
) -> pl.DataFrame:
    """The stored rows that a new history replaced with other values, or does not have; and those off the calendar."""
    rows = _replaced(years, reconciled)
    if rows.is_empty():
        return empty_ledger("replaced_rows")
    off = left.select("symbol", "date", pl.lit(f"{OFF_CALENDAR}{calendar.version}").alias("reason")).unique()
    reasons = rows.join(off, on=("symbol", "date"), how="left").with_columns(
        pl.col("reason").fill_null(HISTORY_REPLACED), *attempt.stamp
    )
    return ordered(reasons.select(list(SCHEMAS["replaced_rows"])))


def _replaced(years: Sequence[MergedYear], reconciled: Reconciled) -> pl.DataFrame:
    rows = [year.differences.removed for year in years]
    if reconciled.restated:
        mine = pl.col("symbol").is_in(list(reconciled.restated))
        rows += [year.differences.changed.filter(mine).select(list(SCHEMA)) for year in years]
    return pl.concat([empty_frame(), *rows])


def restatements(reconciled: Reconciled, years: Sequence[MergedYear], attempt: FetchAttempt) -> pl.DataFrame:
    """One row for each symbol whose history was replaced."""
    if not reconciled.restated:
        return empty_ledger("restatements")
    replaced = _replaced(years, reconciled)
    spans = replaced.group_by("symbol").agg(
        pl.col("date").min().alias("first_session"),
        pl.col("date").max().alias("last_session"),
        pl.len().cast(pl.Int64).alias("rows_replaced"),
    )
    facts = [(r.symbol, r.ratio, r.close_ratio, r.evidence) for r in reconciled.restated.values()]
    names = ("symbol", "ratio", "close_ratio", "evidence")
    schema = {name: SCHEMAS["restatements"][name] for name in names}
    return (
        pl.DataFrame(facts, schema=schema, orient="row")
        .join(spans, on="symbol")  # one that was rebuilt with equal values replaced nothing
        .with_columns(attempt.stamp)
        .select(list(SCHEMAS["restatements"]))
        .sort("symbol")
    )


def additions(years: Sequence[MergedYear], attempt: FetchAttempt) -> pl.DataFrame:
    """Which sessions of which symbols were stored for the first time: one row for each span that symbols share."""
    keys = [year.differences.added for year in years if year.differences.added.height]
    if not keys:
        return empty_ledger("additions")
    return (
        pl.concat(spans_in(rows).lazy() for rows in keys)
        .group_by("symbol")
        .agg(
            pl.col("first").min().alias("first_session"),
            pl.col("last").max().alias("last_session"),
            pl.col("rows").sum(),
        )
        .sort("symbol")
        .group_by("first_session", "last_session", maintain_order=True)
        .agg(pl.col("rows").sum(), pl.col("symbol").alias("symbols"))
        .with_columns(attempt.stamp)
        .collect()
    )


def rejected_rows(rejected: pl.DataFrame, known: pl.DataFrame | None, attempt: FetchAttempt) -> pl.DataFrame:
    """The refused rows that were not refused before with the same values, however often the source repeats them.

    A row is reported again if it breaks another rule than before.
    """
    if rejected.is_empty() or known is None:
        return empty_ledger("rejected_rows")
    names = [*SCHEMA, "reasons"]
    new = rejected.select(names).unique(maintain_order=True)
    if known.height:
        place = new.with_row_index("place")
        both = place.join(known.select(names), on=list(SCHEMA), nulls_equal=True, suffix="_known")
        repeated = both.filter(pl.col("reasons").list.set_difference("reasons_known").list.len() == 0)
        new = new.filter(~place.get_column("place").is_in(repeated.get_column("place").implode()))
    return new.with_columns(attempt.stamp)


def stale_bars(reconciled: Reconciled, attempt: FetchAttempt) -> pl.DataFrame:
    """The stretches of equal bars that the commit begins or lengthens."""
    if reconciled.stale.is_empty():
        return empty_ledger("stale_bars")
    names = [name for name in SCHEMAS["stale_bars"] if name in reconciled.stale.columns]
    return reconciled.stale.select(names).with_columns(attempt.stamp)


def flagged_rows(flagged: pl.DataFrame, years: Sequence[MergedYear], attempt: FetchAttempt) -> pl.DataFrame:
    """The flagged rows that the commit stored, as fetched; those that are stored as they are were reported before."""
    if flagged.is_empty():
        return empty_ledger("flagged_rows")
    keys = [
        rows.select("symbol", "date") for year in years for rows in (year.differences.added, year.differences.changed)
    ]
    if not keys:
        return empty_ledger("flagged_rows")
    new = flagged.unique().join(pl.concat(keys), on=("symbol", "date"), how="semi")
    return new.with_columns(attempt.stamp).sort("symbol", "date")


def withheld(cells: pl.DataFrame, known: pl.DataFrame | None, attempt: FetchAttempt) -> pl.DataFrame:
    """The cells that the source did not give, once for each set of values."""
    if cells.is_empty() or known is None:
        return empty_ledger("withheld")
    names = ["date", "symbol", "column", "stored", "came"]
    new = cells.join(known.select(names), on=names, how="anti", nulls_equal=True)
    return new.with_columns(attempt.stamp).sort("symbol", "date", "column")


def actions(
    stored: pl.DataFrame,
    reconciled: Reconciled,
    years: Sequence[MergedYear],
    *,
    split_adjusted: bool,
) -> pl.DataFrame:
    """The splits and dividends that are known after the commit: as the source names them, else as prices imply."""
    given = reconciled.batch.actions
    stored = without_outdated(stored, reconciled.outdated)
    if given is None:
        ledger = with_implied(stored, [found for year in years for found in year.differences.implied])
        return with_judged(ledger, reconciled.events, in_close=True)
    symbols = symbols_in(reconciled.batch.rows)
    asked = [(symbol, *reconciled.batch.requested[symbol]) for symbol in symbols.sort()]
    schema = {"symbol": pl.String, "low": pl.Date, "high": pl.Date}
    named = given.filter(pl.col("symbol").is_in(symbols.implode())).with_columns(
        pl.lit(not split_adjusted).alias("in_close")
    )
    if reconciled.taken_out:
        hidden = pl.DataFrame(sorted(reconciled.taken_out), schema={name: SCHEMA[name] for name in ORDER}, orient="row")
        named = named.join(hidden.with_columns(hidden=True), on=ORDER, how="left", maintain_order="left")
        named = named.with_columns(pl.col("in_close") & pl.col("hidden").is_null()).drop("hidden")
    ledger = with_named(stored, named, pl.DataFrame(asked, schema=schema, orient="row"))
    return with_judged(ledger, reconciled.events, in_close=not split_adjusted)


def run_rows(records: Sequence[RunRecord]) -> pl.DataFrame:
    """Runs as rows of their ledger."""
    schema = SCHEMAS["runs"]
    return pl.DataFrame([record.model_dump() for record in records], schema=schema)[list(schema)]


@dataclass(frozen=True)
class Holds:
    """The holds after a commit: those that are open, and those that it closed."""

    open: pl.DataFrame
    closed: pl.DataFrame


def run_of(transaction: Transaction, command: str, writer: str, content: SyncManifest, message: str) -> RunRecord:
    """The record of a commit that fetched nothing: `content` is the version whose bars it has."""
    return RunRecord(
        run_id=f"{command}-{transaction.version}",
        command=command,
        writer=writer,
        started=transaction.at,
        finished=transaction.at,
        status="committed",
        version=transaction.version,
        start_date=content.start_date,
        end_date=content.end_date,
        rows=content.row_count,
        message=message,
        provider=content.provider,
    )


def holds(before: pl.DataFrame, reconciled: Reconciled, attempt: FetchAttempt) -> Holds:
    """Open, repeat and close holds: a symbol that was fetched and is no longer suspicious is released."""
    asked, outcomes = reconciled.batch.asked, reconciled.batch.outcomes
    answers = (Outcome.OK, Outcome.HELD, Outcome.REFUSED)
    still_open: list[dict[str, object]] = []
    closed: list[dict[str, object]] = []
    repeated: set[tuple[str, Suspicion]] = set()
    for hold in before.iter_rows(named=True):
        symbol, is_held_back = hold["symbol"], hold["code"] == HELD_BACK
        known, seen = suspicion_of(hold), reconciled.seen_of(symbol, held_back=is_held_back)
        now = next((one for one in seen if one.same_as(known) or hold["code"] == one.code == "refused"), None)
        persists = any(carried.same_as(known) for carried in reconciled.carried_holds.get(symbol, ()))
        is_answered = symbol in asked and outcomes.get(symbol) in answers
        if not is_answered or (is_held_back and symbol in reconciled.suspects):
            still_open.append(hold)
        elif now is not None or persists:
            hold |= {"kept_from": _earliest(hold["kept_from"], reconciled.kept_from.get(symbol))}
            if now is not None:
                repeated.add((symbol, now))
            if now is not None and not persists and hold["asked"] != attempt.today:
                hold |= {"evidence": now.evidence, "against": now.against, "through": now.through}
                hold |= {"attempts": hold["attempts"] + 1, "asked": attempt.today}
            still_open.append(hold)
        elif hold["status"] == ACCEPTED and symbol not in reconciled.passed:
            still_open.append(hold)  # its time is still to come
        else:
            status = ACCEPTED if hold["status"] == ACCEPTED else RELEASED
            closed.append({**hold, "status": status, "closed_version": attempt.version, "closed_at": attempt.at})
    beside = [(symbol, suspicion) for symbol, further in reconciled.beside.items() for suspicion in further]
    for symbol, suspicion in [*reconciled.suspects.items(), *beside, *reconciled.held_back.items()]:
        if (symbol, suspicion) not in repeated:
            still_open.append({**_new_hold(symbol, suspicion, attempt), "kept_from": reconciled.kept_from.get(symbol)})
    return Holds(_frame(still_open, "open_holds").sort("symbol", "code", "session"), _frame(closed, "closed_holds"))


def _earliest(known: date | None, now: date | None) -> date | None:
    return min(filter(None, (known, now)), default=None)


def is_due(hold: Mapping[str, Any], today: date) -> bool:
    """Whether a symbol without `adj_close` is looked at again as a whole: after 1, 2, 4, … sessions, then each 20."""
    attempts: int = hold["attempts"]
    return hold["asked"] != today and (attempts % _PAUSE == 0 or (attempts < _PAUSE and attempts.bit_count() == 1))


def suspicion_of(hold: dict[str, Any]) -> Suspicion:
    """The suspicion that a row of the ledger `holds` records; its schema types the row."""
    return Suspicion(hold["code"], hold["evidence"], hold["ratio"], hold["session"], hold["against"], hold["through"])


def _new_hold(symbol: str, suspicion: Suspicion, attempt: FetchAttempt) -> dict[str, object]:
    return {
        "symbol": symbol,
        "code": suspicion.code,
        "evidence": suspicion.evidence,
        "ratio": suspicion.ratio,
        "session": suspicion.session,
        "against": suspicion.against,
        "through": suspicion.through,
        "status": HOLD_OPEN,
        "attempts": 1,
        "asked": attempt.today,
        "version": attempt.version,
        "committed_at": attempt.at,
    }


def _frame(rows: Sequence[dict[str, object]], name: str) -> pl.DataFrame:
    schema = SCHEMAS[name]
    return pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=schema)
