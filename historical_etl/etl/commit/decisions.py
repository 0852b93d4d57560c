"""What a person decides: to accept what is held, or to let sessions stay missing. A commit records it."""

from shlex import quote
from typing import TYPE_CHECKING

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.etl.commit.ledger_rows import ACCEPTED, HOLD_OPEN
from historical_etl.etl.completeness import CONFIRMED, GAP_OPEN, WAIVED, Completeness
from historical_etl.schema import earliest
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl.store.ledgers import LedgerChanges, read_ledger
from historical_etl.store.transaction import Provenance, Transaction

if TYPE_CHECKING:
    from datetime import date

__all__ = ["NOT_FOR_PEOPLE", "accept_hold", "decision", "require_reason", "waivable", "waive_gaps", "what_frees"]

#: Rows that broke the rules, or of which any choice would be by chance: there is nothing to accept.
NOT_FOR_PEOPLE = ("refused", "other_basis")
#: Which name the session of the bar that looks wrong.
OF_A_BAR = ("level_jump", "break_after_gap", "no_overlap")


def accept_hold(transaction: Transaction, symbol: str, reason: str, by: str) -> None:
    """Mark the open holds of a symbol as accepted: those of all its bars, else those of single bars.

    Bars that alone are held were reported beside a symbol that is stored: a word on all of it is none on them.

    Raises:
        ConfigurationError: it has none, or they are not for a person to accept, or the reason is blank.
    """
    require_reason(reason)
    holds = _holds(transaction)
    mine = (pl.col("symbol") == symbol) & (pl.col("status") == HOLD_OPEN)
    found = holds.filter(mine)
    if found.is_empty():
        held = holds.filter(pl.col("status") == HOLD_OPEN).get_column("symbol").unique().sort().to_list()
        todo = f"held are: {', '.join(held)}" if held else "nothing is held; see `historical-etl holds --all`"
        raise ConfigurationError(f"{symbol} is not held", where="holds", todo=todo)
    barred = found.filter(pl.col("code").is_in(NOT_FOR_PEOPLE))
    if barred.height:
        raise ConfigurationError(
            f"{symbol} cannot be accepted: {barred.item(0, 'evidence')}",
            where="holds",
            todo=what_frees(
                barred.item(0, "code"), symbol, read_ledger(transaction.layout, transaction.base, "symbols")
            ),
        )
    if found.get_column("through").is_null().any():
        mine &= pl.col("through").is_null()
    values = {"status": ACCEPTED, **decision(transaction, reason, by)}
    decided = holds.with_columns(
        pl.when(mine).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )
    _commit(transaction, {"open_holds": decided})


def what_frees(code: str, symbol: str, symbols: pl.DataFrame | None = None, session: "date | None" = None) -> str:
    """What a person does about a hold of this code.

    `symbols`, the ledger of that name, knows the first year; `session` is that of a hold from `waivable`.
    """
    name = quote(symbol)
    if code == "other_basis":
        mine = None if symbols is None else symbols.filter(pl.col("symbol") == symbol)
        first = None if mine is None else earliest(mine.get_column("first_session"))
        since = f" --from {first.year}" if first else ""
        return (
            f"use the source that it was stored from, or `historical-etl backfill --rebuild --symbols {name}{since}`, "
            "which replaces all that is stored of it"
        )
    if code in NOT_FOR_PEOPLE:
        return "nothing, if the source will be right again: each `historical-etl update` asks again"
    accept = f'`historical-etl holds accept {name} --reason "..."`'
    if session is not None:
        waive = f'`historical-etl gaps waive {name} --from {session} --reason "..."`'
        accept += f"; if the bar of {session} is wrong, {waive}, which keeps it out"
    return f"{accept}; or wait: each update asks again"


def waivable(holds: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Those of some holds whose bar a person can keep out: its session is waited for. In a first history none is."""
    of_a_bar = holds.filter(pl.col("code").is_in(OF_A_BAR), pl.col("session") != pl.col("against"))
    waited = gaps.filter(pl.col("status").is_in([GAP_OPEN, CONFIRMED])).select(
        "symbol", "first_session", "last_session"
    )
    inside = pl.col("session").is_between("first_session", "last_session")
    return of_a_bar.join(waited, on="symbol", maintain_order="left").filter(inside).select(holds.columns)


def waive_gaps(
    transaction: Transaction, before: Completeness, after: Completeness, symbol: str | None, decided: dict[str, object]
) -> None:
    """Commit an account in which gaps of a symbol, or of any, are waived.

    A hold ends with the session that it names, and one of bars that are kept out alone with the last of theirs: from
    then on such bars are left out (`etl.reconcile.waived_bars`).

    Raises:
        ConfigurationError: none of the sessions is a gap that can be waived, or the reason is blank.
    """
    require_reason(str(decided["reason"]))
    if before.gaps.equals(after.gaps):
        raise ConfigurationError(
            f"None of these sessions is an open gap of {symbol or 'any symbol'}",
            where="gaps",
            todo="see `historical-etl gaps`",
        )
    stamped = after.stamped(transaction.version, transaction.at)
    changes = {"symbols": stamped.symbols, "open_gaps": stamped.gaps}
    _commit(transaction, {**changes, **_without_waived(transaction, after.gaps, decided)})


def _without_waived(transaction: Transaction, gaps: pl.DataFrame, decided: dict[str, object]) -> LedgerChanges:
    """The ledgers of holds, if some are of bars that are waited for no more."""
    holds = _holds(transaction)
    named = holds.filter(pl.col("session").is_not_null(), pl.col("status") == HOLD_OPEN)
    if named.is_empty():
        return {}
    through = pl.coalesce("through", "session")
    on_gaps = named.join(gaps, on="symbol", suffix="_gap").filter(
        pl.col("first_session") <= through, pl.col("last_session") >= pl.col("session")
    )
    key = ["symbol", "code", "session"]
    due = on_gaps.filter(pl.col("status_gap") != WAIVED)
    ended = named.join(on_gaps, on=key, how="semi").join(due, on=key, how="anti")
    if ended.is_empty():
        return {}
    values = {"status": WAIVED, **decided, "closed_version": transaction.version, "closed_at": transaction.at}
    closed = ended.to_dicts()
    schema = SCHEMAS["closed_holds"]
    return {
        "open_holds": holds.join(ended, on=key, how="anti"),
        "closed_holds": pl.DataFrame([{**hold, **values} for hold in closed], schema=schema).select(list(schema)),
    }


def decision(transaction: Transaction, reason: str, by: str) -> dict[str, object]:
    """How the ledgers record a decision that this transaction commits."""
    return {"reason": reason, "by": by, "decided_version": transaction.version, "decided_at": transaction.at}


def _holds(transaction: Transaction) -> pl.DataFrame:
    return read_ledger(transaction.layout, transaction.base, "open_holds")


def _commit(transaction: Transaction, changes: LedgerChanges) -> None:
    transaction.commit(Provenance.of(transaction.base), changes)


def require_reason(reason: str) -> None:
    """Refuse a decision without a reason.

    Raises:
        ConfigurationError: it is blank.
    """
    if not reason.strip():
        raise ConfigurationError("A decision needs a reason", where="reason", todo="say why, in a few words")
