"""The commands about the quarantine."""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import ANYWHERE, Context, terminal_of

__all__ = ["quarantine"]

Entry = Annotated[
    str, typer.Argument(metavar="ENTRY", help="Its name, or how only its name begins.", show_default=False)
]

quarantine = typer.Typer(
    help="Show what was quarantined, and why; put a file back, or delete entries for good.", epilog=ANYWHERE
)


@quarantine.callback(invoke_without_command=True)
def _quarantine(context: Context) -> int:
    """Show what was quarantined, and why; put a file back, or delete entries for good.

    Refused rows, files that were damaged or replaced, and what a repair put aside lie in quarantine
    until somebody purges them. Without a command, they are listed.
    """
    if context.invoked_subcommand is not None:
        return 0
    return _list(context)


@quarantine.command("list", epilog=ANYWHERE)
def _list(context: Context) -> int:
    """List what is in quarantine, oldest first; also what is damaged or does not belong there."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import quarantine as command
    return command.show_all(terminal)


@quarantine.command("show", epilog=ANYWHERE)
def _show(context: Context, entry: Entry) -> int:
    """Show one entry: why it is there, and whether it is intact; of refused rows some, and how many for each reason."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import quarantine as command
    return command.show(terminal, entry)


@quarantine.command("restore", epilog=ANYWHERE)
def _restore(
    context: Context,
    entry: Entry,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Where to. Default: where it was.", show_default=False),
    ] = None,
) -> int:
    """Put a file back where it was. The entry stays, and nothing is overwritten."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import quarantine as command
    return command.restore(terminal, entry, to)


@quarantine.command("purge", epilog=ANYWHERE)
def _purge(
    context: Context,
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
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, only tell what would be deleted.")] = False,
) -> int:
    """Delete entries for good. Nothing else ever deletes what was quarantined."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import quarantine as command
    return command.purge(terminal, entries or [], days, yes=yes)
