"""The commands that keep things safe: what was set aside, and stores that move; declared here, each imported late.

As in `app`, nothing here may import Polars, DuckDB or a calendar.
"""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.commands import ANYWHERE, Command, Symbols
from historical_etl.cli.terminal import Terminal

__all__ = ["adopt", "export", "import_", "quarantine"]

Entry = Annotated[
    str, typer.Argument(metavar="ENTRY", help="Its name, or how only its name begins.", show_default=False)
]

quarantine = typer.Typer(
    help="Show what was set aside, and why; put a file back, or delete entries for good.", epilog=ANYWHERE
)


@quarantine.callback(invoke_without_command=True)
def _quarantine() -> Command:
    """Show what was set aside, and why; put a file back, or delete entries for good.

    Refused rows, files that were damaged or replaced, and what a repair put aside lie in quarantine
    until somebody purges them. Without a command, they are listed.
    """
    return _list()


@quarantine.command("list", epilog=ANYWHERE)
def _list() -> Command:
    """List what is in quarantine, oldest first; also what is damaged or does not belong there."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import quarantine as command
        return command.show_all(terminal)

    return run


@quarantine.command("show", epilog=ANYWHERE)
def _show(entry: Entry) -> Command:
    """Show one entry: why it is there, and whether it is intact; of refused rows some, and how many for each reason."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import quarantine as command
        return command.show(terminal, entry)

    return run


@quarantine.command("restore", epilog=ANYWHERE)
def _restore(
    entry: Entry,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Where to. Default: where it came from.", show_default=False),
    ] = None,
) -> Command:
    """Put a file back where it came from. The entry stays, and nothing is overwritten."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import quarantine as command
        return command.restore(terminal, entry, to)

    return run


@quarantine.command("purge", epilog=ANYWHERE)
def _purge(
    entries: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENTRY]...", help="Names of entries, or how they begin.", show_default=False),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(
            "--older-than", min=0, metavar="DAYS", help="All entries older than that; 0 takes all.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, only tell what would be deleted.")] = False,  # noqa: FBT002 - Typer's options are parameters
) -> Command:
    """Delete entries for good. Nothing else ever deletes what was set aside."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import quarantine as command
        return command.purge(terminal, entries or [], days, yes=yes)

    return run


def export(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="A new or empty folder, or a new file ending in .tar.", show_default=False
        ),
    ],
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="N",
            help="A number or the name of a pin. Default: the current one.",
            show_default=False,
        ),
    ] = None,
) -> Command:
    """Write one version as a whole store of its own, verified: a backup, or something to hand on.

    The folder can be used at once as a data folder; a .tar unpacked, or with import. Version number
    and checksum stay the same.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import archive as command
        return command.export(terminal, target, version)

    return run


def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="What export wrote, or the data folder of a store.", show_default=False),
    ],
) -> Command:
    """Take an exported version into a store that has no data yet. All of it is checked before any of it counts."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import archive as command
        return command.import_(terminal, source)

    return run


def adopt(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A folder, a file, or a glob in quotes: CSV or Parquet.", show_default=False
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="stooq, sharadar, crsp, or generic.", show_default=False),
    ] = None,
    adjustment: Annotated[
        str | None,
        typer.Option("--adjustment", metavar="TEXT", help="The price basis, in words.", show_default=False),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="date=Date,...", help="Ours=theirs, where names differ.", show_default=False),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator", metavar="CHAR", help="Between fields of CSV; tab is spelled out.", show_default=False
        ),
    ] = None,
    symbols: Symbols = None,
    rehearse: Annotated[  # noqa: FBT002 - Typer's options are parameters
        bool, typer.Option("--dry-run", help="Judge the rows, and write nothing.")
    ] = False,
) -> Command:
    """Take prices that you have in files into the store, through the same checks as any other source.

    Every row is accounted for: taken, refused and kept in quarantine, or outside of what can be
    stored. What is stored stays; rows must be on its price basis. Defaults: HISTORICAL_ETL_FILES_...
    """
    named = {
        "path": path,
        "layout": layout,
        "adjustment": adjustment,
        "columns": columns,
        "separator": separator,
    }
    given = {name: value for name, value in named.items() if value is not None}

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import adopt as command
        return command.adopt(terminal, given, symbols, rehearse=rehearse)

    return run
