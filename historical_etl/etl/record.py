"""What a commit writes into the ledgers: pure functions from what happened to rows of their schemas."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl

from historical_etl.etl.actions import with_implied, with_judged, with_named
from historical_etl.etl.differences import COMPARED
from historical_etl.etl.merge import MergedYear
from historical_etl.etl.reconciled import Reconciled
from historical_etl.etl.visit import Visit
from historical_etl.models import SyncManifest
from historical_etl.quality.levels import WITHHELD, Suspicion
from historical_etl.schema import SCHEMA, symbols_in
from historical_etl.store.ledgers import SCHEMAS, empty_ledger
from historical_etl.store.run_notes import RunRecord
from historical_etl.store.transaction import Transaction

__all__ = [
    "ACCEPTED",
    "Holds",
    "actions",
    "additions",
    "corrections",
    "holds",
    "is_due",
    "rejected_rows",
    "replaced_rows",
    "restatements",
    "run_of",
    "runs",
    "suspicion_of",
]

ACCEPTED, OPEN, RELEASED = "accepted", "open", "released"
#: The longest pause, in sessions, between two looks at the history of a symbol that is stored without `adj_close`.
_PAUSE: Final = 20


def corrections(years: Sequence[MergedYear], restated: Collection[str], visit: Visit) -> pl.DataFrame:
    """One row for each cell of a stored row that changed, of symbols whose history was not replaced as a whole."""
    cells = [empty_ledger("corrections")]
    for year in years:
        changed = year.differences.changed.filter(~pl.col("symbol").is_in(list(restated)))
        for name in COMPARED:
            differs = pl.col(name).ne_missing(pl.col(f"{name}_new"))
            cells.append(
                changed.filter(differs).select(
                    "date",
                    "symbol",
                    pl.lit(name).alias("column"),
                    pl.col(name).alias("old"),
                    pl.col(f"{name}_new").alias("new"),
                    *_stamp(visit),
                )
            )
    return pl.concat(cells).sort("symbol", "date", "column")


def replaced_rows(years: Sequence[MergedYear], came: Reconciled, visit: Visit) -> pl.DataFrame:
    """The stored rows that a new history replaced with other values, or does not have."""
    mine = pl.col("symbol").is_in(list(came.restated))
    old = [year.differences.changed.filter(mine).select(list(SCHEMA)) for year in years] + [
        year.differences.removed for year in years
    ]
    rows = pl.concat([empty_ledger("replaced_rows").select(list(SCHEMA)), *old])
    return rows.with_columns(_stamp(visit)).sort("symbol", "date")


def restatements(came: Reconciled, years: Sequence[MergedYear], visit: Visit) -> pl.DataFrame:
    """One row for each symbol whose history was replaced."""
    replaced = replaced_rows(years, came, visit)
    spans = replaced.group_by("symbol").agg(
        pl.col("date").min().alias("first_session"),
        pl.col("date").max().alias("last_session"),
        pl.len().cast(pl.Int64).alias("rows_replaced"),
    )
    facts = [(r.symbol, r.ratio, r.close_ratio, r.evidence) for r in came.restated.values()]
    names = ("symbol", "ratio", "close_ratio", "evidence")
    schema = {name: SCHEMAS["restatements"][name] for name in names}
    return (
        pl.DataFrame(facts, schema=schema, orient="row")
        .join(spans, on="symbol")  # one that was rebuilt and came out equal replaced nothing
        .with_columns(_stamp(visit))
        .select(list(SCHEMAS["restatements"]))
        .sort("symbol")
    )


def additions(years: Sequence[MergedYear], visit: Visit) -> pl.DataFrame:
    """Which sessions of which symbols were stored for the first time: one row for each span that symbols share."""
    keys = [year.differences.added for year in years if year.differences.added.height]
    if not keys:
        return empty_ledger("additions")
    spans = (
        pl.concat(keys)
        .group_by("symbol")
        .agg(pl.col("date").min().alias("first_session"), pl.col("date").max().alias("last_session"), pl.len())
    )
    return (
        spans.sort("symbol")
        .group_by("first_session", "last_session", maintain_order=True)
        .agg(pl.col("len").sum().cast(pl.Int64).alias("rows"), pl.col("symbol").alias("symbols"))
        .with_columns(_stamp(visit))
    )


def rejected_rows(rejected: pl.DataFrame, known: pl.DataFrame | None, visit: Visit) -> pl.DataFrame:
    """The refused rows that were not refused before with the same values, however often the source repeats them."""
    if rejected.is_empty() or known is None:
        return empty_ledger("rejected_rows")
    names = [*SCHEMA, "reasons"]
    new = rejected.select(names).unique(maintain_order=True)
    if known.height:
        new = new.join(known.select(names), on=names, how="anti", nulls_equal=True, maintain_order="left")
    return new.with_columns(_stamp(visit))


def actions(
    stored: pl.DataFrame,
    came: Reconciled,
    years: Sequence[MergedYear],
    *,
    split_adjusted: bool,
) -> pl.DataFrame:
    """The splits and dividends that are known after the commit: as the source names them, else as prices imply."""
    given = came.batch.actions
    if given is None:
        ledger = with_implied(stored, [found for year in years for found in year.differences.implied])
        return with_judged(ledger, came.events, in_close=True)
    symbols = symbols_in(came.batch.rows)
    asked = [(symbol, *came.batch.requested[symbol]) for symbol in symbols.sort()]
    schema = {"symbol": pl.String, "low": pl.Date, "high": pl.Date}
    named = given.filter(pl.col("symbol").is_in(symbols.implode())).with_columns(
        pl.lit(not split_adjusted).alias("in_close")
    )
    ledger = with_named(stored, named, pl.DataFrame(asked, schema=schema, orient="row"))
    return with_judged(ledger, came.events, in_close=not split_adjusted)


def runs(records: Sequence[RunRecord]) -> pl.DataFrame:
    """Runs as rows of their ledger."""
    schema = SCHEMAS["runs"]
    return pl.DataFrame([record.model_dump() for record in records], schema=schema).select(list(schema))


@dataclass(frozen=True)
class Holds:
    """The holds after a commit: those that stand, and those that it closed."""

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


def holds(before: pl.DataFrame, came: Reconciled, visit: Visit) -> Holds:
    """Open, repeat and close holds: a symbol that came and is no longer suspicious is released."""
    asked = set(visit.asked.get_column("symbol"))
    answered = {s for s, outcome in came.batch.outcomes.items() if outcome.value in {"ok", "held", "refused"}}
    kept: list[dict[str, object]] = []
    closed: list[dict[str, object]] = []
    repeated: set[tuple[str, str]] = set()
    for hold in before.iter_rows(named=True):
        symbol, is_withheld = hold["symbol"], hold["code"] == WITHHELD
        now = (came.withheld if is_withheld else came.suspects).get(symbol)
        if symbol not in asked or symbol not in answered or (is_withheld and symbol in came.suspects):
            kept.append(hold)
        elif now is not None and (now.same_as(suspicion_of(hold)) or hold["code"] == now.code == "refused"):
            repeated.add((symbol, now.code))
            again = {"attempts": hold["attempts"] + 1, "asked": visit.today, "evidence": now.evidence}
            kept.append(hold if hold["asked"] == visit.today else {**hold, **again})
        elif hold["status"] == ACCEPTED and symbol not in came.passed:
            kept.append(hold)  # its time is still to come
        else:
            status = ACCEPTED if hold["status"] == ACCEPTED else RELEASED
            closed.append({**hold, "status": status, "closed_version": visit.version, "closed_at": visit.at})
    for symbol, suspicion in [*came.suspects.items(), *came.withheld.items()]:
        if (symbol, suspicion.code) not in repeated:
            kept.append(_new_hold(symbol, suspicion, visit))
    return Holds(_frame(kept, "open_holds").sort("symbol", "code", "session"), _frame(closed, "closed_holds"))


def is_due(hold: Mapping[str, Any], today: date) -> bool:
    """Whether a symbol without `adj_close` is looked at again as a whole: after 1, 2, 4, … sessions, then each 20."""
    attempts: int = hold["attempts"]
    return hold["asked"] != today and (attempts % _PAUSE == 0 or (attempts < _PAUSE and attempts.bit_count() == 1))


def suspicion_of(hold: dict[str, Any]) -> Suspicion:
    """The suspicion that a row of the ledger `holds` records; its schema types the row."""
    return Suspicion(hold["code"], hold["evidence"], hold["ratio"], hold["session"])


def _new_hold(symbol: str, suspicion: Suspicion, visit: Visit) -> dict[str, object]:
    return {
        "symbol": symbol,
        "code": suspicion.code,
        "evidence": suspicion.evidence,
        "ratio": suspicion.ratio,
        "session": suspicion.session,
        "status": OPEN,
        "attempts": 1,
        "asked": visit.today,
        "version": visit.version,
        "committed_at": visit.at,
    }


def _frame(rows: Sequence[dict[str, object]], name: str) -> pl.DataFrame:
    schema = SCHEMAS[name]
    return pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=schema)


def _stamp(visit: Visit) -> list[pl.Expr]:
    return [pl.lit(visit.version, pl.Int64).alias("version"), pl.lit(visit.at).alias("committed_at")]
