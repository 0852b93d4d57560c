"""Are the ledgers what was committed? They describe the prices; damage to them never touches a price."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from historical_etl.durable import sha256_of
from historical_etl.models import LedgerFile, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import STATES
from historical_etl.store.ledgers import REBUILT
from historical_etl.store.verify.findings import StoreFinding, error, warning

__all__ = ["ledger_findings"]

_HISTORY = "run `historical-etl repair`, or restore the file from a backup; prices are not affected"


def ledger_findings(
    layout: Layout, current: SyncManifest | None, history: Mapping[int, SyncManifest], *, quick: bool
) -> Iterator[StoreFinding]:
    """What is wrong with the ledgers of the kept versions.

    Args:
        layout: where they lie.
        current: the current version.
        history: the versions that are kept.
        quick: sizes only; leaves out SHA-256 and reading.
    """
    versions = [*([current] if current else []), *history.values()]
    files = {file.path: (name, file) for m in versions for name, parts in m.ledgers.items() for file in parts}
    needed = {file.path for files in current.ledgers.values() for file in files} if current else set[str]()
    for name, file in files.values():
        fault = _fault(layout, file, quick=quick)
        if fault and file.path in needed:
            todo = REBUILT if name in STATES else _HISTORY
            yield error(f"ledger {name}", f"{layout.resolve(file.path).name}: {fault}", todo)
        elif fault:
            message = f"{layout.resolve(file.path).name}, which only older versions name: {fault}"
            yield warning(f"ledger {name}", message, "nothing: it goes with those versions; their prices are whole")


def _fault(layout: Layout, file: LedgerFile, *, quick: bool) -> str:
    path = layout.resolve(file.path)
    try:
        size = path.stat().st_size
        if size != file.size_bytes:
            return f"it has {size:,} bytes, {file.size_bytes:,} were committed"
        return "" if quick else _content_fault(path, file)
    except FileNotFoundError:
        return "it is missing"
    except OSError as failure:
        return f"it cannot be read: {failure.strerror}"


def _content_fault(path: Path, file: LedgerFile) -> str:
    if sha256_of(path) != file.checksum:
        return "its bytes are not those that were committed (SHA-256)"
    try:
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return "it is not readable as Parquet"
    return "" if rows == file.rows else f"it has {rows:,} rows, {file.rows:,} were committed"
