"""`verify`: the store's own check, for people or as one document."""

from rich.progress import Progress
from rich.text import Text

from historical_etl.cli.ledgers import opened
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.etl.maintenance import NO_DAMAGE
from historical_etl.store.verify import VerifyReport

__all__ = ["report_findings", "verify"]

_DAMAGED = 1


def verify(terminal: Terminal, *, quick: bool) -> int:
    """Check the store and tell what was found; see the command's help."""
    store = opened(terminal)
    with Progress(console=terminal.err, transient=True, disable=terminal.quiet or not terminal.err.is_terminal) as bar:
        task = bar.add_task("Verifying", total=None)
        report = store.maintenance.verify(
            quick=quick, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if terminal.as_json:
        terminal.json({"data_dir": str(store.context.layout.root), "ok": report.ok, **report.model_dump(mode="json")})
    else:
        _report(terminal, report)
    return 0 if report.ok else _DAMAGED


def report_findings(terminal: Terminal, report: VerifyReport) -> None:
    """What was found, each with the next step."""
    for finding in report.findings:
        style = "bold red" if finding.severity == "error" else "yellow"
        word = "damaged" if finding.severity == "error" else "note"
        terminal.out.print(Text.assemble((f"{word}: ", style), cleaned(str(finding))), soft_wrap=True)
        if finding.todo:
            terminal.out.print(Text(f"  next: {cleaned(finding.todo)}"), soft_wrap=True)


def _report(terminal: Terminal, report: VerifyReport) -> None:
    report_findings(terminal, report)
    errors = sum(finding.severity == "error" for finding in report.findings)
    checked = (
        f"version {report.version}: {report.years} year(s), {report.rows:,} rows; {report.objects} file(s) checked, "
        + ("by sizes and links only" if report.mode == "quick" else "every byte and row")
    )
    has_notes = any(finding.field in NO_DAMAGE for finding in report.findings)
    fine = ("Undamaged, see the notes", "bold yellow") if has_notes else ("All good", "bold green")
    verdict = Text.assemble((f"{errors} damaged", "bold red") if errors else fine)
    terminal.out.print(verdict + Text(f". {checked[0].upper()}{checked[1:]}"), soft_wrap=True)
