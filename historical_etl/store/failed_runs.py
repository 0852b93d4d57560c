"""Notes of runs that failed: kept beside the data until the next commit takes them into its ledger `runs`.

A run that fails makes no version, so it cannot be in one. Each note is a file of its own: runs
may end at the same time, and not all of them hold the lock.
"""

import logging
from contextlib import suppress
from datetime import date
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from historical_etl.durable import write_atomic
from historical_etl.models import UtcDatetime
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import parse_checksummed, render_checksummed
from historical_etl.store.layout import Layout

__all__ = ["RunRecord", "drop_notes", "note_run", "read_notes"]

_log = logging.getLogger(__name__)
#: More notes than this are of no use to anybody, and the oldest go.
_MOST_NOTES: Final = 200
#: What a column of the ledger can hold.
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class RunRecord(BaseModel):
    """One run: what it was asked for, and how it ended. The columns of the ledger `runs`."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    command: str = ""
    writer: str = ""
    started: UtcDatetime
    finished: UtcDatetime
    status: str
    version: _Count = 0
    start_date: date | None = None
    end_date: date | None = None
    symbols: _Count = 0
    ok: _Count = 0
    empty: _Count = 0
    not_found: _Count = 0
    not_covered: _Count = 0
    not_published: _Count = 0
    rate_limited: _Count = 0
    error: _Count = 0
    refused: _Count = 0
    held: _Count = 0
    rows: _Count = 0
    rows_rejected: _Count = 0
    corrections: _Count = 0
    restated: list[str] = Field(default_factory=list[str])
    message: str = ""
    provider: str = ""


def note_run(layout: Layout, record: RunRecord) -> None:
    """Keep a note; one that cannot be written is logged, since the run's own end matters more."""
    path = layout.run_notes / f"{record.finished:%Y%m%dT%H%M%S.%f}-{record.run_id[:8]}.json"
    try:
        write_atomic(path, render_checksummed(record))
        for old in sorted(layout.run_notes.glob("*.json"))[:-_MOST_NOTES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("The run could not be noted in %s: %s", layout.run_notes, error.strerror)


def read_notes(layout: Layout) -> list[RunRecord]:
    """The notes that no version holds yet, oldest first; one that cannot be read is passed over."""
    notes: list[RunRecord] = []
    for path in sorted(layout.run_notes.glob("*.json")):
        with suppress(OSError, ValueError):
            notes.append(parse_checksummed(read_regular(path), RunRecord))
    return notes


def drop_notes(layout: Layout, records: list[RunRecord]) -> None:
    """Remove notes that were committed."""
    taken = {record.run_id[:8] for record in records}
    for path in layout.run_notes.glob("*.json"):
        if path.stem.rpartition("-")[2] in taken:
            with suppress(OSError):
                path.unlink()
