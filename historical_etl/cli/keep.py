"""The commands that keep things safe: what was set aside, and stores that move; declared here, each imported late.

As in `app`, nothing here may import Polars, DuckDB or a calendar.
"""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.commands import ANYWHERE, Command
from historical_etl.cli.terminal import Terminal

__all__ = ["export", "import_", "quarantine"]

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
        int | None,
        typer.Option("--version", min=1, metavar="N", help="Default: the current one.", show_default=False),
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
