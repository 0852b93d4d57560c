"""`verify`: the store's own check, given what it cannot know: cursors, and what the DuckDB file shows."""

from datetime import date

import duckdb
from rich.progress import Progress
from rich.text import Text

from historical_etl.catalog.views import quote_text
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import system_clock
from historical_etl.errors import CatalogError
from historical_etl.etl.standing import rebuild_account
from historical_etl.models import SyncManifest
from historical_etl.sessions import get_calendar
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.verify import VerifyReport, verify_store

__all__ = ["shown_by_file", "verify"]

_DAMAGED = 1


def verify(terminal: Terminal, *, quick: bool) -> int:
    """Check the store and tell what was found; see the command's help."""
    layout = Layout(terminal.settings.data_dir)
    exchange = terminal.settings.exchange
    with Progress(console=terminal.err, transient=True, disable=terminal.quiet or not terminal.err.is_terminal) as bar:
        task = bar.add_task("Verifying", total=None)
        report = verify_store(
            ManifestManager(layout, clock=system_clock),
            quick=quick,
            rebuild_cursors=lambda manifest: _rebuild(layout, exchange, manifest),
            catalog_version=lambda: shown_by_file(layout),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if terminal.as_json:
        terminal.json({"data_dir": str(layout.root), "ok": report.ok, **report.model_dump(mode="json")})
    else:
        _tell(terminal, report, layout)
    return 0 if report.ok else _DAMAGED


def _rebuild(layout: Layout, exchange: str, manifest: SyncManifest) -> dict[str, date]:
    return rebuild_account(layout, manifest, get_calendar(exchange)).cursors()


def shown_by_file(layout: Layout) -> int:
    """The version that the views of the catalog file name."""
    try:
        with duckdb.connect(":memory:") as connection:
            # Attached, not opened: an open one in this process would be served from DuckDB's cache.
            connection.execute(f"ATTACH {quote_text(str(layout.catalog))} AS catalog (READ_ONLY)")
            row = connection.execute("SELECT max(version) FROM catalog.partitions").fetchone()
    except duckdb.Error as error:
        raise CatalogError(f"the file cannot be read: {str(error)[:200]}", where=layout.catalog) from error
    return int(row[0]) if row and row[0] is not None else 0


def _tell(terminal: Terminal, report: VerifyReport, layout: Layout) -> None:
    for finding in report.findings:
        style = "bold red" if finding.severity == "error" else "yellow"
        word = "damaged" if finding.severity == "error" else "note"
        terminal.out.print(Text.assemble((f"{word}: ", style), cleaned(str(finding))), soft_wrap=True)
        if finding.todo:
            terminal.out.print(Text(f"  next: {cleaned(finding.todo)}"), soft_wrap=True)
    errors = sum(finding.severity == "error" for finding in report.findings)
    if report.version is None and not errors:
        terminal.out.print(Text(f"Nothing was committed yet in {layout.root}; there is nothing to verify"))
        return
    checked = (
        f"version {report.version}: {report.years} year(s), {report.rows:,} rows; {report.objects} file(s) checked, "
        + ("by size and structure only" if report.mode == "quick" else "every byte and row")
    )
    verdict = Text.assemble((f"{errors} damaged", "bold red") if errors else ("All good", "bold green"))
    terminal.out.print(verdict + Text(f". {checked[0].upper()}{checked[1:]}"), soft_wrap=True)
