"""`export` and `import`: one version out of a store, and into an empty one."""

from pathlib import Path

from rich.text import Text

from historical_etl.cli.ledgers import opened
from historical_etl.cli.terminal import PROGRAM, Terminal, cleaned, size_text
from historical_etl.etl.maintenance import export_store, import_store
from historical_etl.models import SyncManifest

__all__ = ["export", "import_"]


def export(terminal: Terminal, target: Path, version: str | None) -> int:
    """Write one version as a store of its own; see the command's help."""
    store = opened(terminal)
    with terminal.busy("Exporting"), store.context.lease(version) as manifest:
        written = export_store(store.context, target, manifest.version)
    if terminal.as_json:
        terminal.json({"exported": str(written), **_document(manifest)})
        return 0
    terminal.out.print(
        Text(cleaned(f"Exported {_described(manifest)} to {written}; every byte was read back")), soft_wrap=True
    )
    how = f"--data-dir {written} status" if written.is_dir() else f"--data-dir NEW_FOLDER import {written}"
    terminal.say(f"next: {PROGRAM} {how}")
    return 0


def import_(terminal: Terminal, source: Path) -> int:
    """Take an exported version into an empty store; see the command's help."""
    store = opened(terminal)
    with terminal.busy("Importing"):
        manifest = import_store(store.state, source)
    if terminal.as_json:
        terminal.json({"data_dir": str(store.context.layout.root), **_document(manifest)})
        return 0
    terminal.out.print(
        Text(cleaned(f"Imported {_described(manifest)} into {store.context.layout.root}; every byte was checked")),
        soft_wrap=True,
    )
    terminal.say(f"next: {terminal.program} update, or {terminal.program} status")
    return 0


def _described(manifest: SyncManifest) -> str:
    size = size_text(sum(partition.size_bytes for partition in manifest.partitions))
    span = f", {manifest.start_date} to {manifest.end_date}" if manifest.partitions else ""
    return f"version {manifest.version} ({manifest.row_count:,} rows{span}, {size})"


def _document(manifest: SyncManifest) -> dict[str, object]:
    return {
        "dataset": manifest.dataset,
        "version": manifest.version,
        "checksum": manifest.checksum,
        "rows": manifest.row_count,
        "start_date": manifest.start_date.isoformat() if manifest.start_date else None,
        "end_date": manifest.end_date.isoformat() if manifest.end_date else None,
        "bytes": sum(partition.size_bytes for partition in manifest.partitions),
    }
