"""`doctor`: the checks of `etl.health`, for people or as one document."""

from typing import Final

from rich.table import Table
from rich.text import Text

from historical_etl.catalog.catalog import Catalog
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.errors import ConfigurationError
from historical_etl.etl.health import CheckStatus, Examination, examine, refused_settings
from historical_etl.store.layout import Layout

__all__ = ["doctor"]

_PROBLEM: Final = 1
_STYLES: Final = {CheckStatus.OK: "green", CheckStatus.WARNING: "yellow", CheckStatus.PROBLEM: "bold red"}


def doctor(terminal: Terminal, *, offline: bool) -> int:
    """Check everything and tell what was found; see the command's help."""
    with terminal.busy("Looking at everything"):
        found = _examined(terminal, offline=offline)
    if terminal.as_json:
        checks = [
            {"check": c.name, "verdict": c.verdict, "what": c.what, "next": c.todo or None, "facts": dict(c.facts)}
            for c in found.checks
        ]
        terminal.json({"ok": found.ok, "checks": checks})
    else:
        _report(terminal, found)
    return 0 if found.ok else _PROBLEM


def _examined(terminal: Terminal, *, offline: bool) -> Examination:
    try:
        settings = terminal.settings
    except ConfigurationError as error:
        return refused_settings(error)
    layout = Layout(settings.data_dir)
    named = {"HISTORICAL_ETL_DATA_DIR": "--data-dir"} if terminal.data_dir else {}
    return examine(settings, offline=offline, named=named, catalog_version=Catalog(layout).version_in_file)


def _report(terminal: Terminal, found: Examination) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in found.checks:
        what = Text(cleaned(check.what))
        if check.todo:
            what += Text(f"\nnext: {cleaned(check.todo)}", style=_STYLES[check.verdict])
        table.add_row(Text(check.verdict.value, style=_STYLES[check.verdict]), check.name, what)
    terminal.out.print(table)
    counts = {verdict: sum(check.verdict is verdict for check in found.checks) for verdict in CheckStatus}
    counted = f"{counts[CheckStatus.PROBLEM]} problem(s), {counts[CheckStatus.WARNING]} warning(s)"
    terminal.say(counted if any(check.verdict is not CheckStatus.OK for check in found.checks) else "All is well")
