"""What blocks the next update though no byte is damaged, each with the command that frees it."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from historical_etl.etl.commit import HOLD_OPEN, waivable, what_frees
from historical_etl.etl.reconcile import on_another_basis
from historical_etl.models import SyncManifest
from historical_etl.regular_files import read_regular
from historical_etl.schema import earliest
from historical_etl.store.failed_runs import RunRecord, read_notes
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_undamaged
from historical_etl.store.progress import parse_progress
from historical_etl.store.verify import StoreFinding, warning

__all__ = ["HOLDS", "LAST_RUN", "OtherBasis", "other_basis_of_all", "update_blockers"]

#: What the findings are called.
HOLDS: Final = "holds"
LAST_RUN: Final = "last run"
_NEXT: Final = " Next: "


def update_blockers(layout: Layout, manifest: SyncManifest | None) -> list[StoreFinding]:
    """Open holds, and the last run if it failed. A damaged ledger tells of none: that is found as damage."""
    found: list[StoreFinding] = []
    holds = read_undamaged(layout, manifest, "open_holds").filter(pl.col("status") == HOLD_OPEN).sort("symbol", "code")
    gaps = read_undamaged(layout, manifest, "open_gaps")
    for (code,), rows in holds.group_by("code", maintain_order=True):
        symbols = rows.get_column("symbol").unique(maintain_order=True).to_list()
        words = f"{len(symbols):,} symbol(s) are held as {code}; `historical-etl holds` shows why"
        bar = earliest(waivable(rows.filter(symbol=symbols[0]), gaps).get_column("session"))
        todo = what_frees(str(code), symbols[0], read_undamaged(layout, manifest, "symbols"), bar)
        found.append(warning(HOLDS, words, todo, symbols))
    if (run := _last_failure(layout)) is not None:
        what, _, todo = run.message.partition(_NEXT)
        message = f"{run.command} of {run.finished:%Y-%m-%d %H:%M} UTC failed, and none went through since: {what}"
        found.append(warning(LAST_RUN, message, todo or f"run `historical-etl {_again(run)}` again"))
    return found


@dataclass(frozen=True)
class OtherBasis:
    """The basis that all symbols are stored on while the source states another one, and what to do about it."""

    basis: str
    todo: str


def other_basis_of_all(layout: Layout, manifest: SyncManifest, now: str) -> OtherBasis | None:
    """Whether every update would be refused, since no stored symbol is on the basis that the source states."""
    symbols = read_undamaged(layout, manifest, "symbols").filter(pl.col("first_session").is_not_null())
    strange = on_another_basis(symbols, now)
    first = earliest(strange.get_column("first_session"))
    if first is None or strange.height < symbols.height:
        return None
    return OtherBasis(
        strange.item(0, "adjustment"),
        f"use the source that the store was filled from ({manifest.provider}), another data folder, or "
        f"`historical-etl backfill --rebuild --from {first.year}`",
    )


def _last_failure(layout: Layout) -> RunRecord | None:
    """The newest run that failed, unless one has gone through since: each that does saves its progress."""
    failed = [note for note in read_notes(layout) if note.status == "failed"]
    if not failed:
        return None
    try:
        saved = parse_progress(read_regular(layout.progress_file())).last_updated
    except (OSError, ValueError):
        return failed[-1]
    return failed[-1] if failed[-1].finished > saved else None


def _again(run: RunRecord) -> str:
    return "update" if run.command == "increment" else "backfill"
