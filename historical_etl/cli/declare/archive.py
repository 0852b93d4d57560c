"""The commands that take a version out of a store, and into one."""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import Context, terminal_of

__all__ = ["export", "import_"]


def export(
    context: Context,
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
) -> int:
    """Write one version as a whole store of its own, verified: a backup, or something to hand on.

    The folder can be used at once as a data folder; a .tar unpacked, or with import. Version number
    and checksum stay the same.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import archive as command
    return command.export(terminal, target, version)


def import_(
    context: Context,
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="What export wrote, or the data folder of a store.", show_default=False),
    ],
) -> int:
    """Take an exported version into a store that has no data yet. All of it is checked before any of it counts."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import archive as command
    return command.import_(terminal, source)
