"""The commands that look for what is wrong: with the files, the source, the machine."""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import Context, terminal_of

__all__ = ["compare", "doctor", "repair", "verify"]


def verify(
    context: Context,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes and links only: no file of data is opened.")] = False,
) -> int:
    """Check that what lies on disk is what was committed. Writes nothing; exits 1 if something is damaged."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import verify as command
    return command.verify(terminal, quick=quick)


def repair(
    context: Context,
    refetch: Annotated[bool, typer.Option("--refetch", help="Fetch the years that cannot be repaired.")] = False,
) -> int:
    """Repair what can be repaired with certainty, and say which years and symbols to fetch again.

    Files are restored from equal bytes, links are made again, progress and the catalog are rebuilt.
    Nothing is deleted: what is replaced goes to quarantine. Exits 3 if something is still damaged.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import repair as command
    return command.repair(terminal, refetch=refetch)


def compare(
    context: Context,
    other: Annotated[str, typer.Option("--with", metavar="SOURCE", help="The other source.", show_default=False)],
    symbols: Annotated[
        str, typer.Option("--symbols", metavar="AAPL,MSFT", help="Symbols, separated by commas.", show_default=False)
    ],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First session.", show_default=False)],
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="Last session. Default: the last one stored.", show_default=False),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Compare what the configured source gives now, not what is stored.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw the disagreements by symbol.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.parquet", help="Write both sides, row by row.", show_default=False
        ),
    ] = None,
) -> int:
    """Hold what is stored against what another source gives: how much agrees, and what does not.

    Prices, their returns from one session to the next, and volumes are compared on the sessions that
    both have. Nothing is merged, and nothing is written to the store.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import compare as command
    return command.compare(terminal, other, symbols, first, last, live=live, plot=plot, output=output)


def doctor(
    context: Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: leave the request to the source out.")
    ] = False,
) -> int:
    """Check all that the store depends on: settings, keys, the source and its limits, clock, disk, versions.

    Asks the source for one symbol on one session. Keys are never shown. Exits 1 if there is a problem.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import doctor as command
    return command.doctor(terminal, offline=offline)
