"""`repair`: what was repaired, what is lost, and what to fetch again."""

from typing import Final

from rich.text import Text

from historical_etl.cli import runs
from historical_etl.cli.ledgers import opened
from historical_etl.cli.terminal import Terminal, cleaned, some
from historical_etl.cli.verify import report_findings
from historical_etl.etl.maintenance import RepairReport, ToFetch

__all__ = ["repair"]

_DAMAGED: Final = 3
_SAMPLE: Final = 10


def repair(terminal: Terminal, *, refetch: bool) -> int:
    """Repair the store; see the command's help."""
    with terminal.busy("Repairing"):
        if refetch:
            report = runs.opened(terminal, "repair").repair(refetch=True)
        else:
            store = opened(terminal)  # without a source: its settings do not matter
            report = store.maintenance.repair()
    if terminal.as_json:
        terminal.json({"data_dir": str(terminal.settings.data_dir), "ok": report.ok, **report.model_dump(mode="json")})
    else:
        _report(terminal, report)
    return 0 if report.ok else _DAMAGED


def _report(terminal: Terminal, report: RepairReport) -> None:
    for word, style, lines in (("repaired", "bold green", report.mended), ("lost", "bold red", report.lost)):
        for line in lines:
            terminal.out.print(Text.assemble((f"{word}: ", style), cleaned(line)), soft_wrap=True)
    for year in report.to_fetch:
        terminal.out.print(Text.assemble(("to fetch: ", "bold red"), cleaned(_wanted(year))), soft_wrap=True)
        for step in _steps(terminal, year):
            terminal.out.print(Text(f"  next: {cleaned(step)}"), soft_wrap=True)
    report_findings(terminal, report.check)
    if report.ok:
        verdict = "Nothing was damaged" if not report.mended and not report.lost else "All is well again"
        terminal.out.print(Text(f"{verdict}; version {report.version} is current" if report.version else verdict))


def _wanted(year: ToFetch) -> str:
    return f"{year.year}, {len(year.symbols):,} symbol(s): {some(year.symbols, _SAMPLE)}"


def _steps(terminal: Terminal, year: ToFetch) -> list[str]:
    steps = [f"{terminal.program} repair --refetch asks the source for them (--json names all symbols)"]
    if year.older is not None:
        steps.append(f"or {terminal.program} rollback {year.older}: that version's file of {year.year} is sound")
    return steps
