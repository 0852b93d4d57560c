"""The columns of each ledger, and which ledgers there are."""

from collections.abc import Mapping
from functools import cache
from typing import Final

import polars as pl

from historical_etl.schema import SCHEMA

__all__ = ["ADDED_COLUMNS", "LOGS", "SCHEMAS", "STATES", "VIEWS", "empty_ledger"]

_AT: Final = pl.Datetime("us", "UTC")
_STAMP: Final = {"version": pl.Int64(), "committed_at": _AT}
_DECIDED: Final = {"reason": pl.String(), "by": pl.String(), "decided_version": pl.Int64(), "decided_at": _AT}
_CLOSED: Final = {"closed_version": pl.Int64(), "closed_at": _AT}
_GAP: Final = {
    "symbol": pl.String(),
    "first_session": pl.Date(),
    "last_session": pl.Date(),
    "sessions": pl.Int64(),
    "status": pl.String(),
    "why": pl.String(),
    "attempts": pl.Int64(),
    "asked": pl.Date(),
    "due": pl.Date(),
    **_DECIDED,
    **_STAMP,
}
_HOLD: Final = {
    "symbol": pl.String(),
    "code": pl.String(),
    "evidence": pl.String(),
    "ratio": pl.Float64(),
    "session": pl.Date(),
    "status": pl.String(),
    "attempts": pl.Int64(),
    "asked": pl.Date(),
    **_DECIDED,
    **_STAMP,
    "against": pl.Date(),
    "kept_from": pl.Date(),
    "through": pl.Date(),
}
_COUNTS: Final = (
    *("ok", "empty", "not_found", "not_covered", "not_published", "rate_limited", "error", "refused", "held"),
)

#: Ledgers that only grow.
LOGS: Final[Mapping[str, pl.Schema]] = {
    "corrections": pl.Schema(
        {
            "date": pl.Date(),
            "symbol": pl.String(),
            "column": pl.String(),
            "old": pl.Float64(),
            "new": pl.Float64(),
            **_STAMP,
        }
    ),
    "restatements": pl.Schema(
        {
            "symbol": pl.String(),
            "ratio": pl.Float64(),
            "close_ratio": pl.Float64(),
            "evidence": pl.String(),
            "first_session": pl.Date(),
            "last_session": pl.Date(),
            "rows_replaced": pl.Int64(),
            **_STAMP,
        }
    ),
    "replaced_rows": pl.Schema({**SCHEMA, **_STAMP, "reason": pl.String()}),
    "additions": pl.Schema(
        {
            "first_session": pl.Date(),
            "last_session": pl.Date(),
            "rows": pl.Int64(),
            "symbols": pl.List(pl.String()),
            **_STAMP,
        }
    ),
    "rejected_rows": pl.Schema({**SCHEMA, "reasons": pl.List(pl.String()), **_STAMP}),
    "stale_bars": pl.Schema(
        {
            "symbol": pl.String(),
            "first_session": pl.Date(),
            "last_session": pl.Date(),
            "sessions": pl.Int64(),
            "close": pl.Float64(),
            "volume": pl.Float64(),
            **_STAMP,
        }
    ),
    "flagged_rows": pl.Schema(
        {
            **{name: dtype for name, dtype in SCHEMA.items() if name != "ret"},
            "reasons": pl.List(pl.String()),
            **_STAMP,
        }
    ),
    "withheld": pl.Schema(
        {
            "date": pl.Date(),
            "symbol": pl.String(),
            "column": pl.String(),
            "stored": pl.Float64(),
            "came": pl.Float64(),
            **_STAMP,
        }
    ),
    "closed_gaps": pl.Schema({**_GAP, **_CLOSED}),
    "closed_holds": pl.Schema({**_HOLD, **_CLOSED}),
    "runs": pl.Schema(
        {
            "run_id": pl.String(),
            "command": pl.String(),
            "writer": pl.String(),
            "started": _AT,
            "finished": _AT,
            "status": pl.String(),
            "version": pl.Int64(),
            "start_date": pl.Date(),
            "end_date": pl.Date(),
            "symbols": pl.Int64(),
            **{name: pl.Int64() for name in _COUNTS},
            "rows": pl.Int64(),
            "rows_rejected": pl.Int64(),
            "corrections": pl.Int64(),
            "restated": pl.List(pl.String()),
            "message": pl.String(),
            "provider": pl.String(),
        }
    ),
}
#: Ledgers that a commit replaces as a whole.
STATES: Final[Mapping[str, pl.Schema]] = {
    "symbols": pl.Schema(
        {
            "symbol": pl.String(),
            "first_session": pl.Date(),
            "last_session": pl.Date(),
            "contiguous_through": pl.Date(),
            "asked_through": pl.Date(),
            "status": pl.String(),
            "outcome": pl.String(),
            "misses": pl.Int64(),
            "asked": pl.Date(),
            "due": pl.Date(),
            "adjustment": pl.String(),
            "provider": pl.String(),
            "asked_from": pl.Date(),
            "adjusted_through": pl.Date(),
            "names_events": pl.Boolean(),
            "split_adjusted": pl.Boolean(),
        }
    ),
    "open_gaps": pl.Schema(_GAP),
    "open_holds": pl.Schema(_HOLD),
    "actions": pl.Schema(
        {
            "symbol": pl.String(),
            "date": pl.Date(),
            "split": pl.Float64(),
            "dividend": pl.Float64(),
            "in_close": pl.Boolean(),
            "inferred": pl.Boolean(),
            "unexplained": pl.Boolean(),
            "note": pl.String(),
        }
    ),
    "aliases": pl.Schema(
        {
            "alias": pl.String(),
            "symbol": pl.String(),
            "kind": pl.String(),
            "first_session": pl.Date(),
            "last_session": pl.Date(),
            "reused_from": pl.Date(),
            "source": pl.String(),
            "reason": pl.String(),
            "by": pl.String(),
            **_STAMP,
        }
    ),
}
SCHEMAS: Final[Mapping[str, pl.Schema]] = {**LOGS, **STATES}
#: Columns that a later release added to a ledger: files of an earlier one lack them, and are read as null there, flags
#: as false.
ADDED_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "actions": ("unexplained", "note"),
    "open_holds": ("against", "kept_from", "through"),
    "closed_holds": ("against", "kept_from", "through"),
    "replaced_rows": ("reason",),
    "runs": ("not_covered", "not_published"),
    "symbols": ("asked_from", "adjusted_through", "names_events", "split_adjusted"),
}
#: Ledgers by the names that readers use, and what each consists of.
VIEWS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name,) for name in (*LOGS, *STATES) if name.partition("_")[0] not in ("open", "closed")},
    "gaps": ("closed_gaps", "open_gaps"),
    "holds": ("closed_holds", "open_holds"),
}


def empty_ledger(name: str) -> pl.DataFrame:
    """Zero rows of a ledger, with its columns."""
    return _empty(name).clone()


@cache
def _empty(name: str) -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMAS[name])
